"""A full folder for temporary files is named as what it is, and nothing is lost by it."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from logged_runs import log_runs
from synthetic_predictions import gains, tables

from isogloss.cli.main import program

pytestmark = pytest.mark.real

SMALL = 8  # kB: room for Python to try the folder, and not for a file of results
REASON = "No space left on device"


@pytest.fixture
def with_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], object]:
    """A context in which TMPDIR is a file system of its own, of so many kB."""
    folder = tmp_path / "full"
    folder.mkdir()
    privileged = [] if shutil.which("sudo") is None else ["sudo", "-n"]

    @contextmanager
    def mounted(size: int) -> Iterator[Path]:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k,mode=1777", "tmpfs", str(folder)]
        done = subprocess.run([*privileged, *command], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here ({done.stderr.strip()})")
        try:
            with monkeypatch.context() as patch:
                patch.setenv("TMPDIR", str(folder))
                patch.setattr(tempfile, "tempdir", None)
                yield folder
        finally:
            subprocess.run([*privileged, "umount", str(folder)], check=True)

    return mounted


def called(entry: str, **options: object) -> tuple[int, str]:
    """The exit status of a command and the last line of what it prints about errors."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    result = CliRunner().invoke(program, [entry, *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, (result.stderr.strip().splitlines() or [""])[-1]


def test_every_entry_point_names_it_and_succeeds_when_there_is_room(
    with_room, model_folder: Callable[[str], Path]
) -> None:
    model = {"model": model_folder("gemma3"), "dtype": "float32"}
    small = {"limit": 4, "dev_limit": 4, "steps": 2, "batch_size": 2, "rank": 2}
    log_runs(tables(gains(0.1, 0.05), n=40), study="s")

    evaluate = {**model, "limit": 4, "languages": "heb_Hebr,eng_Latn"}
    for entry, options in (("evaluate", evaluate), ("finetune", {**model, **small})):
        with with_room(SMALL) as folder:
            status, message = called(entry, **options)
        assert status == 2
        assert message.startswith(
            f"Error: this machine cannot write or open the files that are sent to MLflow ({REASON})"
            f"; make room, or set TMPDIR (now {folder}) to another folder; the results are in "
        )
        assert called(entry, **options)[0] == 0

    for size in (SMALL, 8 * SMALL):  # for no predictions, and for all but the report
        with with_room(size) as folder:
            status, message = called("compare", study="s")
        assert status == 2
        assert REASON in message
        assert f"set TMPDIR (now {folder}) to another folder" in message
    assert called("compare", study="s")[0] == 0

    (tuned,) = mlflow.search_runs(
        filter_string="tags.`isogloss.kind` = 'finetune'", output_format="list"
    )
    with with_room(SMALL):
        status, message = called("register", adapter=tuned.info.run_id, name="reader")
    assert status == 2
    assert message.endswith(f"cannot be fetched ({REASON}).")
    assert not mlflow.MlflowClient().search_model_versions("name = 'reader'")
    assert called("register", adapter=tuned.info.run_id, name="reader")[0] == 0
