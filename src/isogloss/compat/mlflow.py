"""MLflow: a model logged without being loaded, a run left open, the HTTP status behind an error.

`mlflow.pyfunc.log_model` loads the logged model, including its base, to try the input example.
Relies on `Model.log`, its switch `validate_serving_input`, and on it handing that switch to the
flavor too. It also compares the requirements with what is installed, for which it reads the files
of all installed packages; relies on `mlflow.utils.environment` holding the function. A model that
a killed process has begun to log is logged on under its id; `Model.log` then calls
`MlflowClient.log_outputs`, which keeps what it is given as often as it is given.

`mlflow.end_run` writes a status. A run that another process has resumed must keep its status, so
it is removed from the list of this thread's open runs (`fluent._active_run_stack`).

Names that MLflow makes up consist of the words of `name_utils`.

MLflow gives up on a locked sqlite database after 20 seconds: each of its sessions sets
`PRAGMA busy_timeout`, which `wait_for_sqlite` replaces.

`mlflow models serve` answers 500 to JSON that is nested more deeply than Python's stack and to
bytes that are not of the stated type, and reads requests of any size. Relies on the scoring server
calling its function `invocations` for every request, and on it making its FastAPI application when
the model has been loaded.

MLflow's exceptions have no HTTP status, and those of failed downloads no `errno`; the texts that
its clients write do. The revisions of its database's schema are the files of
`mlflow.store.db_migrations`.
"""

import re
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, nullcontext
from functools import wraps
from importlib.resources import files
from typing import Any, TypeAlias

import mlflow
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.models import Model
from mlflow.models.model import ModelInfo
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.tracking import fluent
from mlflow.utils import environment, name_utils
from sqlalchemy import event
from sqlalchemy.engine import Engine

from isogloss.compat import public_only
from isogloss.formatting import shortened

# As ASGI defines them: a connection, an event, and how the application receives and sends events.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

LONGEST_MESSAGE = 2000  # characters of a scoring server's error
LOG_OUTPUTS = "log_outputs"  # a method of MLflow's client
CHECK = "warn_dependency_requirement_mismatches"


class _Pyfunc:
    """The pyfunc flavor without its `log_model`."""

    @staticmethod
    def save_model(*, validate_serving_input: bool, **arguments: object) -> None:
        """Save a model; `validate_serving_input` is for `Model.log` alone."""
        with _silenced(environment, CHECK):
            mlflow.pyfunc.save_model(**arguments)


def log_model(*, model_id: str | None = None, **arguments: object) -> ModelInfo:
    """Log a model from code as `mlflow.pyfunc.log_model` does, without trying its example.

    `arguments` are those of `mlflow.pyfunc.log_model`; its requirements must be what is installed.
    `model_id` is a model of the active run that a killed process has begun to log.
    """
    if public_only():
        info: ModelInfo = mlflow.pyfunc.log_model(model_id=model_id, **arguments)
        return info
    run = mlflow.active_run()
    outputs = mlflow.get_run(run.info.run_id).outputs if run and model_id else None
    linked = {output.model_id for output in (outputs.model_outputs if outputs else ())}
    # Models that a run has as outputs would become its outputs once more.
    with _silenced(mlflow.MlflowClient, LOG_OUTPUTS) if model_id in linked else nullcontext():
        info = Model.log(
            artifact_path=None,
            flavor=_Pyfunc,
            flavor_name="pyfunc.ModelFromCode",
            validate_serving_input=False,
            model_id=model_id,
            **arguments,
        )
    return info


