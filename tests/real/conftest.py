"""Fixtures: a tracking server like that of a team, an adapter of the embedded model."""

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

from isogloss.config import FinetuneConfig
from isogloss.registry.lookup import adapter_folder
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session

SCRIPT = Path(__file__).parents[2] / "scripts/tracking_server.py"


def call(command: str, folder: Path, *options: str) -> str:
    """What the script prints."""
    words = [sys.executable, str(SCRIPT), command, "--folder", str(folder), *options]
    result = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@dataclass(frozen=True)
class Server:
    """A running tracking server and the login of its administrator."""

    uri: str
    username: str
    password: str
    storage: str
    database_password: str
    folder: Path

    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.password,
            "PGPASSWORD": self.database_password,
        }

    @contextmanager
    def away(self) -> Iterator[None]:
        """An outage: MLflow is down, its database is not, and comes back with the same data."""
        call("stop", self.folder, "--only-mlflow")
        try:
            yield
        finally:
            call("start", self.folder)


@pytest.fixture(scope="session")
def tracking_server() -> Iterator[Server]:
    """MLflow with logins and proxied artifacts, and PostgreSQL behind it."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")):
        pytest.skip("a tracking server wants PostgreSQL: apt-get install postgresql")
    # Not in a folder of pytest's: when root runs the tests, user postgres has to get into it.
    folder = Path(tempfile.mkdtemp(prefix="isogloss-tracking-"))
    folder.chmod(0o755)
    try:
        printed = shlex.split(call("start", folder))
        variables = dict(word.split("=", 1) for word in printed if word != "export")
        yield Server(
            variables["MLFLOW_TRACKING_URI"],
            variables["MLFLOW_TRACKING_USERNAME"],
            variables["MLFLOW_TRACKING_PASSWORD"],
            variables["OPTUNA_STORAGE"],
            variables["PGPASSWORD"],
            folder,
        )
    finally:
        call("stop", folder)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the embedded model, trained for a few large steps."""
    folder = tmp_path_factory.mktemp("adapter")
    config = FinetuneConfig(
        steps=2, batch_size=1, limit=2, dev_limit=1, rank=4, learning_rate=5e-3, format="letter"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        run = finetune(config, Session.of(config))
        with adapter_folder(run.info.run_id) as found:
            shutil.copytree(found, folder / "trained")
        mlflow.set_tracking_uri(before)
    return folder / "trained"
