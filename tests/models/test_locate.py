"""Locations of models: folders, the Hub, GGUF files; unknown names are rejected."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from isogloss.errors import ModelError
from isogloss.models.loading import load
from isogloss.models.locate import locate


def test_the_revision_of_a_folder_is_a_digest_of_its_content(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = model_folder("gemma3")
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert locate(str(folder)).revision == locate(str(copy)).revision
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert locate(str(folder)).revision != locate(str(copy)).revision


@pytest.mark.parametrize("revision", ["", "@main", "@v1"])
def test_a_hub_name_with_and_without_revision_loads_from_the_hub_cache(
    revision: str,
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(model_folder("llama"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    for name in ("main", "v1"):
        (repository / "refs" / name).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    location = locate(f"someone/tiny{revision}")
    assert (location.name, location.revision) == ("someone/tiny", commit)
    assert load(location, "float32").network.config.model_type == "llama"


@pytest.mark.parametrize("name", ["no/such-model", "nowhere", "missing.gguf", "bad//name"])
def test_an_unknown_model_is_rejected_by_name(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        locate(name)


def test_a_folder_without_a_model_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        locate(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="has no weights in safetensors"):
        locate(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(locate(str(tmp_path)))