@contextmanager
def _silenced(owner: object, name: str) -> Iterator[None]:
    """Context in which a function of MLflow does nothing."""
    function = getattr(owner, name)
    setattr(owner, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(owner, name, function)


def leave_run() -> None:
    """Close the active run in this process and leave it in the store as it is."""
    if public_only():
        run = mlflow.active_run()
        if run is not None:
            mlflow.end_run(mlflow.get_run(run.info.run_id).info.status)
        return
    open_runs = fluent._active_run_stack.get()
    if open_runs:
        open_runs.pop()


_BUSY_TIMEOUT = "PRAGMA busy_timeout"
MLFLOWS_WAIT = 20
_wait: list[int] = []  # seconds in place of MLflow's


def wait_for_sqlite(seconds: int) -> None:
    """Let every connection to a sqlite database wait that long while another process locks it."""
    if not _wait:
        event.listen(Engine, "connect", _connected)
        event.listen(Engine, "before_cursor_execute", _replaced, retval=True)
    _wait[:] = [seconds]


def sqlite_wait() -> int:
    """Seconds that a connection to a sqlite database waits while another process locks it."""
    return _wait[0] if _wait else MLFLOWS_WAIT


def _statement() -> str:
    return f"{_BUSY_TIMEOUT} = {1000 * sqlite_wait()};"


def _connected(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute(_statement())


def _replaced(
    _connection: object, _cursor: object, statement: str, parameters: object, *_: object
) -> tuple[str, object]:
    ours = statement.startswith(_BUSY_TIMEOUT)
    return (_statement() if ours else statement), parameters


_ERRNO = re.compile(r"\[Errno (\d+)\]")
_STATUS = re.compile(r"failed with error code (\d{3})\b|too many (\d{3}) error responses")
_NOT_JSON = "API request to endpoint was successful but the response body was not"


def limit_requests(most_bytes: int) -> None:
    """Let the scoring server that this process is about to start refuse what it cannot read.

    A request of more than `most_bytes` is answered with 413, before all of it has arrived; one
    without a type with 415; JSON that is nested too deeply, and bytes that are not of the stated
    type, with 400.
    """
    # They take long to import, and servers alone need them.
    import fastapi
    from fastapi.responses import JSONResponse
    from mlflow.pyfunc import scoring_server

    if public_only() or hasattr(scoring_server.invocations, "__wrapped__"):
        return
    answer = scoring_server.invocations

    @wraps(answer)
    def invocations(data: bytes, content_type: str | None, *others: object) -> object:
        try:
            return answer(data, content_type or "", *others)  # type: ignore[no-untyped-call]
        except MlflowException as error:
            error.message = shortened(error.message, LONGEST_MESSAGE)  # it may quote the request
            raise
        except RecursionError as error:
            raise MlflowException(
                "Invalid input. Its lists and objects are nested too deeply; expected rows with "
                "passage, question and options.",
                error_code=BAD_REQUEST,
            ) from error
        except Exception as error:  # of a parser; MLflow has one for each content type
            raise MlflowException(
                f"Invalid input. It cannot be read as {content_type} ({error!s:.200}).",
                error_code=BAD_REQUEST,
            ) from error

    class BoundedApp(fastapi.FastAPI):
        """An application that takes a request when no more than `most_bytes` have arrived."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            parts, length, more = [], 0, scope["type"] == "http"
            while more and length <= most_bytes:
                message = await receive()
                parts.append(message.get("body", b""))
                length += len(parts[-1])
                more = message.get("more_body", False)
            if length > most_bytes:
                reason = f"A request has at most {most_bytes:,} bytes; send fewer rows."
                await JSONResponse({"message": reason}, 413)(scope, receive, send)
                return
            whole = iter([{"type": "http.request", "body": b"".join(parts)}])

            async def received() -> Message:
                return next(whole, None) or await receive()

            await super().__call__(scope, received if scope["type"] == "http" else receive, send)

    scoring_server.invocations = invocations
    fastapi.FastAPI = BoundedApp  # type: ignore[misc]


def http_status(error: BaseException | None) -> int | None:
    """The HTTP status of an answer that is not MLflow's own, such as that of a proxy.

    None if there was no answer, or one that MLflow wrote (RestException).
    """
    response = getattr(error, "response", None)
    if isinstance(error, requests.RequestException) and response is not None:
        return int(response.status_code)
    if isinstance(error, RestException) or not isinstance(error, MlflowException):
        return None
    found = _STATUS.search(error.message)
    return int(found[1] or found[2]) if found else None


def errno_of(error: BaseException) -> int | None:
    """The number of an operating system's error, also if MLflow or shutil has made a text of it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _ERRNO.search(str(error)) if isinstance(error, MlflowException | shutil.Error) else None
    return int(found[1]) if found else None


def is_foreign_page(error: BaseException | None) -> bool:
    """Whether the server answered with success and a page that is not MLflow's."""
    return isinstance(error, MlflowException) and error.message.startswith(_NOT_JSON)


_RANDOM = re.compile(r"([a-z]+)-([a-z]+)-\d{1,4}")


def is_random_name(name: str) -> bool:
    """Whether MLflow made up the name of a run, as peaceful-rat-822."""
    found = _RANDOM.fullmatch(name)
    if found is None or public_only():
        return found is not None
    return found[1] in name_utils._GENERATOR_PREDICATES and found[2] in name_utils._GENERATOR_NOUNS


def knows_schema(revision: str) -> bool:
    """Whether the installed MLflow has a revision of the schema of its database."""
    versions = files("mlflow.store.db_migrations") / "versions"
    return any(path.name.startswith(f"{revision}_") for path in versions.iterdir())
