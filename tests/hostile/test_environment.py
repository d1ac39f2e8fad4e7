"""Environment variables of nothing or nonsense: one sentence that names them, and no traceback."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from isogloss.cli.main import program

NONSENSE = [
    ("MLFLOW_TRACKING_URI", "nonsense://host"),
    ("MLFLOW_TRACKING_URI", "postgresql://"),
    ("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all/mlflow.db"),
    ("MLFLOW_TRACKING_URI", "\N{SNOWMAN}"),
    ("MLFLOW_EXPERIMENT_ID", "nonsense"),
    ("MLFLOW_EXPERIMENT_ID", "9" * 100),
    ("MLFLOW_EXPERIMENT_ID", "-1"),
    ("MLFLOW_EXPERIMENT_NAME", "a" * 1000),
    ("MLFLOW_RUN_ID", "nonsense"),
    ("MLFLOW_RUN_ID", "0" * 32),
    ("MLFLOW_RUN_ID", "x" * 1000),
    ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "many"),
    ("MLFLOW_HTTP_REQUEST_TIMEOUT", "long"),
    ("ISOGLOSS_PATIENCE", "a while"),
    ("ISOGLOSS_PATIENCE", "-1"),
    ("ISOGLOSS_PATIENCE", "inf"),
    ("ISOGLOSS_PATIENCE", "nan"),
    ("ISOGLOSS_CACHE", "{file}"),
    ("ISOGLOSS_CACHE", "{file}/below"),
    ("ISOGLOSS_UNFINISHED", "{file}"),
    ("ISOGLOSS_UNFINISHED", "/proc/nowhere"),
    ("ISOGLOSS_LEASES", "nonsense"),
]


@pytest.mark.parametrize(("name", "value"), NONSENSE)
def test_nonsense_in_the_environment(
    name: str,
    value: str,
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    import mlflow

    mlflow.set_tracking_uri(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv(name, value.format(file=tmp_path / "file"))
    arguments = ["--model", str(model_folder("llama")), "--languages", "heb_Hebr", "--limit", "1"]
    result = CliRunner().invoke(program, ["evaluate", *arguments])
    print(result.output[-1500:])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    if result.exit_code:
        assert result.exit_code == 2
        assert name.split("_")[0] in result.output or value[:10] in result.output
