"""The reason why nothing is compared has the numbers of the gain that decided."""

import math
from dataclasses import replace

import pytest
from synthetic_predictions import crossed_tables, gains, tables

from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.learning import Learning
from isogloss.formatting import interval_points
from isogloss.report.claims import claim_texts
from isogloss.report.next_steps import next_steps
from isogloss.report.plan_command import plan_command
from isogloss.report.verdict import summary
from isogloss.stats.two_way import TwoWayMean
from isogloss.types import Interval, Units, Verdict


def learnt(label: str, gain: float, before: float = 0.5, se: float = 0.01) -> Learning:
    """What was learnt, with normal distributions."""

    def mean(estimate: float) -> TwoWayMean:
        ends = [Interval(estimate - half * se, estimate + half * se) for half in (1.96, 1.645)]
        p = math.erfc(abs(estimate) / se / math.sqrt(2))
        return TwoWayMean(estimate, se, 1e6, p, *ends, 16)

    return Learning(label, mean(before), mean(before + gain), mean(gain))


@pytest.fixture(scope="module")
def crossed() -> Comparison:
    """Sources of four branches, with gains that are called equal."""
    comparison = compare(crossed_tables(), source="arb_Arab")
    overall = replace(comparison.crossed.overall, verdict=Verdict.EQUIVALENT)
    return replace(comparison, crossed=replace(comparison.crossed, overall=overall))


def test_the_interval_of_the_source_that_decided_is_adjusted_for_the_number_of_sources(crossed):
    own = [learnt(name, gain) for name, gain in zip("abcd", (0.01, 0.022, 0.0, 0.0), strict=True)]
    assert own[1].gain.interval_95.excludes(0.0)  # p = .028 alone
    comparison = replace(crossed, source_learning=tuple(own))
    assert summary(comparison).headline == (
        "none of 4 sources has a gain to compare: from b, the mean gain of +2.2 points does not "
        "differ from zero (95% interval [−0.3, +4.7], adjusted for 4 sources)."
    )
    at_chance = tuple(learnt(each.label, 0.0, before=0.25) for each in own)
    assert summary(replace(crossed, source_learning=at_chance)).headline == (
        "none of 4 sources has a gain to compare: from a, accuracy is not shown to be above chance "
        "(25.0%), neither before (25.0%) nor after (25.0%)."
    )


def test_too_few_items_are_not_taken_for_a_lack_of_skill():
    comparison = compare(tables(gains(0.0, 0.0)), source="arb_Arab")
    few = replace(comparison, learning=learnt("m", -0.05, before=0.6, se=0.2))
    assert claim_verdicts(few).kinship == "nothing to compare"
    assert summary(few).headline == (
        "too few items to tell 60.0% before and 55.0% after from chance (25.0%)."
    )
    assert next_steps(few) == (
        "What would settle it: more items per language (here 200), or more languages, to tell "
        "accuracy from chance."
    )
    assert plan_command(few) == ""
    same = replace(comparison, learning=learnt("m", 0.0, before=0.6, se=0.2))
    assert summary(same).headline == "too few items to tell 60.0% from chance (25.0%)."
    near = replace(comparison, learning=learnt("m", 0.01, before=0.26, se=0.2))
    assert summary(near).headline.startswith("accuracy is not shown to be above chance (25.0%)")


def test_equal_gains_of_sources_that_taught_nothing_are_not_supported(crossed):
    own = tuple(learnt(name, 0.2 * (name == "b")) for name in "abcd")
    comparison = replace(crossed, source_learning=own)
    kinship = claim_texts(comparison)[0]
    assert kinship.verdict == "nothing to compare"
    assert kinship.conclusion == (
        "Nothing to compare: something was learnt from only 1 of the 4 sources that have "
        "relatives, and equal gains from sources that taught nothing say nothing."
    )
    assert next_steps(comparison) == (
        "What would settle it: a gain from sources of at least 4 branches that have relatives "
        "among the targets, from more training, items or seeds."
    )


def test_a_large_margin_names_the_largest_gain_that_it_is_large_beside(crossed):
    own = [learnt(name, gain) for name, gain in zip("abcd", (0.05, 0.2, 0.04, 0.2), strict=True)]
    assert summary(replace(crossed, source_learning=tuple(own))).headline == (
        "the margin of 3.0 points is not small beside the mean gains from 2 of 4 sources (the "
        "largest +5.0 points, from a), so that equal to within it would say little."
    )


def test_without_a_gain_of_any_model_c2_says_so_of_the_models(crossed):
    over_models = replace(crossed.baseline_slopes[-1], units=Units.MODELS)
    own = tuple(learnt(f"m{place}", 0.015 + 0.001 * place) for place in range(5))
    comparison = replace(crossed, model_learning=own, baseline_slopes=(over_models,))
    assert claim_verdicts(comparison).by_claim["C2"] == "nothing to compare"
    assert crossed.learning.obstacle(crossed.chance, crossed.margin) is None  # of their mean
    assert claim_texts(comparison)[1].conclusion == (
        "Nothing to compare: none of 5 models has a gain to compare: in m4, the mean gain of +1.9 "
        "points does not differ from zero (95% interval [−0.7, +4.5], adjusted for 5 models)."
    )


def test_a_single_model_needs_no_adjustment():
    comparison = compare(tables(gains(0.0, 0.0)), source="arb_Arab")
    interval = interval_points(comparison.learning.gain.interval_95)
    assert claim_texts(comparison)[1].conclusion == (
        f"Nothing to compare: the mean gain of 0.0 points does not differ from zero (95% interval "
        f"{interval})."
    )
