"""The relatedness contrast: its invariances, its verdicts, what it rejects."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_gains import GAIN, RELATED, labelled_gains, quick

from isogloss.errors import ComparisonError, ConfigError
from isogloss.stats.contrasts import relatedness_contrast
from isogloss.types import Verdict


@quick
@given(labelled_gains())
def test_swapping_the_groups_flips_only_the_sign(data):
    gain, related = data
    ours = relatedness_contrast(gain, related, 0.03)
    swapped = relatedness_contrast(gain, ~related, 0.03)
    assert swapped.estimate == pytest.approx(-ours.estimate)
    assert swapped.permutation.p == ours.permutation.p
    assert swapped.welch.p == pytest.approx(ours.welch.p)
    assert swapped.permutation.interval_95.low == pytest.approx(-ours.permutation.interval_95.high)


@quick
@given(labelled_gains(), st.integers(-400, 400))
def test_a_gain_in_every_language_does_not_change_the_contrast(data, k):
    gain, related = data
    ours = relatedness_contrast(gain, related, None)
    shifted = relatedness_contrast(gain + k / 400, related, None)
    assert shifted.estimate == pytest.approx(ours.estimate, abs=1e-9)
    assert shifted.permutation.p == ours.permutation.p
    assert shifted.permutation.interval_90 == pytest.approx(ours.permutation.interval_90, abs=1e-9)
    assert shifted.welch.se == pytest.approx(ours.welch.se, abs=1e-9)


@quick
@given(labelled_gains(), st.sampled_from([0.01, 0.5, 3.0, 100.0]))
def test_the_contrast_scales_with_its_unit(data, scale):
    gain, related = data
    ours = relatedness_contrast(gain, related, 0.03)
    scaled = relatedness_contrast(gain * scale, related, 0.03 * scale)
    assert scaled.estimate == pytest.approx(ours.estimate * scale)
    assert scaled.permutation.p == ours.permutation.p
    assert scaled.permutation.interval_95.high == pytest.approx(
        ours.permutation.interval_95.high * scale
    )
    assert scaled.minimum_detectable_effect == pytest.approx(
        ours.minimum_detectable_effect * scale, nan_ok=True
    )


@quick
@given(labelled_gains(), st.randoms(use_true_random=False))
def test_the_order_of_languages_does_not_matter(data, random):
    gain, related = data
    order = list(range(len(gain)))
    random.shuffle(order)
    ours = relatedness_contrast(gain, related, 0.03)
    moved = relatedness_contrast(gain[order], related[order], 0.03)
    assert moved.estimate == pytest.approx(ours.estimate)
    assert moved.permutation.p == ours.permutation.p
    assert moved.permutation.interval_95.low == pytest.approx(ours.permutation.interval_95.low)


@pytest.mark.parametrize(
    ("related", "control", "verdict"),
    [
        ([0.20, 0.22, 0.21, 0.23], 0.05, Verdict.RELATED_GAIN_MORE),
        ([-0.20, -0.22, -0.21, -0.23], 0.05, Verdict.RELATED_GAIN_LESS),
        ([0.051, 0.049, 0.050, 0.052], 0.05, Verdict.EQUIVALENT),
        ([0.150, -0.10, 0.120, -0.05], 0.05, Verdict.INCONCLUSIVE),
    ],
)
def test_each_verdict_is_reached(related, control, verdict):
    spread = np.linspace(-0.004, 0.004, 10)
    gain = np.concatenate([related, control + spread])
    labels = np.array([True] * 4 + [False] * 10)
    assert relatedness_contrast(gain, labels, 0.03).verdict == verdict


def test_a_difference_within_the_margin_is_equivalent_even_when_it_differs_from_zero():
    gain = np.concatenate([[0.060, 0.061, 0.062, 0.063], np.linspace(0.050, 0.054, 10)])
    labels = np.array([True] * 4 + [False] * 10)
    contrast = relatedness_contrast(gain, labels, 0.03)
    assert contrast.permutation.p < 0.05
    assert contrast.verdict == Verdict.EQUIVALENT
    assert relatedness_contrast(gain, labels, None).verdict == Verdict.RELATED_GAIN_MORE


def test_equivalence_needs_the_90_percent_interval_within_the_margin():
    test = relatedness_contrast(GAIN, RELATED, None).permutation
    furthest_90, furthest_95 = (
        max(map(abs, interval)) for interval in (test.interval_90, test.interval_95)
    )
    assert furthest_90 < furthest_95
    for margin, equivalent in ((furthest_90 * 1.001, True), (furthest_90 * 0.999, False)):
        verdict = relatedness_contrast(GAIN, RELATED, margin).verdict
        assert (verdict == Verdict.EQUIVALENT) == equivalent


def test_with_too_few_relabellings_the_interval_is_unbounded():
    contrast = relatedness_contrast([0.9, 0.8, 0.1, 0.0, 0.05], [True, True, *[False] * 3], 0.03)
    assert contrast.permutation.interval_95 == (-math.inf, math.inf)
    assert contrast.permutation.p == 2 / 10
    assert contrast.verdict == Verdict.INCONCLUSIVE


@pytest.mark.parametrize("value", [0.0, 0.1, -0.3])
def test_equal_gains_are_equivalent_and_have_no_minimum_detectable_effect(value):
    contrast = relatedness_contrast([value] * 12, RELATED, 0.03)
    assert contrast.estimate == pytest.approx(0)
    assert contrast.permutation.p == 1
    assert contrast.permutation.interval_95 == (0, 0)
    assert (contrast.welch.se, contrast.welch.p, contrast.tost_p) == (0, 1, 0)
    assert math.isnan(contrast.minimum_detectable_effect)
    assert contrast.verdict == Verdict.EQUIVALENT


@pytest.mark.parametrize("n_related", [0, 1, 11, 12])
def test_a_group_with_fewer_than_two_languages_raises(n_related):
    with pytest.raises(ComparisonError, match=f"got {n_related} related and {12 - n_related}"):
        relatedness_contrast(GAIN, np.arange(12) < n_related, 0.03)


def test_a_gain_that_is_not_finite_raises():
    with pytest.raises(ComparisonError, match="must be finite, but got nan"):
        relatedness_contrast([math.nan, *GAIN[1:]], RELATED, 0.03)


@pytest.mark.parametrize("margin", [0.0, -0.03, math.inf, math.nan])
def test_a_margin_that_is_not_positive_raises(margin):
    with pytest.raises(ConfigError, match="`margin` must be positive but got"):
        relatedness_contrast(GAIN, RELATED, margin)
