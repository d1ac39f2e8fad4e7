"""The numbers of a comparison as DataFrames and as metrics."""

import math
import re

import pytest
from synthetic_predictions import CONTROL, RELATED, compare_pair, pair, study

from isogloss.analysis.comparison import compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.analysis.estimates import EstimateKind, Regression, ValueUnit, estimates
from isogloss.analysis.frames import contrasts_frame, gains_frame
from isogloss.types import Condition, Measure


def test_gains_have_one_row_per_language(runs):
    rows = gains_frame(compare_pair(runs))
    assert len(rows) == 18
    columns = {"model", "condition", "code", "group", "before", "after", "gain", "low", "high"}
    assert columns <= set(rows.columns)


def test_gains_of_several_models_have_rows_per_condition_and_model_and_for_the_mean():
    rows = gains_frame(compare(study(2, seeds=1, n=20), source="arb_Arab"))
    assert len(rows) == 3 * 3 * 18
    assert set(rows["model"]) == {"model-0", "model-1", "mean of 2 models"}
    assert set(rows["condition"]) == {"tuned", "base+cot", "tuned+cot"}


def test_the_primary_contrast_is_the_first_estimate(six_models):
    first, *others = estimates(six_models)
    assert (first.kind, first.measure) == (EstimateKind.CONTRAST, Measure.ACCURACY)
    assert (first.estimate, first.p) == (
        six_models.contrast.estimate, six_models.contrast.permutation.p,
    )  # fmt: skip
    kinds = {estimate.kind for estimate in others}
    assert kinds == set(EstimateKind) - {EstimateKind.INFORMATIVE}  # nothing is left out
    units = {estimate.unit for estimate in others}
    assert units == set(ValueUnit)
    frame = contrasts_frame(six_models)
    assert len(frame) == len(others) + 1
    assert frame["verdict"][0] == six_models.contrast.verdict


def test_estimates_of_models_have_holms_p_on_accuracy_alone(six_models):
    tuned = [
        estimate
        for estimate in estimates(six_models)
        if estimate.kind == EstimateKind.CONTRAST
        and estimate.condition == Condition.TUNED
        and estimate.model != six_models.overall.label
    ]
    accuracy = [e.holm_p for e in tuned if e.measure == Measure.ACCURACY]
    assert tuple(accuracy) == six_models.conditions[Condition.TUNED].holm_p
    assert all(math.isnan(e.holm_p) for e in tuned if e.measure != Measure.ACCURACY)


def test_slopes_and_differences_are_estimates_with_their_units(six_models):
    by_measure = {
        (estimate.measure, estimate.detail): estimate
        for estimate in estimates(six_models)
        if estimate.kind == EstimateKind.SLOPE
    }
    slope = by_measure[Regression.GAIN_ON_BASELINE, "models"]
    assert slope.estimate == six_models.baseline_slopes[-1].test.slope
    assert slope.units == 6
    agreement = by_measure[Regression.TUNED_ON_COT_GAIN, "models"]
    partial = six_models.gain_agreements[-1].partial_correlation
    assert agreement.correlation_at_equal_baseline == pytest.approx(partial, nan_ok=True)


def test_metrics_have_names_that_mlflow_accepts_and_finite_values(runs):
    values = comparison_metrics(compare_pair(runs))
    assert all(re.fullmatch(r"[A-Za-z0-9_\-. :/]+", name) for name in values)
    assert all(math.isfinite(value) for value in values.values())
    assert values["gain/arb_Arab"] == pytest.approx(0.15)
    assert values["gain_group/variety"] == pytest.approx(0.1)
    for name in Measure:
        assert values[f"contrast/{name}_low"] <= values[f"contrast/{name}"]
        assert values[f"contrast/{name}"] <= values[f"contrast/{name}_high"]
        assert 0 < values[f"contrast/{name}_p"] <= 1
    assert {"contrast/minimum_detectable_effect", "gain/mean", "gain_se/heb_Hebr"} <= set(values)


def test_metrics_of_several_models_name_units_conditions_and_sources(six_models):
    values = comparison_metrics(six_models)
    assert values["baseline_slope/models"] == six_models.baseline_slopes[1].test.slope
    assert values["baseline_slope/languages"] == six_models.baseline_slopes[0].test.slope
    assert values["tuned_minus_cot/models"] == six_models.gain_agreements[1].difference.estimate
    assert values["contrast_base_cot/accuracy"] == (
        six_models.conditions[Condition.BASE_COT].overall.contrasts[Measure.ACCURACY].estimate
    )
    assert values["double_difference/eng_Latn"] == (
        six_models.double_differences[0].contrast.estimate
    )
    assert values["contrast/seeds"] == 3


def test_infinite_values_are_no_metrics():
    few = {code: 0.1 + 0.01 * i for i, code in enumerate((*RELATED[:2], *CONTROL[:3]))}
    values = comparison_metrics(compare_pair(pair(few)))
    assert "contrast/accuracy_low" not in values
    assert "contrast/minimum_detectable_effect" not in values
    assert "contrast/accuracy" in values
