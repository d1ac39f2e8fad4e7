"""Temporary files of a process are in one folder, which does not outlive the next process."""

import errno
import multiprocessing
import tempfile
import time
from pathlib import Path

import pytest

from isogloss.errors import ConfigError
from isogloss.files import temporary_files
from isogloss.process_ids import has_ended, machine, started_at, this_process


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_temporary_files_are_in_a_folder_of_the_process_and_deleted_with_it(root: Path) -> None:
    with temporary_files():
        path = Path(tempfile.mkstemp()[1])
        assert path.parent == root / f"isogloss-{this_process()}"
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not list(root.iterdir())
    assert tempfile.gettempdir() == str(root)


def test_those_of_a_killed_process_are_deleted_and_no_others(root: Path) -> None:
    context = multiprocessing.get_context("fork")
    killed, alive = (context.Process(target=time.sleep, args=(60,)) for _ in range(2))
    for process in (killed, alive):
        process.start()
    names = [f"{machine()}-{each.pid}-{started_at(each.pid or 0)}" for each in (killed, alive)]
    killed.kill()
    killed.join()
    assert [has_ended(name) for name in names] == [True, False]
    others = [names[1], f"{'0' * 40}-1-1", "tracking-x", f"{machine()}-x-1", machine()]
    for name in (names[0], *others):
        (root / f"isogloss-{name}").mkdir()
        (root / f"isogloss-{name}" / "half").touch()
    with temporary_files():
        pass
    assert {path.name for path in root.iterdir()} == {f"isogloss-{name}" for name in others}
    alive.kill()
    alive.join()


def test_without_a_folder_for_temporary_files_the_variable_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", fail)
    with (
        pytest.raises(ConfigError, match=r"no temporary file can be written .*; set TMPDIR"),
        temporary_files(),
    ):
        pass
