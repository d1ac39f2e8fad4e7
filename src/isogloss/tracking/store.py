"""The store that MLflow's address names: created by one process at a time, and checked before use.

MLflow creates the tables of a database when it is first opened. Processes that do so at the same
time make each other fail, and may leave a database that none can open.
"""

import time
import uuid
from typing import NamedTuple
from urllib.parse import urlsplit

import mlflow
from alembic.util.exc import CommandError
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from isogloss.compat.mlflow import knows_schema, wait_for_sqlite
from isogloss.errors import TrackingError
from isogloss.files import PART, require_database_url, sqlite_file, sqlite_lock
from isogloss.tracking.server import LOCKED, reason, shown_uri

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
ACCEPTED = "http://, https://, sqlite:///, postgresql://, mysql://, mssql:// and databricks"
ATTEMPTS = 3  # to open a database that is half created
PAUSE = 2.0  # seconds between two of them


def ensure_store() -> None:
    """Open MLflow's database, and create it if it is new; of a server only the address is checked.

    Raises TrackingError in one sentence if MLflow cannot use the address or the database.
    """
    uri = mlflow.get_tracking_uri()
    parts = urlsplit(uri)
    wait_for_sqlite(LOCKED)
    if parts.scheme.partition("+")[0] in DATABASES:
        require_database_url("MLFLOW_TRACKING_URI", uri)
        _ensure_database(uri)
        return
    cause = None
    try:
        MlflowClient()
        if parts.netloc or parts.scheme not in ("http", "https"):
            return
    except MlflowException as error:
        cause = error
    folder = parts.scheme in ("", "file")
    why = "names a folder, in which MLflow keeps no runs any more" if folder else "is none of them"
    raise TrackingError(
        f"MLFLOW_TRACKING_URI must begin with one of {ACCEPTED}, but {shown_uri()!r} {why}."
    ) from cause


def _ensure_database(uri: str) -> None:
    for attempt in range(ATTEMPTS):
        try:
            with sqlite_lock(uri):
                _create_sqlite(uri)
                MlflowClient().search_experiments(max_results=1)
            return
        except ModuleNotFoundError as error:
            raise TrackingError(
                f"MLflow at {shown_uri()} needs the Python package {error.name!r}, which is not "
                f"installed; install it, or name another driver, as postgresql+psycopg2:// does."
            ) from error
        except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:
            state = _state(uri)
            if state is not None and state.runs == 0 and attempt < ATTEMPTS - 1:
                time.sleep(PAUSE)  # a program that does not lock may be creating it
                continue
            raise TrackingError(_explanation(uri, state, error)) from error


def _create_sqlite(uri: str) -> None:
    """Create a new sqlite database under another name, so that it appears with all its tables."""
    path = sqlite_file(uri)
    if path is None or (path.is_file() and path.stat().st_size):
        return
    path = path.absolute()
    for left in path.parent.glob(f"{path.name}.*{PART}"):  # by a process that was killed
        left.unlink(missing_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        MlflowClient(f"sqlite:///{part}").search_experiments(max_results=1)
        if not (path.is_file() and path.stat().st_size):  # by a program that does not lock
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class _State(NamedTuple):
    """The revision of a database's schema, and its number of runs."""

    revision: str | None
    runs: int


def _state(uri: str) -> _State | None:
    """The state of a database; None if it cannot be opened at all."""
    try:
        with create_engine(uri).connect() as connection:
            tables = inspect(connection).get_table_names()
            revision = runs = None
            if "alembic_version" in tables:
                query = text("SELECT version_num FROM alembic_version")
                revision = connection.execute(query).scalar()
            if "runs" in tables:
                runs = connection.execute(text("SELECT COUNT(*) FROM runs")).scalar()
            return _State(revision, runs or 0)
    except (SQLAlchemyError, OSError):
        return None


def _explanation(uri: str, state: _State | None, error: BaseException) -> str:
    """Why a database cannot be used, in one sentence."""
    subject, version = f"MLflow's database {shown_uri()}", mlflow.__version__
    if state is None:
        return f"{subject} cannot be opened ({reason(error)})."
    if state.revision is not None and not knows_schema(state.revision):
        return (
            f"{subject} was made by a newer MLflow than {version} (schema {state.revision}); "
            f"install that version."
        )
    if state.runs == 0:
        return (
            f"{subject} is only half created (schema {state.revision}), because another program "
            f"created it at the same time or was killed meanwhile; it has no runs: delete "
            f"{sqlite_file(uri) or 'it'} and run the command again."
        )
    return (
        f"{subject} was made by an older MLflow than {version} (schema {state.revision}), or its "
        f"upgrade was interrupted; make a copy of it and run `mlflow db upgrade {shown_uri()}`."
    )
