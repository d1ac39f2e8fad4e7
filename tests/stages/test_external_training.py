"""Fine-tuning by a command: its adapter is checked, measured, logged, reused; its failures told.

The commands copy an adapter that a test has prepared: how real trainers read the data and train is
in tests/real/test_external_trainer.py.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from mlflow.entities import Run
from safetensors.torch import load_file
from tiny_adapters import change_config, change_weights, write_adapter

from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.errors import ConfigError, DataError, ModelError, TrainingError
from isogloss.registry.lookup import AdapterRef, adapter_folder
from isogloss.stages.evaluate import evaluate
from isogloss.stages.finetune import finetune, plan_finetune
from isogloss.stages.session import Session
from isogloss.tracking.resume import work_root
from isogloss.training.contamination import read_record

RANK, STEPS = 2, 3
CHECKED = (
    'sh -c \'test -s "$1" && test -s "$2" && echo training && cp -r "$0"/. "$3"\' '
    "{prepared} {{train_tokens}} {{recipe}} {{output}}"
)


@pytest.fixture
def base(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("gemma3")


@pytest.fixture
def prepared(base: Path, tmp_path: Path) -> Path:
    """An adapter as a trainer leaves it."""
    folder = tmp_path / "prepared"
    write_adapter(base, folder, r=RANK, lora_alpha=4, target_modules=["q_proj", "down_proj"])
    return folder


def config(base: Path, command: str, **changes: object) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {
            "model": str(base),
            "dtype": "float32",
            "steps": STEPS,
            "batch_size": 2,
            "limit": 6,
            "dev_limit": 4,
            "rank": RANK,
            "alpha": 4,
            "engine": {"kind": "command", "train": command},
            **changes,
        }
    )


def train(base: Path, command: str, **changes: object) -> Run:
    settings = config(base, command, **changes)
    return finetune(settings, Session.of(settings))


def copying(prepared: Path) -> str:
    return CHECKED.format(prepared=prepared)


def only_run() -> Run:
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return run


def text_of(run: Run, ending: str) -> str:
    client = mlflow.MlflowClient()
    (path,) = [
        entry.path
        for entry in client.list_artifacts(run.info.run_id, "trainer")
        if entry.path.endswith(ending)
    ]
    text: str = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/{path}")
    return text


def test_the_adapter_of_a_command_is_logged_like_one_of_this_process(
    base: Path, prepared: Path
) -> None:
    (prepared / "versions.json").write_text('{"trl": "1.16.0", "peft": "0.21.2"}')
    run = train(base, copying(prepared), register_as="auto")
    tags = run.data.tags
    assert run.info.status == "FINISHED"
    assert tags["isogloss.trainer"] == "command"
    assert tags["isogloss.trainer_status"] == "0"
    assert tags["isogloss.trainer_versions"] == "peft:0.21.2 trl:1.16.0"
    assert tags["isogloss.adapter_uri"] == tags["isogloss.last_uri"] == tags["isogloss.best_uri"]
    assert text_of(run, ".log") == "training\n"
    recipe = json.loads(text_of(run, ".json"))
    assert recipe["items"] == {"train": 6, "dev": 4}
    assert recipe["model"]["path"] == str(base)
    assert recipe["hyperparameters"]["steps"] == STEPS
    with adapter_folder(run.info.run_id) as folder:
        own, left = (load_file(each / "adapter_model.safetensors") for each in (folder, prepared))
        settings = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        record = read_record(folder)
        dev = pd.read_parquet(folder / "dev_predictions.parquet")
    assert own.keys() == left.keys()
    assert all(torch.equal(own[key], left[key]) for key in left)
    assert settings["base_model_name_or_path"] == str(base.resolve())
    assert record is not None
    assert record.seed == 0
    assert f", by the command {tags['isogloss.trainer_digest']}" in (record.recipe or "")
    assert len(record.items or ()) == 6
    assert run.data.metrics["dev/accuracy"] == dev["correct"].mean()
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "dev/gold_logprob")
    assert [metric.step for metric in history] == [0, STEPS]
    assert history[0].value != history[1].value
    assert mlflow.MlflowClient().get_model_version("isogloss-probe-arb_Arab", "1")
    assert not list(work_root().glob("finetune-*"))


def test_it_is_evaluated_as_measured_and_its_training_data_are_refused(
    base: Path, prepared: Path
) -> None:
    run = train(base, copying(prepared))
    shared = {"model": str(base), "dtype": "float32", "languages": "arb_Arab", "limit": 4}
    with adapter_folder(run.info.run_id) as folder:
        dev = EvaluateConfig.model_validate({**shared, "split": "dev"})
        evaluated = evaluate(dev, Session.of(dev), AdapterRef.in_folder(folder))
        assert evaluated.data.metrics["accuracy/arb_Arab"] == run.data.metrics["dev/accuracy"]
        seen = EvaluateConfig.model_validate({**shared, "split": "train"})
        with pytest.raises(DataError, match="were in its training data"):
            evaluate(seen, Session.of(seen), AdapterRef.in_folder(folder))


def test_a_finished_training_is_reused_until_what_the_command_reads_changes(
    base: Path, prepared: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.sh"
    script.write_text(f"cp -r {prepared}/. $1\n", encoding="utf-8")
    first = train(base, f"sh {script} {{output}} {{train}}")
    shutil.rmtree(prepared)  # a second training would fail
    assert train(base, f"sh {script} {{output}} {{train}}").info.run_id == first.info.run_id
    settings = config(base, f"sh {script} {{output}} {{train}}")
    before = plan_finetune(settings, Session.of(settings)).fingerprint
    script.write_text(f"cp -r {prepared}/. $1 \n", encoding="utf-8")
    assert plan_finetune(settings, Session.of(settings)).fingerprint != before
    other = config(base, f"sh {script} {{output}} {{train}} again")
    in_process = settings.model_copy(update={"engine": None})
    prints = {plan_finetune(each, Session.of(each)).fingerprint for each in (other, in_process)}
    assert len(prints | {before}) == 3


def test_a_command_that_fails_leaves_its_log_in_a_failed_run(base: Path) -> None:
    command = "sh -c 'echo step 1; echo CUDA out of memory >&2; exit 7' {train} {output}"
    with pytest.raises(TrainingError) as caught:
        train(base, command)
    assert str(caught.value) == (
        "the training command ended with exit status 7; the last line of its log is 'CUDA out of "
        "memory'."
    )
    run = only_run()
    assert run.info.status == "FAILED"
    assert run.data.tags["isogloss.trainer_status"] == "7"
    assert text_of(run, ".log") == "step 1\nCUDA out of memory\n"


def test_the_same_command_resumes_the_run_that_failed(base: Path, prepared: Path) -> None:
    shutil.move(prepared, prepared.with_name("away"))
    with pytest.raises(TrainingError, match="exit status"):
        train(base, copying(prepared))
    failed = only_run()
    shutil.move(prepared.with_name("away"), prepared)
    run = train(base, copying(prepared))
    assert run.info.run_id == failed.info.run_id
    assert (run.info.status, run.data.tags["isogloss.trainer_status"]) == ("FINISHED", "0")


def test_a_finished_command_is_not_run_again_if_what_follows_it_was_interrupted(
    base: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("isogloss.stages.external_training.attach", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(base, copying(prepared))
    shutil.rmtree(prepared)
    assert train(base, copying(prepared)).info.status == "FINISHED"


def interrupt(*_: object) -> str:
    raise KeyboardInterrupt


def zero(key: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    return key, torch.zeros_like(tensor) if "lora_B" in key else tensor


def nan(key: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    return key, torch.full_like(tensor, float("nan")) if "layers.1" in key else tensor


def misnamed(key: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    return key.replace("down_proj", "dwn_proj"), tensor


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (zero, "is untrained: lora_B is zero in all of its 6 modules"),
        (nan, "has weights that are NaN or infinite, first in"),
        (misnamed, "does not fit model"),
    ],
)
def test_adapters_that_would_not_be_applied_are_refused(
    base: Path, prepared: Path, change: Callable[..., object], sentence: str
) -> None:
    change_weights(prepared, change)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=sentence):
        train(base, copying(prepared))
    assert only_run().info.status == "FAILED"


def test_an_adapter_of_another_base_is_refused(base: Path, prepared: Path) -> None:
    change_config(prepared, lambda settings: settings.update(base_model_name_or_path="org/other"))
    with pytest.raises(ModelError, match="was trained on 'org/other', but the model is"):
        train(base, copying(prepared))


def test_another_rank_than_asked_is_said_and_recorded(
    base: Path, prepared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = train(base, copying(prepared), rank=8)
    assert f"the adapter has rank {RANK} and alpha 4, not 8 and 4 as in the recipe" in caplog.text
    with adapter_folder(run.info.run_id) as folder:
        record = read_record(folder)
    assert record is not None
    assert f"rank {RANK}, alpha 4" in (record.recipe or "")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"keep": "best"}, "keep is 'best', but engine.train trains without measurements"),
        ({"patience": 2}, "patience is 2, but engine.train trains without measurements"),
        (
            {"engine": {"kind": "command", "train": "no-such-trainer {train} {output}"}},
            "engine.train begins with 'no-such-trainer', which is no program that can be run",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_run_is_open(
    base: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        train(base, "true {train} {output}", **changes)
    assert mlflow.search_runs(search_all_experiments=True, output_format="list") == []


def test_a_fine_tuning_is_planned_without_weights(base: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(base, elsewhere)
    settings = config(elsewhere, "true {train} {output}")
    session = Session.of(settings)
    assert session.location.revision
    (elsewhere / "model.safetensors").unlink()
    assert plan_finetune(settings, session).tags.fingerprint
    assert not session.loaded


def test_a_text_layout_with_other_tokens_is_warned_of(
    base: Path, prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A chat template without the beginning of sequence that the tokenizer adds to every text."""
    chatty = tmp_path / "chatty"
    shutil.copytree(base, chatty)
    (chatty / "chat_template.jinja").write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}",
        encoding="utf-8",
    )
    change_config(prepared, lambda settings: settings.update(base_model_name_or_path=str(chatty)))
    run = train(chatty, f"sh -c 'cp -r {prepared}/. $0' {{output}} {{train}}")
    assert "reads {train}, from which the model's tokenizer gives other tokens" in caplog.text
    assert json.loads(text_of(run, ".json"))["exact"] == {
        "text": False, "chat": True, "tokens": True,
    }  # fmt: skip
