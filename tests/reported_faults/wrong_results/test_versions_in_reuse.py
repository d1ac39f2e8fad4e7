"""A result is reused only by code and libraries that would compute it again."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.prompts.protocol import Protocol
from isogloss.stages import evaluate as evaluate_stage
from isogloss.stages.evaluate import evaluate
from isogloss.stages.evaluation_plan import plan_evaluation
from isogloss.stages.finetune import plan_finetune
from isogloss.stages.session import Session
from isogloss.tracking import RunKind, find_finished, log_predictions, versions
from isogloss.tracking.tags import prefixed
from isogloss.tracking.versions import evaluation_versions, major_version, training_versions
from isogloss.types import Format, Reasoning

CONSTANTS = {
    "probe": "PROBE_VERSION", "prompts": "PROMPT_VERSION", "parser": "PARSER_VERSION",
    "scoring": "SCORING_VERSION", "generation": "GENERATION_VERSION",
    "metrics": "METRICS_VERSION", "training": "TRAINING_VERSION",
    "statistics": "STATISTICS_VERSION", "report": "REPORT_VERSION",
}  # fmt: skip
LETTER = {"probe", "prompts", "scoring"}
GENERATED = {*LETTER, "generation", "parser"}


@pytest.fixture
def configuration(model_folder: Callable[[str], Path]) -> dict[str, object]:
    return {"model": str(model_folder("llama")), "dtype": "float32", "limit": 2}


def changed(name: str, fingerprint: Callable[[], str], patch: pytest.MonkeyPatch) -> bool:
    """Whether raising a component's version gives another fingerprint."""
    before = fingerprint()
    patch.setattr(versions, CONSTANTS[name], "another")
    return fingerprint() != before


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize(
    ("format", "reasoning", "decisive"),
    [("letter", "direct", LETTER), ("generate", "direct", GENERATED), ("letter", "cot", GENERATED)],
)
def test_an_evaluation_has_the_versions_that_decide_it(
    name: str,
    format: str,
    reasoning: str,
    decisive: set[str],
    configuration: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = EvaluateConfig.model_validate(
        {**configuration, "format": format, "reasoning": reasoning, "languages": "heb_Hebr"}
    )
    session = Session.of(config)
    assert changed(
        name, lambda: plan_evaluation(config, session, None).fingerprint, monkeypatch
    ) == (name in {*decisive, "metrics"})


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_training_has_the_versions_that_decide_it(
    name: str, configuration: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FinetuneConfig.model_validate({**configuration, "format": "letter", "dev_limit": 2})
    session = Session.of(config)
    assert changed(name, lambda: plan_finetune(config, session).fingerprint, monkeypatch) == (
        name in {*LETTER, "training"}
    )


def test_the_probe_decides_no_other_task() -> None:
    assert "probe" not in evaluation_versions("belebele", Protocol(Format.LETTER))
    cot = Protocol(Format.LETTER, reasoning=Reasoning.COT)
    assert "probe" not in training_versions("sib200", cot)


def log_run(libraries: str) -> Run:
    with mlflow.start_run() as run:
        mlflow.set_tags(prefixed({"kind": "evaluate", "fingerprint": "f", "libraries": libraries}))
        log_predictions(pd.DataFrame({"correct": [True]}))
    return run


INSTALLED = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")}


def found(**libraries: str) -> bool:
    text = " ".join(f"{name}:{value}" for name, value in {**INSTALLED, **libraries}.items())
    run = log_run(text)
    return find_finished(RunKind.EVALUATE, "f", run.info.experiment_id) is not None


@pytest.mark.parametrize(
    ("name", "then"), [("torch", "1.13.1"), ("transformers", "4.57.0"), ("peft", "0.18.0")]
)
def test_a_run_of_another_major_version_of_a_library_is_computed_again(
    name: str, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not found(**{name: then})
    assert (
        f"is not reused: it was computed with {name} {then}, and {INSTALLED[name]} is"
        in caplog.text
    )


def test_a_run_of_another_minor_version_is_reused_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert found(transformers="5.0.1")
    assert "was computed with transformers 5.0.1; installed: transformers 5." in caplog.text


def test_an_older_run_is_reused_where_the_newest_cannot_be() -> None:
    good = log_run(" ".join(f"{name}:{value}" for name, value in INSTALLED.items()))
    log_run("torch:1.13.1")
    run = find_finished(RunKind.EVALUATE, "f", good.info.experiment_id)
    assert run is not None
    assert run.info.run_id == good.info.run_id


def test_before_version_one_the_second_number_is_the_major_version() -> None:
    versions_ = ("2.13.0+cpu", "0.21.2", "5", "10.1")
    assert list(map(major_version, versions_)) == ["2", "0.21", "5", "10"]


def test_one_evaluation_of_the_base_model_serves_every_source(
    configuration: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(source: str) -> EvaluateConfig:
        return EvaluateConfig.model_validate(
            {**configuration, "source": source, "languages": "heb_Hebr,amh_Ethi,fra_Latn,eng_Latn"}
        )

    first = config("arb_Arab")
    session = Session.of(first)
    run = evaluate(first, session)
    monkeypatch.setattr(evaluate_stage, "predict", None)  # would raise if it were computed again
    for source in ("fra_Latn", "arb_Arab+arz_Arab"):
        assert evaluate(config(source), session).info.run_id == run.info.run_id
    assert "isogloss.source" not in run.data.tags
    assert not [name for name in run.data.metrics if name.startswith("accuracy_group/")]
    assert {"accuracy/mean", "accuracy/heb_Hebr"} <= set(run.data.metrics)
    libraries = run.data.tags["isogloss.libraries"]
    assert f"torch:{INSTALLED['torch']}" in libraries.split()
    assert "peft:" not in libraries  # the base model has no adapter


def test_an_adapter_has_a_source(configuration: dict[str, object]) -> None:
    config = EvaluateConfig.model_validate({**configuration, "languages": "heb_Hebr"})
    session = Session.of(config)
    other = config.model_copy(update={"source": "fra_Latn"})
    assert (
        plan_evaluation(config, session, "digest").fingerprint
        != plan_evaluation(other, session, "digest").fingerprint
    )
