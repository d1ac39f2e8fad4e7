"""What goes to spreadsheets, to the Hub and to a server's memory."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from isogloss.analysis.frames import csv_text
from isogloss.config import FinetuneConfig
from isogloss.files import file_lock, make_cache_dir, whole_folder, write_whole
from isogloss.models.cached_folder import cached_folder
from isogloss.models.locate import ModelLocation
from isogloss.prompts.answer_parser import answer_start, parse_answer
from isogloss.registry.cards import licence_of, without_header
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("-2.5", "-2.5"),
        ("a=b", "a=b"),
    ],
)
def test_no_cell_of_a_table_is_a_formula(name: str, cell: str) -> None:
    text = csv_text(pd.DataFrame({"model": [name], "gain": [-0.25]}))
    assert text == f"model,gain\n{cell},-0.25\n"


def test_rules_in_a_card_do_not_end_its_header(tmp_path: Path) -> None:
    assert without_header("---\nbase_model: /data/a---b\n---\n\n# Card\n\n---\n") == "# Card\n\n---"
    (tmp_path / "README.md").write_text("---\nbase: a---b\nlicense: mit\n---\n# x\n")
    assert licence_of(ModelLocation("m", tmp_path, "0")) == "mit"
    (tmp_path / "README.md").write_text("---\nlicense: &a [*a]\n---\n")
    assert licence_of(ModelLocation("m", tmp_path, "0")) == "unknown"


@pytest.mark.parametrize("text", ["Answer: ", "answer is ", "A or B ", "1) ", "(A) ", "**Answer**"])
def test_a_text_that_repeats_itself_is_read_in_seconds(text: str) -> None:
    begun = time.monotonic()
    parse_answer(text * 2048, ("one", "two", "three", "four"))
    answer_start(text * 2048)
    assert time.monotonic() - begun < 5
    assert parse_answer(text * 200 + "\nAnswer: B", ("one", "two", "three", "four")) == 1


def test_the_cache_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "new" / "cache"))
    assert make_cache_dir().stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "shared"))
    assert make_cache_dir().stat().st_mode & 0o777 == 0o755


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """New files can be read by all users."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of all files in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in files}


def fill(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_text("w")


def write_everything(cache: Path) -> None:
    write_whole(cache / "whole", b"a")
    with whole_folder(cache / "adapters" / "one") as part:
        fill(part)
    cached_folder(cache / "model", fill)
    with file_lock(cache / "lock"):
        pass


@pytest.mark.usefixtures("usual_umask")
def test_files_of_a_private_cache_are_its_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    write_everything(make_cache_dir())
    found = modes(tmp_path / "cache")
    assert set(found.values()) == {0o600}
    assert found.keys() == {
        "whole", "adapters/one/weights", "model/weights", "model/digests.json", "model.lock", "lock",
    }  # fmt: skip
    write_whole(tmp_path / "elsewhere", b"a")
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o644


@pytest.mark.usefixtures("usual_umask")
def test_files_of_a_cache_that_a_group_shares_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(mode=0o755)
    write_everything(make_cache_dir())
    assert set(modes(tmp_path / "cache").values()) == {0o644}


@pytest.mark.usefixtures("usual_umask")
def test_unfinished_work_is_its_owners_alone_and_results_are_not(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISOGLOSS_UNFINISHED")
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    config = FinetuneConfig(
        model=str(model_folder("gemma3")), dtype="float32", steps=2, batch_size=2, rank=2, limit=4,
        dev_limit=2, checkpoint_every=1,
    )  # fmt: skip

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("isogloss.stages.finetune._log_adapters", interrupt)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, Session(config.model, "float32"))
    left = modes(tmp_path / "cache")
    assert set(left.values()) == {0o600}, left
    names = {Path(name).name for name in left}
    assert {"run.json", "metrics.jsonl", "adapter_model.safetensors"} <= names
    run = finetune(config, Session(config.model, "float32"))
    folder = Path(mlflow.artifacts.download_artifacts(run.data.tags["isogloss.adapter_uri"]))
    assert set(modes(folder).values()) == {0o644}
