"""A margin that is a percentage of the mean gain."""

import numpy as np
import pytest
from synthetic_predictions import (
    BASE,
    CONTROL,
    CROSSED_TARGETS,
    RELATED,
    TUNED,
    crossed_tables,
    gains,
    pair,
    tables,
    without_gain,
)

from isogloss.analysis.claims import ClaimVerdict, claim_verdicts
from isogloss.analysis.comparison import compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.analysis.relative_margin import NO_MARGIN
from isogloss.errors import ConfigError
from isogloss.report.evidence import relative_margin_text
from isogloss.report.verdict import summary
from isogloss.types import Verdict


def test_the_margin_is_a_percentage_of_the_mean_gain_of_the_languages_in_the_contrast():
    # The source and its variety gain far more, and are in no contrast.
    gain = {"arb_Arab": 0.5, "ary_Arab": 0.45, **gains(0.2, 0.3)}
    before, after = pair(gain)
    comparison = compare({BASE: before, TUNED: after}, source="arb_Arab", margin="20%")
    mean = after["correct"][after["language"].isin([*RELATED, *CONTROL])].mean() - 0.4
    assert comparison.margin == comparison.contrast.margin == pytest.approx(0.2 * mean)
    assert comparison.relative_margin.gain.estimate == pytest.approx(mean)
    assert comparison.relative_margin.gain.n == 16
    assert comparison_metrics(comparison)["contrast/margin_share"] == 0.2


def test_the_margin_does_not_depend_on_what_is_related():
    runs = tables(gains(0.1, 0.3))
    margins = {
        compare(runs, source="arb_Arab", branch=branch, margin="20%").margin
        for branch in ("Semitic", "Romance")
    }
    assert len(margins) == 1


def test_with_several_sources_the_gain_is_the_mean_over_all_of_them():
    runs = crossed_tables(models=2, targets=(*CROSSED_TARGETS, "tur_Latn"), n=40)
    comparison = compare(runs, source="tur_Latn", margin="10%")
    cells = [cell.gain for cell in comparison.crossed.cells]
    assert comparison.crossed.overall.margin == pytest.approx(0.1 * np.mean(cells))
    assert relative_margin_text(comparison) == (
        f"10% of the mean gain = {10 * np.mean(cells):.1f} points (+{100 * np.mean(cells):.1f} "
        "points over 12 languages and 4 sources, whatever is related)"
    )
    assert [line.text for line in summary(comparison).details if line.label == "Margin"]


def test_a_source_that_one_model_lacks_counts_with_the_others():
    runs = crossed_tables(models=2, n=40)
    lacking = {
        run: rows
        for run, rows in runs.items()
        if (run.model, run.source) != ("model-1", "swh_Latn")
    }
    comparison = compare(lacking, source="arb_Arab", margin="20%")
    assert len(comparison.relative_margin.sources) == 4
    accuracy = {run: rows["correct"].mean() for run, rows in lacking.items()}
    base = {run.model: value for run, value in accuracy.items() if not run.source}
    by_source = {
        source: np.mean(
            [value - base[run.model] for run, value in accuracy.items() if run.source == source]
        )
        for source in comparison.relative_margin.sources
    }
    assert comparison.relative_margin.gain.estimate == pytest.approx(
        np.mean(list(by_source.values()))
    )


def test_equal_gains_are_equal_to_within_a_fifth_of_them():
    comparison = compare(tables(gains(0.3, 0.3)), source="arb_Arab", margin="20%")
    assert claim_verdicts(comparison).kinship == Verdict.EQUIVALENT
    assert "Margin: 20% of the mean gain = 6.0 points" in "\n".join(
        f"{line.label}: {line.text}" for line in summary(comparison).details
    )


def test_where_the_mean_gain_does_not_differ_from_zero_the_margin_is_relative_to_nothing():
    comparison = compare(without_gain(), source="arb_Arab", margin="50%")
    assert comparison.margin == NO_MARGIN
    assert claim_verdicts(comparison).kinship == ClaimVerdict.NOTHING_TO_COMPARE
    assert "50% of the mean gain, which does not differ from zero (" in relative_margin_text(
        comparison
    )
    assert "nothing can be called equal" in relative_margin_text(comparison)


def test_no_gain_at_all_leaves_no_margin():
    comparison = compare(tables(gains(0.0, 0.0, spread=0.0)), source="arb_Arab", margin="20%")
    assert comparison.margin == NO_MARGIN
    assert claim_verdicts(comparison).kinship == ClaimVerdict.NOTHING_TO_COMPARE


@pytest.mark.parametrize("margin", ["60%", "0.2", "much"])
def test_a_margin_that_is_neither_fraction_nor_percentage_is_refused(margin):
    with pytest.raises(ConfigError, match=f"`margin`.*but got '{margin}'"):
        compare(tables(gains(0.1, 0.1), n=20), source="arb_Arab", margin=margin)


def test_a_fraction_has_no_relative_margin():
    comparison = compare(tables(gains(0.1, 0.1), n=20), source="arb_Arab", margin=0.05)
    assert comparison.relative_margin is None
    assert relative_margin_text(comparison) == ""
