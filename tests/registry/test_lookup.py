"""Adapters are found by a folder, a run or a models:/ URI, and are the same adapter."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from isogloss.errors import ModelError
from isogloss.models.adapter_files import adapter_digest
from isogloss.registry.lookup import AdapterRef, adapter_folder, logged_model, model_uri

NAME = "isogloss-probe-arb_Arab"


def test_a_run_an_alias_a_version_and_a_folder_are_one_adapter(train: Callable[..., Run]) -> None:
    run = train(register_as="auto")
    digest = run.data.tags["isogloss.adapter"]
    for name in (run.info.run_id, f"models:/{NAME}@candidate", f"models:/{NAME}/1"):
        with adapter_folder(name) as folder:
            assert adapter_digest(folder) == digest
            with adapter_folder(str(folder)) as same:
                assert same == folder
            adapter = AdapterRef.in_folder(folder)
            assert adapter.digest == digest
            with adapter.folder() as same:
                assert same == folder


@pytest.mark.parametrize(
    "name", ["models:/absent@champion", "models:/absent/1", "models:/m-0000", "0" * 32, "nowhere"]
)
def test_an_adapter_that_does_not_exist_is_named(name: str) -> None:
    with pytest.raises(ModelError, match=f"adapter '{name}'"), adapter_folder(name):
        pass


def test_a_run_without_an_adapter_and_a_version_of_another_model_are_rejected(
    tmp_path: Path,
) -> None:
    with mlflow.start_run() as run:
        pass
    with pytest.raises(ModelError, match="has logged no adapter; expected a finetune run"):
        model_uri(run.info.run_id)
    client = mlflow.MlflowClient()
    client.create_registered_model("other")
    client.create_model_version("other", str(tmp_path))
    with (
        pytest.raises(ModelError, match="is not a logged model"),
        adapter_folder("models:/other/1"),
    ):
        pass


@pytest.mark.parametrize("link", ["reuses", "resumes"])
def test_a_run_that_links_to_another_stands_for_it(link: str) -> None:
    with mlflow.start_run() as finetuned:
        mlflow.set_tag("isogloss.adapter_uri", "models:/m-1")
    with mlflow.start_run() as linking:
        mlflow.set_tag(f"isogloss.{link}", finetuned.info.run_id)
    assert model_uri(linking.info.run_id) == "models:/m-1"


def test_the_newest_complete_logged_model_of_an_adapter_is_found() -> None:
    with mlflow.start_run() as run:
        ids = [
            mlflow.initialize_logged_model(
                name="adapter", source_run_id=run.info.run_id, tags={"isogloss.adapter": digest}
            ).model_id
            for digest in ("a1", "a1", "a1", "a2")
        ]
    for model_id in (ids[0], ids[1], ids[3]):
        mlflow.finalize_logged_model(model_id, "READY")
    assert logged_model("a1") == ids[1]
    assert logged_model("a3") is None
