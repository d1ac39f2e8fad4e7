"""Environment variables of nothing or nonsense: one sentence that names them, and no traceback."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result

from isogloss.cli.main import program
from isogloss.errors import ConfigError
from isogloss.tracking.server import server_timeout

REFUSED = [
    ("MLFLOW_TRACKING_URI", "nonsense://host"),
    ("MLFLOW_TRACKING_URI", "\N{SNOWMAN}"),
    ("MLFLOW_EXPERIMENT_ID", "nonsense"),
    ("MLFLOW_EXPERIMENT_ID", "9" * 100),
    ("MLFLOW_EXPERIMENT_ID", "-1"),
    ("MLFLOW_EXPERIMENT_NAME", "a" * 1000),
    ("MLFLOW_RUN_ID", "nonsense"),
    ("MLFLOW_RUN_ID", "0" * 32),
    ("MLFLOW_RUN_ID", "x" * 1000),
    ("ISOGLOSS_CACHE", "{file}"),
    ("ISOGLOSS_CACHE", "{file}/below"),
    ("ISOGLOSS_UNFINISHED", "{file}"),
    ("ISOGLOSS_UNFINISHED", "/proc/nowhere"),
    ("ISOGLOSS_LEASES", "nonsense"),
    ("ISOGLOSS_LEASES", "mysql+pymysql://me:s3cret@host/leases"),
    ("ISOGLOSS_LEASES", "postgresql+psycopg2://me:s3cret@of:s3cret/x@host/leases"),
    ("ISOGLOSS_LEASES", "postgresql+psycopg2://host:port/leases"),
    ("MLFLOW_TRACKING_URI", "postgresql+psycopg2://me:s3cret@of:s3cret/x@host/store"),
    ("MLFLOW_TRACKING_URI", "postgresql+psycopg2://me:s3cret@of@host/store"),
]
# What an evaluation into a local store has no use for.
UNUSED = [
    ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "many"),
    ("MLFLOW_HTTP_REQUEST_TIMEOUT", "long"),
    ("ISOGLOSS_PATIENCE", "a while"),
]


def evaluate(
    name: str, value: str, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Result:
    (folder / "file").write_text("not a folder", encoding="utf-8")
    mlflow.set_tracking_uri(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv(name, value.format(file=folder / "file"))
    arguments = ["--model", str(model), "--languages", "heb_Hebr", "--limit", "1"]
    return CliRunner().invoke(program, ["evaluate", *arguments])


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_nonsense_in_the_environment_is_refused_by_name(
    name: str,
    value: str,
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = evaluate(name, value, model_folder("llama"), tmp_path, monkeypatch)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2
    assert name in result.output
    assert "s3cret" not in result.output
    assert len(result.output) < 1000


@pytest.mark.parametrize(("name", "value"), UNUSED)
def test_nonsense_that_is_not_used_does_no_harm(
    name: str,
    value: str,
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = evaluate(name, value, model_folder("llama"), tmp_path, monkeypatch)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("value", ["a while", "-1", "inf", "nan"])
def test_a_patience_that_is_no_time_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_PATIENCE", value)
    with pytest.raises(ConfigError, match="ISOGLOSS_PATIENCE must be a number of seconds"):
        server_timeout()
