"""Metrics of a study's run, and the order of languages in its view."""

import mlflow
import pytest

from isogloss.stages.study_results import ordered_by_kinship, save_study_view, study_metrics
from isogloss.tracking.tags import prefixed


def run(condition: str | None, **metrics: float) -> mlflow.entities.Run:
    client = mlflow.MlflowClient()
    tags = prefixed({"condition": condition}) if condition else {}
    run_id = client.create_run("0", tags=tags).info.run_id
    for name, value in metrics.items():
        client.log_metric(run_id, name.replace("__", "/"), value)
    return client.get_run(run_id)


def test_a_study_has_the_mean_of_each_condition_and_the_headlines_of_its_comparison() -> None:
    evaluated = [
        run("base", accuracy__mean=0.3),
        run("tuned", accuracy__mean=0.5),
        run("tuned", accuracy__mean=0.8),
        run("tuned+cot", accuracy__mean=0.9),
    ]
    compared = run(None, contrast__accuracy=-0.05, contrast__accuracy_p=0.2, contrast__spread=9)
    assert study_metrics(evaluated, compared) == pytest.approx(
        {
            "mean_accuracy/base": 0.3,
            "mean_accuracy/tuned": 0.65,
            "mean_accuracy/tuned_cot": 0.9,
            "contrast/accuracy": -0.05,
            "contrast/accuracy_p": 0.2,
        }
    )
    assert study_metrics([], None) == {}


def test_the_source_and_its_relatives_come_first() -> None:
    codes = ["eng_Latn", "heb_Hebr", "arb_Arab", "amh_Ethi", "apc_Arab", "fra_Latn"]
    assert ordered_by_kinship("arb_Arab", codes) == [
        "arb_Arab", "apc_Arab", "amh_Ethi", "heb_Hebr", "eng_Latn", "fra_Latn"
    ]  # fmt: skip


def test_a_view_needs_metrics_of_languages() -> None:
    study = run(None)
    assert save_study_view("s", "arb_Arab", study, [run("base", accuracy__mean=0.3)]) is None
    with_languages = run("base", accuracy__mean=0.3, accuracy__heb_Hebr=0.3)
    assert save_study_view("s", "arb_Arab", study, [with_languages]) is not None
