"""Commands with one option per field of a configuration, and errors in one sentence."""

import atexit
import errno
import gc
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import click
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from isogloss import logs
from isogloss.cli.interruptions import interruptions
from isogloss.config import as_text, command_line, explain, is_separated
from isogloss.errors import IsoglossError
from isogloss.files import make_room, temporary_files
from isogloss.formatting import shortened, without_password

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=BaseModel)

SETTINGS: dict[str, object] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "token_normalize_func": lambda name: name.replace("-", "_"),  # --data-dir is --data_dir
}
# Errors of the machine: a full disk, a file or folder that must not be written.
CORRECTABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
CHATTY = ("alembic", "bitsandbytes", "datasets", "httpx", "mlflow", "transformers")


PROJECT_RUN = "MLFLOW_RUN_ID"  # the run that `mlflow run` has opened
LONGEST_MESSAGE = 4000  # characters
# Seconds in which the first process reports an error that all have: torchrun ends them all as soon
# as one has ended.
UNTIL_REPORTED = 15.0
# By module: an error of one that was never imported cannot have been raised.
SERVER_ERRORS = (
    ("mlflow.exceptions", "MlflowException"),
    ("requests", "RequestException"),
    ("sqlalchemy.exc", "SQLAlchemyError"),
)
LONG_WORD = re.compile(r"\S{201,}")  # a value that somebody has named; prose has no such words


class UserError(click.ClickException):
    """An error in one sentence, without passwords, of a readable length."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        shown = LONG_WORD.sub(lambda word: shortened(word[0]), without_password(message))
        super().__init__(shortened(shown, LONGEST_MESSAGE))


def stage_command(
    name: str,
    config_class: type[C],
    run: Callable[[C], None],
    arguments: Sequence[str] = (),
    left_out: Sequence[str] = (),
    answer: Callable[[C], Callable[[], object] | None] | None = None,
) -> click.Command:
    """The command of an entry point: it fills `config_class` from its options and calls `run`.

    Fields in `arguments` are given by position, those in `left_out` not at all. `answer` prints
    what needs no MLflow, before its database is opened, and returns what is called in place of
    `run` to record it; None if nothing can be answered without MLflow. User errors
    (IsoglossError, an unknown option, an invalid value) exit with status 2 and one sentence,
    without a traceback.
    """

    def callback(verbose: bool, quiet: bool, **options: str | tuple[str, ...]) -> None:
        set_verbosity(verbose, quiet)
        try:
            config = config_class.model_validate(
                {parameter: _given(value) for parameter, value in options.items()}
            )
        except ValidationError as error:
            raise click.UsageError(explain(error, config_class)) from error
        except IsoglossError as error:  # about a value that a message must not quote
            raise UserError(str(error)) from error
        logger.debug(command_line(name, config))
        follower = os.environ.get("RANK", "0") != "0"
        with nullcontext() if follower else interruptions(), user_errors():
            _open(config, say=not follower)
            with server_errors():
                if "LOCAL_RANK" not in os.environ:
                    _run(name, run, config, answer)
                    return
                from isogloss.distributed import processes  # torch takes seconds

                processes.run_on_leader(lambda: _run(name, run, config, answer))

    positional = [click.Argument([argument]) for argument in arguments]
    options = [
        _option(parameter, field)
        for parameter, field in config_class.model_fields.items()
        if parameter not in (*arguments, *left_out)
    ]
    return click.Command(
        name=name,
        callback=callback,
        help=config_class.__doc__,
        params=[*positional, *options, *verbosity_options()],
        context_settings=SETTINGS,
    )


def _open(config: BaseModel, *, say: bool) -> None:
    """Refuse what can be refused, and say what is done, before slow libraries are imported."""
    from isogloss.stages.opening import opening, require_models  # not for --help

    line = opening(config)
    if line and say:
        logger.info(line)
    require_models(config)
    if line and say:
        logger.info("loading libraries")  # which is silent for seconds


def _run(
    name: str,
    run: Callable[[C], None],
    config: C,
    answer: Callable[[C], Callable[[], object] | None] | None,
) -> None:
    with temporary_files():
        record = answer(config) if answer else None
        from isogloss.tracking.store import ensure_store  # imports MLflow

        ensure_store()
        if os.environ.get(PROJECT_RUN):
            from isogloss.tracking.project_run import name_at_start

            name_at_start(name)
        if record:
            record()
        else:
            run(config)


def _option(parameter: str, field: FieldInfo) -> click.Option:
    """The option of a field; one with several values may be repeated."""
    several = is_separated(field)
    default = None if field.is_required() else as_text(parameter, field.default)
    return click.Option(
        [f"--{parameter}"],
        required=field.is_required(),
        multiple=several,
        default=[default] if several and default is not None else default,
        show_default=True,
        help=field.description,
    )


def _given(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """A value as it was given: a single one of a repeatable option may be a list in itself."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def verbosity_options() -> list[click.Parameter]:
    """The options --verbose and --quiet, for `set_verbosity`."""
    return [
        click.Option(
            ["--verbose", "-v"], is_flag=True, help="Also log details, and what libraries log."
        ),
        click.Option(["--quiet", "-q"], is_flag=True, help="Log warnings and errors only."),
    ]


def set_verbosity(verbose: bool, quiet: bool) -> None:
    """Configure logging for a command."""
    if verbose and quiet:
        raise click.UsageError("--verbose and --quiet exclude each other.")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if not verbose:  # keep the terminal for isogloss's own progress and results
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        # It logs the traceback of an error that is told in one sentence.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module=r"(mlflow|peft|torch|transformers)\b")
    logs.configure(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that a user can correct into one sentence and exit status 2."""
    try:
        yield
    except IsoglossError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        if error.errno not in CORRECTABLE:
            raise
        where = f": {error.filename}" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = f"; {make_room()}" if full and not where else ""
        raise UserError(f"{error.strerror}{where}{remedy}.") from error


@contextmanager
def server_errors() -> Iterator[None]:
    """Do the same with every error of MLflow and of its server."""
    try:
        yield
    except Exception as error:
        if not _is_server_error(error):
            raise
        from isogloss.tracking.server import sentence  # imports MLflow

        raise UserError(sentence(error)) from error


def _is_server_error(error: Exception) -> bool:
    return any(
        isinstance(error, getattr(sys.modules[module], name, ()))
        for module, name in SERVER_ERRORS
        if module in sys.modules
    )


def start(command: click.Command, name: str) -> None:
    """Run a command as a program; of several processes, only the first reports its errors."""
    # As it ends, Python would look for garbage in all that was imported, which takes a second.
    atexit.register(gc.freeze)
    if os.environ.get("RANK", "0") == "0":
        try:
            command.main(prog_name=name)
        except SystemExit as end:
            if end.code == UserError.exit_code and os.environ.get(PROJECT_RUN):
                from isogloss.tracking.project_run import mark_refused

                mark_refused(name)
            raise
        return
    try:
        command.main(prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        time.sleep(UNTIL_REPORTED)
        raise SystemExit(error.exit_code) from error
    except click.Abort as error:  # interrupted
        raise SystemExit(1) from error
