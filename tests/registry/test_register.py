"""Registered versions: their lineage, descriptions, names and aliases."""

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from isogloss.config import EvaluateConfig, RegisterConfig
from isogloss.errors import ConfigError, ModelError
from isogloss.models.adapter_files import adapter_digest
from isogloss.registry.lookup import adapter_folder, logged_model
from isogloss.registry.promotion import Promotion
from isogloss.registry.register import register
from isogloss.stages.evaluate_adapters import run_evaluate
from isogloss.stages.register import run_register

NAME = "isogloss-probe-arb_Arab"
Train = Callable[..., Run]


def version(name: str, number: int) -> ModelVersion:
    return mlflow.MlflowClient().get_model_version(name, str(number))


def aliases(name: str = NAME) -> dict[str, str]:
    registered = mlflow.MlflowClient().get_registered_model(name)
    return {alias: str(version) for alias, version in registered.aliases.items()}


def write_task(folder: Path) -> Path:
    """A data set of 40 passages in Arabic."""
    folder.mkdir()
    rows = [
        {"passage": f"Passage {number}.", "question": "Which?", "options": ["one", "two"],
         "answer": 1 + number % 2}
        for number in range(40)
    ]  # fmt: skip
    (folder / "arb_Arab.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def evaluate(folder: Path, adapter: str | None) -> Run:
    """Evaluate the base model or an adapter; return the run."""
    run_evaluate(
        EvaluateConfig(
            model=str(folder), dtype="float32", adapter=adapter, limit=4,
            languages="heb_Hebr,eng_Latn",
        )
    )  # fmt: skip
    condition = "tuned" if adapter else "base"
    (run,) = mlflow.search_runs(
        filter_string=f"tags.`isogloss.condition` = '{condition}' AND "
        "tags.`isogloss.kind` = 'evaluate'",
        output_format="list",
    )
    return run


def test_a_version_has_the_tags_card_and_run_that_identify_how_it_was_made(finetuned: Run) -> None:
    registration = register(finetuned.info.run_id, None, "candidate")
    assert registration.uri == f"models:/{NAME}/1"
    assert registration.message == "registered; alias candidate is at version 1"
    registered = version(NAME, 1)
    assert registration.tags == registered.tags
    assert registered.run_id == finetuned.info.run_id
    for name in (
        "base_model", "base_revision", "source", "task", "data_digest", "dev_digest",
        "git_commit", "fingerprint", "adapter", "seed", "step",
    ):  # fmt: skip
        assert registered.tags[f"isogloss.{name}"], name
    for name in ("fingerprint", "data_digest", "dev_digest", "adapter", "source", "task"):
        assert registered.tags[f"isogloss.{name}"] == finetuned.data.tags[f"isogloss.{name}"]
    assert aliases() == {"candidate": "1"}
    assert mlflow.MlflowClient().get_registered_model(NAME).tags == {
        "isogloss.task": "probe", "isogloss.source": "arb_Arab",
    }  # fmt: skip
    with adapter_folder(registration.uri) as folder:
        card = (folder / "README.md").read_text("utf-8")
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "peft"
    assert header["base_model"] == finetuned.data.params["model"]
    for text in (
        "Standard Arabic",
        registered.tags["isogloss.base_revision"],
        "licence of the base",
        finetuned.data.tags["isogloss.data_digest"],
        "| cloze, prompts in english, chat template: false |",
        "## Intended use",
        "mlflow run . -e finetune --env-manager local -P model=",
        "-P steps=2",
        registered.tags["isogloss.git_commit"],
        "Registration adds what is known by then",
    ):
        assert text in card, text
    assert registered.description in card  # without the YAML header


def test_evaluations_are_on_the_models_page_and_in_the_card(
    finetuned: Run, model_folder: Callable[[str], Path]
) -> None:
    register(finetuned.info.run_id, None, "candidate")
    base = evaluate(model_folder("gemma3"), None)
    tuned = evaluate(model_folder("gemma3"), f"models:/{NAME}@candidate")
    model = mlflow.get_logged_model(str(logged_model(finetuned.data.tags["isogloss.adapter"])))
    assert model.source_run_id == finetuned.info.run_id
    metrics = {metric.key: metric for metric in model.metrics}
    assert {"dev/accuracy", "dev/gold_logprob", "accuracy/heb_Hebr", "accuracy/mean"} <= set(
        metrics
    )
    assert metrics["accuracy/heb_Hebr"].dataset_name == "probe-test"
    assert metrics["accuracy/heb_Hebr"].run_id == tuned.info.run_id
    assert model.tags["mlflow.note.content"].startswith("# ")
    inputs = mlflow.get_run(tuned.info.run_id).inputs
    assert [used.model_id for used in inputs.model_inputs] == [model.model_id]
    history = mlflow.MlflowClient().get_metric_history(finetuned.info.run_id, "dev/accuracy")
    assert [point.step for point in history] == [0, 1, 2]  # each logged once
    # Registered again, it is the same version, with the new results.
    assert register(f"models:/{NAME}@candidate", None, "candidate").uri == f"models:/{NAME}/1"
    card = version(NAME, 1).description
    row = (
        f"| probe | test | direct | Hebrew (`heb_Hebr`) | 4 | "
        f"{base.data.metrics['accuracy/heb_Hebr']:.3f} | "
        f"{tuned.data.metrics['accuracy/heb_Hebr']:.3f} | "
        f"{tuned.data.metrics['accuracy_se/heb_Hebr']:.3f} | `{tuned.info.run_id[:8]}` |"
    )
    assert row in card
    assert "Not evaluated" not in card
    with adapter_folder(f"models:/{NAME}/1") as folder:
        assert row in (folder / "README.md").read_text("utf-8")


def test_finetune_registers_a_candidate_once(train: Train) -> None:
    run = train(register_as="auto")
    assert aliases() == {"candidate": "1"}
    again = train(register_as="auto")
    assert again.info.run_id == run.info.run_id
    assert len(mlflow.MlflowClient().search_model_versions(f"name = '{NAME}'")) == 1


def test_a_champion_of_a_quick_training_is_named_as_such(train: Train) -> None:
    quick, full = train(quick=True), train()
    remark = "this adapter was trained with quick=true"
    assert remark in register(quick.info.run_id, None, "champion").message
    assert aliases() == {"champion": "1"}
    assert remark not in register(full.info.run_id, None, None).message
    tags = [version(NAME, number).tags.get("isogloss.quick") for number in (1, 2)]
    assert tags == ["true", None]


def test_a_run_of_register_is_named_by_model_source_and_task(
    finetuned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = mlflow.MlflowClient().create_run(
        finetuned.info.experiment_id, tags={"mlflow.project.entryPoint": "register"}
    )
    mlflow.MlflowClient().set_tag(opened.info.run_id, "mlflow.runName", "register")
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    run_register(RegisterConfig(adapter=finetuned.info.run_id))
    model = Path(finetuned.data.params["model"]).name
    name = mlflow.get_run(opened.info.run_id).info.run_name
    assert name == f"register · {model} on Standard Arabic, seed 0 · probe"


def test_a_registered_model_is_for_one_source_and_task(finetuned: Run, train: Train) -> None:
    register(finetuned.info.run_id, "mine", "candidate")
    other = train(source="eng_Latn")
    with pytest.raises(ModelError, match=r"'mine' is for probe and adapters tuned on arb_Arab"):
        register(other.info.run_id, "mine", "candidate")
    assert register(other.info.run_id, None, None).uri == "models:/isogloss-probe-eng_Latn/1"


def test_any_name_that_mlflow_accepts_has_one_version_of_an_adapter(finetuned: Run) -> None:
    for name in (
        "it's", "it's \"so\"", "back\\slash", "100%_of", "a;b", "`x`", "x' OR name LIKE '%"
    ):  # fmt: skip
        uris = [register(finetuned.info.run_id, name, None).uri for _ in range(2)]
        assert uris == [f"models:/{name}/1"] * 2
        with adapter_folder(uris[0]) as folder:
            assert adapter_digest(folder) == finetuned.data.tags["isogloss.adapter"]


def test_a_task_in_a_folder_with_a_quote_is_trained_registered_and_evaluated(
    model_folder: Callable[[str], Path], train: Train, tmp_path: Path
) -> None:
    data = write_task(tmp_path / 'it\'s "so"')
    settings = {
        "task": "files", "data_dir": str(data), "source": "arb_Arab", "register_as": "auto"
    }  # fmt: skip
    run = train(**settings)
    name = 'isogloss-it\'s "so"-arb_Arab'
    assert aliases(name) == {"candidate": "1"}
    assert train(**settings).info.run_id == run.info.run_id
    assert aliases(name) == {"candidate": "1"}
    config = EvaluateConfig(
        task="files", data_dir=str(data), model=str(model_folder("gemma3")), dtype="float32",
        adapter=f"models:/{name}@candidate", source="arb_Arab", languages="arb_Arab", limit=2,
    )  # fmt: skip
    assert run_evaluate(config) == run_evaluate(config)


def test_what_cannot_be_registered_is_refused_before_the_training(
    finetuned: Run, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(finetuned.info.run_id, "mine", None)
    monkeypatch.setattr("isogloss.stages.finetune.train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ModelError, match=r"'mine' is for probe and adapters tuned on arb_Arab"):
        train(source="eng_Latn", register_as="mine")
    data = write_task(tmp_path / "a:b")
    with pytest.raises(ConfigError, match="auto makes 'isogloss-a:b-arb_Arab' of the task's name"):
        train(task="files", data_dir=str(data), source="arb_Arab", register_as="auto")
    assert len(mlflow.search_runs(search_all_experiments=True)) == 1


def test_the_champion_is_replaced_only_by_a_better_adapter(
    finetuned: Run, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = register(finetuned.info.run_id, None, "champion").message
    assert message == "registered; alias champion is at version 1"
    assert version(NAME, 1).tags["isogloss.promotion"] == "the first champion"
    second = train(seed=1)
    message = register(second.info.run_id, None, "champion").message
    stays = "registered; NOT promoted, alias champion stays at version 1: not shown to be better on"
    assert message.startswith(f"{stays} the 6 shared dev items")
    assert aliases()["champion"] == "1"
    assert "not shown" in version(NAME, 2).tags["isogloss.promotion"]
    compared: list[list[bytes]] = []

    def promote(*folders: Path) -> Promotion:
        compared.append([(folder / "adapter_model.safetensors").read_bytes() for folder in folders])
        return Promotion(True, "better in this test")

    monkeypatch.setattr("isogloss.registry.promotion.compare_on_dev", promote)
    message = register(f"models:/{NAME}/2", None, "champion").message
    moved = "alias champion is at version 2, until now at version 1: better in this test"
    assert message == f"registered before; {moved}"
    assert aliases()["champion"] == "2"
    weights = []
    for run in (finetuned, second):
        with adapter_folder(run.info.run_id) as folder:
            weights.append((folder / "adapter_model.safetensors").read_bytes())
    assert compared == [weights]  # the champion first
    message = register(f"models:/{NAME}/2", None, "champion").message
    assert message == "registered before; alias champion is at version 2"


def test_an_alias_other_than_champion_moves_without_a_comparison(
    finetuned: Run, train: Train
) -> None:
    register(finetuned.info.run_id, None, "candidate")
    second = train(seed=1)
    message = register(second.info.run_id, None, "candidate").message
    assert message == "registered; alias candidate is at version 2"
    assert aliases() == {"candidate": "2"}


def test_a_model_that_isogloss_did_not_log_is_rejected() -> None:
    with mlflow.start_run():
        model = mlflow.initialize_logged_model(name="other")
    mlflow.finalize_logged_model(model.model_id, "READY")
    with pytest.raises(ModelError, match="was not logged by a finetune run of isogloss"):
        register(f"models:/{model.model_id}", None, None)


def test_what_a_killed_registration_left_of_a_description_is_deleted(finetuned: Run) -> None:
    register(finetuned.info.run_id, None, None)
    location = mlflow.get_logged_model(
        version(NAME, 1).source.removeprefix("models:/")
    ).artifact_location
    folder = Path(location.removeprefix("file://")) / "artifacts/adapter"
    whole = sorted(folder.iterdir())
    (folder / ".artifact.uploading.0jn5j4dk").write_text("# An ada")
    assert register(finetuned.info.run_id, None, None).message == "registered before"
    assert sorted(folder.iterdir()) == whole
