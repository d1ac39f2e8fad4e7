"""The registry: versions, aliases and their rule, cards, lineage to run, data and evaluation."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run

from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.errors import ModelError
from isogloss.registry.lookup import adapter_folder, logged_model, model_uri
from isogloss.registry.promotion import Promotion, compare_on_dev
from isogloss.registry.register import register
from isogloss.stages.evaluate import run_evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.training.loop import DEV_PREDICTIONS

NAME = "isogloss-probe-arb_Arab"


def config(folder: Path, **changes: object) -> FinetuneConfig:
    settings = {
        "model": str(folder), "dtype": "float32", "steps": 2, "batch_size": 2, "limit": 6,
        "dev_limit": 6, "rank": 2, "eval_every": 1,
    }  # fmt: skip
    return FinetuneConfig(**{**settings, **changes})


def trained(folder: Path, **changes: object) -> Run:
    given = config(folder, **changes)
    return finetune(given, Session(given.model, given.dtype))


@pytest.fixture
def run(model_folder: Callable[[str], Path]) -> Run:
    return trained(model_folder("gemma3"))


def version(name: str, number: int) -> mlflow.entities.model_registry.ModelVersion:
    return mlflow.MlflowClient().get_model_version(name, str(number))


def aliases(name: str = NAME) -> dict[str, str]:
    found = mlflow.MlflowClient().get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def evaluate(folder: Path, adapter: str | None) -> None:
    run_evaluate(
        EvaluateConfig(
            model=str(folder), dtype="float32", adapter=adapter, limit=4,
            languages="heb_Hebr,eng_Latn",
        )
    )  # fmt: skip


def test_a_version_has_the_tags_the_card_and_the_run_that_lead_back_to_how_it_was_made(
    run: Run,
) -> None:
    said = register(run.info.run_id, None, "candidate")
    assert said == (f"models:/{NAME}/1", "registered; alias candidate is at version 1")
    made = version(NAME, 1)
    assert made.run_id == run.info.run_id
    for name in (
        "base_model", "base_revision", "source", "task", "data_digest", "dev_digest",
        "git_commit", "fingerprint", "adapter", "seed", "step",
    ):  # fmt: skip
        assert made.tags[f"isogloss.{name}"], name
    assert made.tags["isogloss.fingerprint"] == run.data.tags["isogloss.fingerprint"]
    assert aliases() == {"candidate": "1"}
    assert mlflow.MlflowClient().get_registered_model(NAME).tags == {
        "isogloss.task": "probe", "isogloss.source": "arb_Arab",
    }  # fmt: skip
    with adapter_folder(said.uri) as folder:
        card = (folder / "README.md").read_text("utf-8")
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "peft"
    assert header["base_model"] == run.data.params["model"]
    for stated in (
        "Standard Arabic", made.tags["isogloss.base_revision"], "licence of the base",
        run.data.tags["isogloss.data_digest"], "## Intended use",
        "mlflow run . -e finetune --env-manager local -P model=", "-P steps=2",
        made.tags["isogloss.git_commit"],
        "Not evaluated yet",
    ):  # fmt: skip
        assert stated in card, stated
    assert made.description in card  # without the header, which is no Markdown


def test_a_licence_is_read_from_the_card_of_the_base(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    import shutil

    base = Path(shutil.copytree(model_folder("gemma3"), tmp_path / "base"))
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Base\n", encoding="utf-8")
    with adapter_folder(trained(base).info.run_id) as folder:
        card = (folder / "README.md").read_text("utf-8")
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    assert "| mit (the adapter is a derivative of it) |" in card


def test_evaluations_are_seen_on_the_model_and_in_the_card(
    run: Run, model_folder: Callable[[str], Path]
) -> None:
    register(run.info.run_id, None, "candidate")
    folder = model_folder("gemma3")
    evaluate(folder, None)
    evaluate(folder, f"models:/{NAME}@candidate")
    digest = run.data.tags["isogloss.adapter"]
    model = mlflow.get_logged_model(str(logged_model(digest)))
    assert model.source_run_id == run.info.run_id
    shown = {metric.key: metric for metric in model.metrics}
    assert {"dev/accuracy", "dev/gold_logprob", "accuracy/heb_Hebr", "accuracy/mean"} <= set(shown)
    assert shown["accuracy/heb_Hebr"].dataset_name == "probe-test"
    assert model.tags["mlflow.note.content"].startswith("# ")
    (evaluated,) = mlflow.search_runs(
        filter_string=f"tags.`isogloss.adapter` = '{digest}' AND tags.`isogloss.kind` = 'evaluate'",
        output_format="list",
    )
    assert shown["accuracy/heb_Hebr"].run_id == evaluated.info.run_id
    inputs = mlflow.get_run(evaluated.info.run_id).inputs
    assert [used.model_id for used in inputs.model_inputs] == [model.model_id]
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "dev/accuracy")
    assert [point.step for point in history] == [0, 1, 2]  # not logged a second time
    # Registered again, it is the same version, with what is known now.
    assert register(f"models:/{NAME}@candidate", None, "candidate").uri == f"models:/{NAME}/1"
    card = version(NAME, 1).description
    tuned, base = (
        mlflow.get_run(one).data.metrics["accuracy/heb_Hebr"]
        for one in (evaluated.info.run_id, _base_run())
    )
    error = evaluated.data.metrics["accuracy_se/heb_Hebr"]
    row = f"| probe | test | direct | Hebrew (`heb_Hebr`) | 4 | {base:.3f} | {tuned:.3f} | "
    assert f"{row}{error:.3f} | `{evaluated.info.run_id[:8]}` |" in card
    assert "Not evaluated" not in card
    with adapter_folder(f"models:/{NAME}/1") as found:
        assert row in (found / "README.md").read_text("utf-8")


def _base_run() -> str:
    (found,) = mlflow.search_runs(
        filter_string="tags.`isogloss.condition` = 'base'", output_format="list"
    )
    return str(found.info.run_id)


def test_finetune_makes_a_candidate_and_a_folder_run_id_and_alias_are_the_same_adapter(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    run = trained(model_folder("gemma3"), register_as="auto")
    assert aliases() == {"candidate": "1"}
    again = trained(model_folder("gemma3"), register_as="auto")
    assert again.info.run_id == run.info.run_id
    assert len(mlflow.MlflowClient().search_model_versions(f"name = '{NAME}'")) == 1
    weights = []
    for name in (run.info.run_id, f"models:/{NAME}@candidate", f"models:/{NAME}/1"):
        with adapter_folder(name) as folder:
            weights.append((folder / "adapter_model.safetensors").read_bytes())
    assert len(set(weights)) == 1
    for name in ("models:/absent@champion", "models:/absent/1", "models:/m-0000", "0" * 32):
        with pytest.raises(ModelError, match="adapter"), adapter_folder(name):
            pass


def test_a_name_is_for_one_source_and_task(run: Run, model_folder: Callable[[str], Path]) -> None:
    register(run.info.run_id, "mine", "candidate")
    other = trained(model_folder("gemma3"), source="eng_Latn")
    with pytest.raises(ModelError, match=r"'mine' is for probe and adapters tuned on arb_Arab"):
        register(other.info.run_id, "mine", "candidate")
    assert register(other.info.run_id, None, None).uri == "models:/isogloss-probe-eng_Latn/1"


def test_the_best_and_the_last_adapter_are_both_kept_and_keep_says_which_is_the_runs(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from isogloss.training import loop as training

    predict, calls = training.predict, iter(range(100))

    def worse_and_worse(*given: object) -> list[training.Prediction]:
        worth = -float(next(calls))
        return [replace(one, correct=False, gold_logprob=worth) for one in predict(*given)]

    monkeypatch.setattr(training, "predict", worse_and_worse)
    run = trained(model_folder("gemma3"), keep="best", steps=3, patience=2)
    tags = run.data.tags
    assert tags["isogloss.best_step"] == "1"
    assert tags["isogloss.adapter_uri"] == tags["isogloss.best_uri"] != tags["isogloss.last_uri"]
    steps = {
        uri: mlflow.get_logged_model(tags[uri].removeprefix("models:/")).tags["isogloss.step"]
        for uri in ("isogloss.best_uri", "isogloss.last_uri")
    }
    assert steps == {"isogloss.best_uri": "1", "isogloss.last_uri": "3"}


def dev_folder(path: Path, correct: list[bool], first: int = 0) -> Path:
    path.mkdir()
    numbers = range(first, first + len(correct))
    pd.DataFrame(
        {
            "task": "probe", "language": "arb_Arab",
            "item_id": [f"i{at}" for at in numbers],
            "passage_id": [f"p{at // 2}" for at in numbers],
            "answer": 0, "correct": correct,
        }
    ).to_parquet(path / DEV_PREDICTIONS)  # fmt: skip
    return path


THIRD, ALL = [True, False, False] * 20, [True] * 60


@pytest.mark.parametrize(
    ("old", "new", "better", "said"),
    [
        (
            THIRD,
            ALL,
            True,
            "better on the 60 shared dev items: accuracy 0.333 for the champion and 1.000 for this",
        ),
        (THIRD, THIRD, False, "not shown to be better"),
        (ALL, THIRD, False, "not shown to be better"),
        # One item more of sixty is nothing to go by.
        ([False] * 60, [True, *[False] * 59], False, "not shown to be better"),
        # Of more items, those count that both were asked.
        ([*THIRD, *[True] * 60], ALL, True, "better on the 60 shared dev items"),
        (THIRD, [*ALL, *[False] * 60], True, "better on the 60 shared dev items"),
    ],
)
def test_the_rule_for_a_champion_is_a_paired_test_on_the_dev_items_of_both(
    tmp_path: Path, old: list[bool], new: list[bool], better: bool, said: str
) -> None:
    folders = [dev_folder(tmp_path / name, c) for name, c in (("old", old), ("new", new))]
    decided, why = compare_on_dev(*folders)
    assert decided is better
    assert said in why


def test_without_a_dev_item_in_common_nobody_is_promoted(tmp_path: Path) -> None:
    one = dev_folder(tmp_path / "one", [False] * 8)
    other = dev_folder(tmp_path / "two", [True] * 8, first=8)
    assert compare_on_dev(one, other) == (
        False,
        "the two have no dev item in common, so they are not comparable",
    )
    assert not compare_on_dev(one, tmp_path).promoted


def test_a_champion_gives_way_only_to_a_better_one(
    run: Run, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = register(run.info.run_id, None, "champion").message
    assert said == "registered; alias champion is at version 1"
    assert version(NAME, 1).tags["isogloss.promotion"] == "the first champion"
    second = trained(model_folder("gemma3"), seed=1)
    said = register(second.info.run_id, None, "champion").message
    stays = "registered; NOT promoted, alias champion stays at version 1: not shown to be better on"
    assert said.startswith(f"{stays} the 6 shared dev items")
    assert aliases()["champion"] == "1"
    assert "not shown" in version(NAME, 2).tags["isogloss.promotion"]
    monkeypatch.setattr(
        "isogloss.registry.register.compare_on_dev", lambda *_: Promotion(True, "better, by decree")
    )
    said = register(f"models:/{NAME}/2", None, "champion").message
    became = "alias champion is at version 2, until now at version 1: better, by decree"
    assert said == f"registered before; {became}"
    assert aliases()["champion"] == "2"
    again = register(f"models:/{NAME}/2", None, "champion").message
    assert again == "registered before; alias champion is at version 2"


def test_more_dev_items_are_another_run_of_the_same_adapter(
    run: Run, model_folder: Callable[[str], Path]
) -> None:
    more = trained(model_folder("gemma3"), dev_limit=8)
    assert more.info.run_id != run.info.run_id
    assert more.data.tags["isogloss.adapter"] == run.data.tags["isogloss.adapter"]
    with adapter_folder(more.info.run_id) as folder:
        assert len(pd.read_parquet(folder / DEV_PREDICTIONS)) == 8


def test_a_run_that_points_to_another_stands_for_it(run: Run) -> None:
    with mlflow.start_run() as pointing:
        mlflow.set_tag("isogloss.reuses", run.info.run_id)
    assert model_uri(pointing.info.run_id) == run.data.tags["isogloss.adapter_uri"]
