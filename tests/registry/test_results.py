"""Results of an adapter: every evaluation of it, each beside the base run of the same task."""

import math

import mlflow
import pytest

from isogloss.registry.results import evaluation_results
from isogloss.tracking.tags import prefixed

TAGS = {
    "kind": "evaluate",
    "task": "probe",
    "format": "cloze",
    "language_digests": "heb_Hebr:d1",
    "revision": "r1",
    "normalisation": "length",
    "prompt_version": "2",
    "dtype": "float32",
    "max_new_tokens": "16",
    "versions": "scoring:1",
    "libraries": "torch:2.13.0",
    "prompt_language": "english",
    "chat": "false",
    "reasoning": "direct",
}


def log_evaluation(adapter: str, accuracy: float, status: str = "FINISHED", **tags: str) -> str:
    """Log an evaluate run with one accuracy in Hebrew."""
    with mlflow.start_run() as run:
        mlflow.set_tags(prefixed({**TAGS, "adapter": adapter, **tags}))
        mlflow.log_param("split", "dev")
        mlflow.log_metrics(
            {
                "accuracy/heb_Hebr": accuracy,
                "accuracy/mean": accuracy,
                "accuracy_se/heb_Hebr": 0.1,
                "n/heb_Hebr": 8,
                "gold_logprob/heb_Hebr": -1.0,
            }
        )
    mlflow.MlflowClient().set_terminated(run.info.run_id, status)
    return str(run.info.run_id)


def test_a_result_has_the_accuracies_of_the_adapter_and_of_the_base() -> None:
    log_evaluation("none", 0.25)
    run_id = log_evaluation("a1", 0.5)
    (result,) = evaluation_results("a1")
    assert (result.task, result.split, result.reasoning) == ("probe", "dev", "direct")
    assert (result.language, result.items, result.run_id) == ("heb_Hebr", 8, run_id)
    assert (result.base, result.tuned, result.standard_error) == (0.25, 0.5, 0.1)


OTHER = {"language_digests": "heb_Hebr:d2", "versions": "scoring:2", "libraries": "torch:3.0.0"}


@pytest.mark.parametrize("name", [*sorted(TAGS.keys() - {"kind"}), "attention", "max_length"])
def test_a_base_run_that_differs_in_what_decides_accuracy_is_not_shown(name: str) -> None:
    log_evaluation("a1", 0.5)
    log_evaluation("none", 0.25, **{name: OTHER.get(name, "other")})
    (result,) = evaluation_results("a1")
    assert math.isnan(result.base)


def test_a_base_run_of_more_languages_has_the_accuracy() -> None:
    log_evaluation("none", 0.25, language_digests="amh_Ethi:d9 heb_Hebr:d1", libraries="torch:2.14")
    log_evaluation("a1", 0.5)
    assert [result.base for result in evaluation_results("a1")] == [0.25]


def test_the_newest_of_several_base_runs_is_shown() -> None:
    log_evaluation("none", 0.25)
    log_evaluation("none", 0.375)
    log_evaluation("a1", 0.5)
    assert [result.base for result in evaluation_results("a1")] == [0.375]


def test_results_are_those_of_finished_evaluations_of_this_adapter_in_any_experiment() -> None:
    log_evaluation("a2", 0.1)
    log_evaluation("a1", 0.2, status="FAILED")
    log_evaluation("a1", 0.3, kind="finetune")
    assert evaluation_results("a1") == []
    log_evaluation("a1", 0.5)
    mlflow.set_experiment("elsewhere")
    log_evaluation("a1", 0.75)
    assert sorted(result.tuned for result in evaluation_results("a1")) == [0.5, 0.75]


def test_an_adapter_is_not_its_own_base() -> None:
    log_evaluation("a1", 0.5)
    (result,) = evaluation_results("a1")
    assert math.isnan(result.base)
