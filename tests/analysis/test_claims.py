"""Verdicts on the three claims follow the intervals of their tests."""

import math
from dataclasses import replace

import pytest
from synthetic_predictions import gains, study, tables

from isogloss.analysis.claims import ClaimVerdict, claim_verdicts
from isogloss.analysis.comparison import Comparison, compare
from isogloss.types import Interval


@pytest.fixture(scope="module")
def several() -> Comparison:
    """Five models in four conditions, so that slopes are over models too."""
    return compare(study(5, seeds=1, n=40), source="arb_Arab")


def test_claims_without_the_runs_or_passages_they_need_are_not_tested():
    predictions = tables(gains(0.1, 0.09), n=40)
    verdicts = claim_verdicts(compare(predictions, source="arb_Arab"))
    assert (verdicts.agreement, verdicts.size) == (ClaimVerdict.NOT_TESTED, None)
    assert verdicts.by_claim["C3"] == "not tested"
    one = {run: rows.assign(passage_id="one") for run, rows in predictions.items()}
    verdicts = claim_verdicts(compare(one, source="arb_Arab"))
    assert verdicts.by_claim["C2"] == ClaimVerdict.NOT_TESTED == "not tested"


@pytest.mark.parametrize(
    ("interval_95", "interval_90", "estimate", "verdict"),
    [
        ((-0.02, 0.02), (-0.01, 0.01), 0.0, ClaimVerdict.EQUALLY_LARGE),
        ((0.001, 0.02), (0.002, 0.01), 0.01, ClaimVerdict.EQUALLY_LARGE),
        ((-0.05, 0.05), (-0.04, 0.04), 0.0, ClaimVerdict.EQUALITY_INCONCLUSIVE),
        ((0.01, 0.09), (0.02, 0.08), 0.05, ClaimVerdict.TUNING_GAINS_MORE),
        ((-0.09, -0.01), (-0.08, -0.02), -0.05, ClaimVerdict.COT_GAINS_MORE),
    ],
)
def test_equality_is_tested_against_the_margin_first(
    several, interval_95, interval_90, estimate, verdict
):
    *others, primary = several.gain_agreements
    difference = primary.difference._replace(
        interval_95=Interval(*interval_95), interval_90=Interval(*interval_90), estimate=estimate
    )
    changed = replace(several, gain_agreements=(*others, replace(primary, difference=difference)))
    assert claim_verdicts(changed).size == verdict


@pytest.mark.parametrize(
    ("interval", "baseline", "agreement"),
    [
        ((0.1, 0.5), ClaimVerdict.WEAK_GAIN_LESS, ClaimVerdict.GAINS_AGREE),
        ((-0.5, -0.1), ClaimVerdict.WEAK_GAIN_MORE, ClaimVerdict.GAINS_DISAGREE),
        ((-0.5, 0.1), ClaimVerdict.INCONCLUSIVE, ClaimVerdict.INCONCLUSIVE),
        ((-math.inf, math.inf), ClaimVerdict.INCONCLUSIVE, ClaimVerdict.INCONCLUSIVE),
        ((-math.inf, -0.1), ClaimVerdict.WEAK_GAIN_MORE, ClaimVerdict.GAINS_DISAGREE),
    ],
)
def test_a_slope_has_a_verdict_where_its_interval_excludes_zero(
    several, interval, baseline, agreement
):
    slope, both = several.baseline_slopes[-1], several.gain_agreements[-1]
    changed = replace(
        several,
        baseline_slopes=(replace(slope, test=slope.test._replace(interval=Interval(*interval))),),
        gain_agreements=(
            replace(
                both,
                slope=replace(
                    both.slope, test=both.slope.test._replace(interval=Interval(*interval))
                ),
            ),
        ),
    )
    verdicts = claim_verdicts(changed)
    assert (verdicts.baseline, verdicts.agreement) == (baseline, agreement)
