"""Whether a model can be scored is asked of transformers once per configuration."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from isogloss.errors import ModelError
from isogloss.models import architecture, kept_facts
from isogloss.models.architecture import require_scorable
from isogloss.models.locate import ModelLocation


@pytest.fixture
def folder(model_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder("llama"), tmp_path / "model"))


def test_a_configuration_is_checked_once_and_again_when_it_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    check = architecture.check_architecture
    monkeypatch.setattr(
        architecture,
        "check_architecture",
        lambda location: (checked.append(location.name), check(location))[1],
    )
    for name in ("first", "second"):
        require_scorable(ModelLocation(name, folder, ""))
    assert checked == ["first"]
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "bert"}), "utf-8")
    for name in ("third", "fourth"):  # what is refused is refused each time, by its own name
        with pytest.raises(ModelError, match=f"model '{name}' has the architecture"):
            require_scorable(ModelLocation(name, folder, ""))
    assert checked == ["first", "third", "fourth"]
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json"):
        require_scorable(ModelLocation("fifth", folder, ""))


def test_a_cache_that_cannot_be_written_to_keeps_nothing_and_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("isogloss.files.write_whole", full)
    require_scorable(ModelLocation("model", folder, ""))
    assert not list(kept_facts.cache_dir().iterdir())
