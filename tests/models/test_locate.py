"""Locations of models: folders, the Hub, GGUF files; unknown names are rejected."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from isogloss.errors import ModelError
from isogloss.models.loading import load
from isogloss.models.locate import locate, require_known


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
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: pytest.fail("asked"))
        require_known(f"someone/tiny{revision}")
    location = locate(f"someone/tiny{revision}")
    assert (location.name, location.revision) == ("someone/tiny", commit)
    assert load(location, "float32").network.config.model_type == "llama"


@pytest.mark.parametrize(
    "name",
    ["no/such-model", "nowhere", "missing.gguf", "bad//name", "no/such@v1", "/no/such/folder"],
)
def test_an_unknown_model_is_rejected_by_name_before_it_is_looked_for_in_earnest(name: str) -> None:
    with pytest.raises(ModelError, match=name) as located:
        locate(name)
    with pytest.raises(ModelError) as known:
        require_known(name)
    assert str(known.value) == str(located.value)


def test_a_model_that_the_hub_has_is_known_and_not_downloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **name: asked.append(name))
    monkeypatch.setattr(
        "isogloss.models.locate._from_hub", lambda _: pytest.fail("a model is downloaded")
    )
    require_known("someone/large@v2")
    assert asked == [{"revision": "v2"}]
    require_known("embedded")


def test_a_folder_without_a_model_is_rejected(tmp_path: Path) -> None:
    for find in (locate, require_known):
        with pytest.raises(ModelError, match=r"config\.json"):
            find(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    for find in (locate, require_known):
        with pytest.raises(ModelError, match="has no weights in safetensors"):
            find(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    require_known(str(tmp_path))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(locate(str(tmp_path)))
