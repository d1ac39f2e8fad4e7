"""Tinker's SDK against a service on loopback: training and evaluation beside this process."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow.entities import Run
from safetensors.torch import load_file

pytest.importorskip("tinker", reason="tinker is not installed: pip install -r requirements-dev.txt")
from tinker_service import KEY, TinkerService, tinker_serving

from isogloss import tracking
from isogloss.config import EvaluateConfig, FinetuneConfig, StudyConfig
from isogloss.errors import ConfigError, ModelError, TrainingError
from isogloss.registry.lookup import AdapterRef, adapter_folder
from isogloss.stages.evaluate import evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.stages.study import run_study
from isogloss.training.contamination import read_record

# The SDK leaves the connections of its first request of each client open.
pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    yield
    gc.collect()  # here, and not in a test of something else


@pytest.fixture
def base(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("gemma3")


@pytest.fixture
def service(base: Path) -> Iterator[TinkerService]:
    with tinker_serving(base) as service:
        yield service


SETTINGS: dict[str, object] = {
    "steps": 4, "batch_size": 3, "limit": 8, "dev_limit": 4, "rank": 2, "alpha": 32,
    "learning_rate": 5e-3, "checkpoint_every": 2,
}  # fmt: skip


def trained(base: Path, service: TinkerService | None, **changes: object) -> Run:
    engine = service.engine(**changes.pop("engine", {})) if service else None  # type: ignore[arg-type]
    own = {"engine": engine} if service else {"dtype": "float32"}
    config = FinetuneConfig.model_validate({"model": str(base), **SETTINGS, **own, **changes})
    return finetune(config, Session.of(config))


def history(run: Run, name: str) -> list[float]:
    entries = mlflow.MlflowClient().get_metric_history(run.info.run_id, name)
    return [entry.value for entry in sorted(entries, key=lambda entry: entry.step)]


def weights(run: Run) -> dict[str, torch.Tensor]:
    with adapter_folder(run.info.run_id) as folder:
        return load_file(folder / "adapter_model.safetensors")


def evaluated(base: Path, service: TinkerService | None, run: Run | None, **changes: object) -> Run:
    engine = service.engine(**changes.pop("engine", {})) if service else None  # type: ignore[arg-type]
    own = {"engine": engine} if service else {"dtype": "float32"}
    values = {"model": str(base), "languages": ("heb_Hebr", "eng_Latn"), "limit": 3}
    config = EvaluateConfig.model_validate({**values, **own, **changes})
    if run is None:
        return evaluate(config, Session.of(config))
    with adapter_folder(run.info.run_id) as folder:
        return evaluate(config, Session.of(config), AdapterRef.in_folder(folder))


def test_training_and_evaluation_are_those_of_this_process(
    base: Path, service: TinkerService
) -> None:
    """Dev scores, and predictions of base and adapter in two formats.

    The adapter is taken by its path on the service, and here from its files.
    """
    here, there = (trained(base, where, learning_rate=5e-2) for where in (None, service))
    assert history(there, "train/loss") == pytest.approx(history(here, "train/loss"), abs=2e-3)
    scores = history(here, "dev/gold_logprob")
    assert history(there, "dev/gold_logprob") == pytest.approx([scores[0], scores[-1]], abs=2e-2)
    assert there.data.tags["isogloss.trainer"] == "tinker"
    assert there.data.tags["isogloss.trainer_weights"] in service.saved
    for how in ("cloze", "generate"):
        tables = {}
        for run in (None, there):
            for where in (None, service):
                result = evaluated(base, where, run, format=how, max_new_tokens=4)
                tables[run is None, where is None] = tracking.read_predictions(result.info.run_id)
            own, other = tables[run is None, True], tables[run is None, False]
            for column in ("prediction", "greedy", "text"):
                assert list(other[column]) == list(own[column])
            for mine, theirs in zip(own["choice_logprobs"], other["choice_logprobs"], strict=True):
                assert list(theirs) == pytest.approx(list(mine), abs=2e-4)
        before, after = (
            list(map(list, tables[is_base, False]["choice_logprobs"])) for is_base in (True, False)
        )
        assert before != after
    tags = result.data.tags
    assert tags["isogloss.engine"] == "tinker"
    assert tags["isogloss.served_model"] == "tiny/base"
    assert tags["isogloss.server_settings"] == "prompts: ids; labels: exact"


def test_requests_tokens_and_their_price_are_metrics(base: Path, service: TinkerService) -> None:
    run = trained(base, service, engine={"price_train": 3.0})
    assert run.data.metrics["train/cost"] == pytest.approx(3e-6 * run.data.metrics["train/tokens"])
    service.bodies.clear()
    prices = {"price_in": 2.0, "price_out": 1000.0}
    result = evaluated(base, service, None, format="letter", engine=prices)
    asked = [body for path, body in service.bodies if path == "asample"]
    prompts = [len(body["prompt"]["chunks"][0]["tokens"]) for body in asked]
    metrics = result.data.metrics
    of_items = prompts[8:]  # after two of the probe, with a request for each of four labels
    assert metrics["server/requests"] == len(of_items) == 24
    assert metrics["server/prompt_tokens"] == sum(of_items)
    assert metrics["server/generated_tokens"] == 24
    assert metrics["server/cost"] == pytest.approx(sum(of_items) * 2e-6 + 24e-3)
    assert "server/retries" not in metrics


def test_a_study_trains_and_evaluates_on_the_service(base: Path, service: TinkerService) -> None:
    """Two seeds, each with an adapter of its own there; a second call computes nothing."""
    study = StudyConfig.model_validate(
        {
            "study": "served", "model": str(base), "engine": service.engine(price_in=1.0),
            "languages": ("arb_Arab", "heb_Hebr", "mlt_Latn", "eng_Latn", "tur_Latn"), "limit": 2,
            "seeds": (0, 1),
            "finetune": {
                "steps": 2, "batch_size": 2, "limit": 4, "dev_limit": 2, "rank": 2,
                "learning_rate": 5e-2,
            },
        }
    )  # fmt: skip
    compared = run_study(study)
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert {run.info.status for run in runs} == {"FINISHED"}
    evaluations = [run for run in runs if run.data.tags["isogloss.kind"] == "evaluate"]
    assert {run.data.tags["isogloss.engine"] for run in evaluations} == {"tinker"}
    assert len({run.data.tags["isogloss.adapter"] for run in evaluations}) == 3  # none, and two
    trained_there = [
        run.data.tags["isogloss.trainer_weights"]
        for run in runs
        if run.data.tags["isogloss.kind"] == "finetune"
    ]
    assert set(trained_there) == {path for path in service.saved if "/sampler_weights/" in path}
    assert len(trained_there) == 2
    asked = dict(service.seen)
    assert run_study(study) == compared
    assert service.seen["asample"] == asked["asample"]
    assert service.seen["forward_backward"] == asked["forward_backward"] == 4


DRIVER = """
from isogloss.config import FinetuneConfig
from isogloss.stages.finetune import run_finetune
import json, sys
run_finetune(FinetuneConfig.model_validate(json.loads(sys.argv[1])))
"""


def test_after_kill_9_the_next_call_goes_on_from_the_checkpoint_on_the_service(
    base: Path, service: TinkerService
) -> None:
    settings = {"model": str(base), **SETTINGS, "engine": service.engine().model_dump(mode="json")}
    reached, held = threading.Event(), threading.Event()

    def waits(path: str, count: int) -> None:
        if path == "forward_backward" and count == 4:
            reached.set()
            held.wait(60)

    service.waits = waits
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
    }
    program = subprocess.Popen(
        [sys.executable, "-c", DRIVER, json.dumps(settings)], env=environment
    )
    assert reached.wait(300)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    held.set()
    service.waits = lambda path, count: None
    (interrupted,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    run = trained(base, service)
    assert run.info.run_id == interrupted.info.run_id
    assert run.info.status == "FINISHED"
    assert service.seen["forward_backward"] == 4 + 2  # steps 3 and 4 after the checkpoint of 2
    expected = trained(base, None)
    assert history(run, "train/loss") == pytest.approx(history(expected, "train/loss"), abs=2e-5)
    for name, tensor in weights(expected).items():
        torch.testing.assert_close(weights(run)[name], tensor, atol=1e-4, rtol=1e-2)
    again = trained(base, service)
    assert again.info.run_id == run.info.run_id


def refused(base: Path, service: TinkerService, **changes: object) -> str:
    """The message with which a training is refused; no run has been opened."""
    with pytest.raises((ConfigError, ModelError)) as caught:
        trained(base, service, **changes)
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert runs == []
    return str(caught.value)


def test_what_the_service_does_not_have_is_refused_before_a_run_is_open(
    base: Path, service: TinkerService
) -> None:
    assert refused(base, service, dropout=0.1) == "dropout is 0.1, but Tinker has none; expected 0."
    assert "expected all-linear or attention" in refused(base, service, target_modules="q_proj")
    assert "keep is 'best', but engine.kind tinker" in refused(base, service, keep="best")
    said = refused(base, service, engine={"name": "tiny/other"})
    assert said == (
        "Tinker has no model 'tiny/other'; expected engine.name, or model, to be one of "
        "'other/model', 'tiny/base'."
    )


def test_a_key_that_is_missing_or_wrong_is_in_no_message_and_no_run(
    base: Path, service: TinkerService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", "tml-wrong-key")
    said = refused(base, service)
    assert said == (
        "Tinker gives no answer: status 401: the environment variable TINKER_API_KEY has a key that "
        "it does not accept."
    )
    monkeypatch.delenv("TINKER_API_KEY")
    assert "the environment variable TINKER_API_KEY has no key" in refused(base, service)
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    evaluated(base, service, trained(base, service))
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in kept if KEY.encode() in path.read_bytes()] == []


def test_an_adapter_that_the_service_does_not_have_or_apply_is_refused(
    base: Path, service: TinkerService, tmp_path: Path
) -> None:
    run = trained(base, service)
    with adapter_folder(run.info.run_id) as folder:
        shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own" / "tinker.json").unlink()
    config = EvaluateConfig.model_validate(
        {"model": str(base), "languages": ("eng_Latn",), "limit": 2, "engine": service.engine()}
    )
    with pytest.raises(ModelError, match="was not trained by Tinker, which takes no weights from"):
        evaluate(config, Session.of(config), AdapterRef.in_folder(tmp_path / "own"))
    service.applies = False
    with pytest.raises(ModelError, match=r"^Tinker answers with the adapter as without it"):
        evaluated(base, service, run)


def test_an_export_without_peft_files_ends_the_training_with_a_sentence(
    base: Path, service: TinkerService
) -> None:
    service.exports = ("adapter_model.safetensors",)
    with pytest.raises(TrainingError, match=r"^Tinker exports no adapter_config.json \(of 1 files"):
        trained(base, service)
    service.exports = ("adapter_config.json", "adapter_model.safetensors")
    steps = service.seen["optim_step"]
    assert trained(base, service).info.status == "FINISHED"
    assert service.seen["optim_step"] == steps  # the training itself was finished


def test_another_alpha_of_the_service_is_recorded(
    base: Path, service: TinkerService, caplog: pytest.LogCaptureFixture
) -> None:
    service.alpha = 16
    run = trained(base, service)
    assert "the adapter has rank 2 and alpha 16, not 2 and 32" in caplog.text
    with adapter_folder(run.info.run_id) as folder:
        record = read_record(folder)
    assert record is not None
    assert "rank 2, alpha 16," in (record.recipe or "")
    assert (record.recipe or "").endswith(", by Tinker")
