"""Tuning: the data it may see, the runs it leaves, and trials that fail, are pruned or retried."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import optuna
import pytest
import torch
import yaml
from mlflow.entities import Run
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer

from isogloss import tasks
from isogloss.config import FinetuneConfig, TuneConfig
from isogloss.config.study_files import read_recipe, read_study
from isogloss.errors import ConfigError, TrainingError
from isogloss.formatting import size
from isogloss.hpo.pruner import MEAN, MEASUREMENT
from isogloss.hpo.storage import open_storage
from isogloss.models.lora import lora_config, weights_per_rank
from isogloss.stages import tune as tuning
from isogloss.stages.session import Session
from isogloss.stages.training_inputs import recipe_of
from isogloss.stages.tune import run_tune
from isogloss.training import loop as training
from isogloss.types import Split

ROOT = Path(__file__).parents[2]
ALL = "all-linear"
SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "rank": [2, 4], "alpha": 4,
    "steps": 2, "batch_size": 2,
}  # fmt: skip


@pytest.fixture
def settings(model_folder: Callable[[str], Path], tmp_path: Path) -> dict[str, object]:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE), encoding="utf-8")
    return {
        "model": str(model_folder("gemma3")), "dtype": "float32", "study": "search",
        "dev_limit": 4, "limit": 4, "space": str(tmp_path / "space.yaml"), "measurements": 2,
        "storage": "deep/journal",
    }  # fmt: skip


def runs(kind: str) -> list[Run]:
    matches = mlflow.search_runs(
        filter_string=f"tags.`isogloss.kind` = '{kind}'", output_format="list"
    )
    return sorted(matches, key=lambda run: int(run.data.tags.get("isogloss.trial", 0)))


def states() -> list[str]:
    return [run.data.tags["isogloss.state"] for run in runs("trial")]


def trials(storage: str = "deep/journal") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="search", storage=open_storage(storage)).get_trials()


@pytest.mark.parametrize("storage", ["deep/journal", "sqlite:///search.db"])
def test_a_search_has_one_run_per_trial_and_a_best_recipe_and_resumes(
    settings: dict[str, object],
    storage: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    splits_read: set[tuple[str, str]] = set()
    read = tasks._read  # every item of a task is read by it

    def record(task: tasks.Task, language: str, split: Split) -> list[tasks.Item]:
        splits_read.add((language, split))
        return read(task, language, split)

    monkeypatch.setattr(tasks, "_read", record)
    settings |= {"storage": storage, "pruning": False}
    run_tune(TuneConfig(**settings, trials=2))
    run_tune(TuneConfig(**settings, trials=3))
    assert [run.info.run_name for run in runs("trial")] == ["trial 0", "trial 1", "trial 2"]
    (search,) = runs("tune")  # the second call resumes the run of the first
    assert search.info.status == "FINISHED"
    for run, trial in zip(runs("trial"), trials(storage), strict=True):
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == search.info.run_id
        for name in ("model", "source", "adapter", "task", "format", "reasoning", "fingerprint"):
            assert run.data.tags[f"isogloss.{name}"]
        assert run.data.tags["isogloss.state"] == "complete"
        assert int(run.data.params["recipe.rank"]) == trial.params["rank"]
        assert float(run.data.params["recipe.learning_rate"]) == trial.params["learning_rate"]
        assert run.data.metrics["objective"] == run.data.metrics["dev/accuracy"] == trial.value
        assert run.data.metrics["duration"] == pytest.approx(trial.duration.total_seconds())
        steps = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train/loss")
        assert [point.step for point in steps] == [1, 2]
    assert len({trial.params["learning_rate"] for trial in trials(storage)}) == 3
    best = max(trials(storage), key=lambda trial: (trial.value, -trial.number))
    recipe = recipe_of(FinetuneConfig(recipe=search.info.run_id))
    assert recipe.learning_rate == best.params["learning_rate"]
    assert (recipe.rank, recipe.alpha, recipe.steps) == (best.params["rank"], 4, 2)
    assert search.data.metrics["dev/accuracy"] == best.value
    page = mlflow.artifacts.load_text(f"{search.info.artifact_uri}/search.html")
    for title in ("History", "Importances", "Slices", "Parallel coordinates"):
        assert f"<h2>{title}</h2>" in page
    assert '<script src="' not in page
    printed = capsys.readouterr().out
    assert f"3 complete; the best is trial {best.number}" in printed
    command = "mlflow run . -e finetune --env-manager local"
    assert (
        f"{command} -P model={settings['model']} -P source=arb_Arab -P limit=4 -P dtype=float32 "
        "-P recipe=" in printed
    )
    recipe_of(FinetuneConfig(recipe=search.info.run_id, source="eng_Latn", format="cloze"))
    message = caplog.messages[-1]
    assert message.startswith("the recipe comes from a search with model ")
    assert "source arb_Arab (here eng_Latn)" in message
    assert "format" not in message
    assert not list(Path("unfinished").glob("*"))[1:]  # only the folder of locks
    # No language but the source, and none of its test items.
    assert splits_read == {("arb_Arab", "train"), ("arb_Arab", "dev")}


def test_a_search_trains_in_this_process_alone(settings: dict[str, object]) -> None:
    engine = {"kind": "command", "train": "true {train} {output}"}
    with pytest.raises(ConfigError, match="engine is of kind 'command', but a search trains and"):
        run_tune(TuneConfig.model_validate({**settings, "engine": engine}))
    assert runs("tune") == []


def test_finetune_and_studies_use_a_recipe_and_explicit_parameters_override_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "best.yaml"
    path.write_text("finetune: {rank: 4, learning_rate: 0.002, alpha: 8}\n", encoding="utf-8")
    recipe = recipe_of(FinetuneConfig(recipe=str(path), alpha=64))
    assert (recipe.rank, recipe.learning_rate, recipe.alpha, recipe.steps) == (4, 0.002, 64, 40)
    demo = ROOT / "configs" / "demo.yaml"
    study = read_study(demo, {}, read_recipe(path))
    assert (study.finetune.rank, study.finetune.alpha) == (4, 8)
    content = yaml.safe_load(demo.read_text("utf-8"))
    named = tmp_path / "study.yaml"
    named.write_text(yaml.safe_dump({**content, "finetune": "best.yaml"}), encoding="utf-8")
    assert read_study(named, {}).finetune.rank == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [("rank: 4", "no mapping `finetune`"), ("finetune: {rnk: 4}", "rnk"), ("- 1", "not a mapping")],
)
def test_an_invalid_recipe_is_rejected(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_recipe(path)
    with pytest.raises(ConfigError, match="neither a file nor"):
        recipe_of(FinetuneConfig(recipe="0" * 32))


def test_trials_without_memory_or_with_a_nan_loss_fail_and_the_search_continues(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accumulate = training._accumulate_gradients
    calls = iter(range(1000))

    def fail_twice(*args: object) -> float:
        match next(calls):
            case 0:
                raise MemoryError("no memory for this step")
            case 1:
                return float("nan")
        return accumulate(*args)

    monkeypatch.setattr(training, "_accumulate_gradients", fail_twice)
    run_tune(TuneConfig(**settings, trials=4, pruning=False))
    assert states() == ["fail", "fail", "complete", "complete"]
    first, second, *_ = runs("trial")
    assert "out of memory in step 1" in first.data.tags["isogloss.reason"]
    assert "the loss of step 1 is nan" in second.data.tags["isogloss.reason"]
    assert (first.info.status, second.info.status) == ("FAILED", "FAILED")
    assert "2 complete, 2 fail; the best is trial" in capsys.readouterr().out


def test_a_rank_without_memory_fails_its_trial_once_and_changes_no_other(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rank 2 fits and 4 does not.
    network = Session.of(TuneConfig(**settings)).model.network
    per_rank = 16 * sum(
        sum(module.weight.shape)
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    )
    monkeypatch.setattr("isogloss.models.memory.total_memory", lambda model: 3 * per_rank)
    for _ in range(2):  # the second call finds enough trials and trains none
        run_tune(TuneConfig(**settings, trials=3, pruning=False))
        assert {trial.params["rank"] for trial in trials()} == {2, 4}
        assert len(trials()) == 3
        for trial, run in zip(trials(), runs("trial"), strict=True):
            if trial.params["rank"] == 2:
                assert run.data.tags["isogloss.state"] == "complete"
            else:
                assert run.data.tags["isogloss.reason"] == (
                    f"rank is 4, whose weights, gradients and moments take {size(4 * per_rank)}, "
                    f"but there are {size(3 * per_rank)} of memory; expected at most 3."
                )


def test_a_space_that_no_trial_can_use_is_refused_before_a_run_is_open(
    settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change, message in (
        ({"rank": [65536, 65535]}, "rank is 65535, whose weights, .* at most 1000"),
        ({"target_modules": ["attention", "q_proj,nothing"]}, "no linear module 'nothing'"),
    ):
        (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE | change), encoding="utf-8")
        network = Session.of(TuneConfig(**settings)).model.network
        with monkeypatch.context() as patch:
            memory = 1000 * 16 * weights_per_rank(network, lora_config(network, ALL, 1, 1, 0.0))
            patch.setattr(
                "isogloss.models.memory.total_memory", lambda model, memory=memory: memory
            )
            with pytest.raises(ConfigError, match=f"space '.*space.yaml': .*{message}"):
                run_tune(TuneConfig(**settings, trials=2))
    assert not runs("tune")
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE), encoding="utf-8")
    run_tune(TuneConfig(**settings, trials=1))  # under the same name
    assert states() == ["complete"]


def test_memory_that_ends_while_an_adapter_is_made_leaves_the_model_as_it_was(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = LoraLayer.update_layer
    calls = iter(range(10_000))

    def fail_in_the_third_layer(*arguments: object, **options: object) -> None:
        if next(calls) == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes")
        make(*arguments, **options)

    run_tune(TuneConfig(**settings, trials=2, pruning=False))
    expected = trials()[1]
    monkeypatch.setattr(LoraLinear, "update_layer", fail_in_the_third_layer)
    run_tune(TuneConfig(**{**settings, "storage": "other/journal"}, trials=2, pruning=False))
    first, second = trials("other/journal")
    assert "out of memory in step 1" in first.user_attrs["reason"]
    assert (second.params, second.value) == (expected.params, expected.value)


def test_a_search_without_a_complete_trial_is_an_error_with_the_reason(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_accumulate_gradients", lambda *_: float("inf"))
    with pytest.raises(TrainingError, match=r"none of the 2 trials.*loss of step 1 is inf"):
        run_tune(TuneConfig(**settings, trials=2))


def test_a_study_that_was_started_with_other_parameters_is_rejected(
    settings: dict[str, object],
) -> None:
    run_tune(TuneConfig(**settings, trials=1))
    for other, names in (
        ({"seed": 1}, "seed"),
        ({"objective": "gold_logprob", "pruning": False}, "objective and pruning"),
        ({"dev_limit": 3}, "dev items"),
        ({"limit": 3}, "training items"),
    ):
        with pytest.raises(ConfigError, match=f"started with another {names}, so its trials"):
            run_tune(TuneConfig(**{**settings, **other}, trials=2))
    run_tune(TuneConfig(**{**settings, "study": "another", "seed": 1}, trials=1))


def test_an_unreachable_storage_is_an_error_with_its_name(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        run_tune(TuneConfig(**{**settings, "storage": "nowhere://x"}, trials=1))


def test_the_password_of_a_database_is_not_logged() -> None:
    config = TuneConfig(storage="postgresql+psycopg2://me:se:cret@host:5432/name")
    assert config.model_dump()["storage"] == "postgresql+psycopg2://me:***@host:5432/name"
    assert TuneConfig(storage="sqlite:///x.db").model_dump()["storage"] == "sqlite:///x.db"


def test_an_interrupted_trial_fails_and_is_retried_with_the_same_recipe(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_accumulate_gradients", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_tune(TuneConfig(**settings, trials=2, pruning=False))
    run_tune(TuneConfig(**settings, trials=2, pruning=False))
    assert states() == ["fail", "complete", "complete"]
    assert "tried again as trial 1" in runs("trial")[0].data.tags["isogloss.reason"]
    assert runs("trial")[1].data.tags["isogloss.retry_of"] == "0"
    first, retry, _ = trials()
    assert first.params == retry.params


def test_the_last_value_of_a_measurement_is_the_mean_by_which_tpe_ranks_pruned_trials(
    settings: dict[str, object],
) -> None:
    run_tune(TuneConfig(**settings, trials=1))
    (trial,) = trials()
    reported = trial.intermediate_values
    for number in (1, 2):
        passages = [
            value
            for step, value in reported.items()
            if step // MEASUREMENT == number and step % MEASUREMENT != MEAN
        ]
        assert len(passages) == 2  # of two items each
        assert reported[MEASUREMENT * number + MEAN] == pytest.approx(sum(passages) / 2)
    assert reported[max(reported)] == trial.value


def test_pruned_trials_count_and_their_runs_are_finished_with_that_state(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "PairedPruner", lambda _: optuna.pruners.ThresholdPruner(lower=2.0))
    # The first trial has to complete, since without it there is no best one.
    prune = optuna.pruners.ThresholdPruner.prune
    monkeypatch.setattr(
        optuna.pruners.ThresholdPruner, "prune",
        lambda self, study, trial: trial.number > 0 and prune(self, study, trial),
    )  # fmt: skip
    run_tune(TuneConfig(**settings, trials=3))
    assert states() == ["complete", "pruned", "pruned"]
    pruned = runs("trial")[1]
    assert pruned.info.status == "FINISHED"
    steps = mlflow.MlflowClient().get_metric_history(pruned.info.run_id, "train/loss")
    assert [point.step for point in steps] == [1]
