"""Command lines: one option for each field of a configuration, errors in one sentence."""

import logging
import os
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from isogloss import logs
from isogloss.config import as_text, explain
from isogloss.errors import IsoglossError

C = TypeVar("C", bound=BaseModel)


class _Mistake(click.ClickException):
    exit_code = 2


class _Command(click.Command):
    """One that says only once, of several processes of one command, what is wrong with it."""

    def main(self, *args: Any, **extra: Any) -> Any:
        if os.environ.get("RANK", "0") == "0":
            return super().main(*args, **extra)
        try:
            return super().main(*args, **{**extra, "standalone_mode": False})
        except click.ClickException as error:
            raise SystemExit(error.exit_code) from error
        except click.Abort as error:  # interrupted
            raise SystemExit(1) from error


def command(config_class: type[C], run: Callable[[C], None]) -> click.Command:
    """A command that fills `config_class` from its options and calls `run` with it.

    A mistake of the user's (IsoglossError, an unknown option, a value that cannot be) is printed
    and exits with status 2, without a traceback.
    """

    def callback(**options: Any) -> None:
        _quiet()
        logs.configure()
        try:
            config = config_class.model_validate(options)
        except ValidationError as error:
            raise click.UsageError(explain(error, config_class)) from error
        from mlflow.exceptions import MlflowException  # seconds, which --help does not need

        from isogloss.distributed import processes

        try:
            processes.run_on_leader(lambda: run(config))
        except IsoglossError as error:
            raise _Mistake(str(error)) from error
        except MlflowException as error:
            if said := _of_the_server(error):
                raise _Mistake(said) from error
            raise

    return _Command(
        name=config_class.__name__.removesuffix("Config").lower(),
        callback=callback,
        help=config_class.__doc__,
        params=[
            click.Option(
                [f"--{name}"],
                required=field.is_required(),
                default=None if field.is_required() else as_text(name, field.default),
                show_default=True,
                help=field.description,
            )
            for name, field in config_class.model_fields.items()
        ],
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def _of_the_server(error: Any) -> str | None:
    """A sentence on a tracking server that refuses or does not answer; None for other errors."""
    from mlflow import get_tracking_uri

    from isogloss.tracking.server import Failure, failure, reason

    where = f"MLflow at {get_tracking_uri()}"
    kind = failure(error)
    if kind == Failure.ACCESS_DENIED:
        return (
            f"{where} denies access ({reason(error)}); set MLFLOW_TRACKING_USERNAME and "
            f"MLFLOW_TRACKING_PASSWORD."
        )
    return f"{where} does not answer." if kind == Failure.NO_ANSWER else None


def _quiet() -> None:
    """Keep the terminal for progress and results: libraries' chatter is below warnings."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("alembic", "mlflow", "transformers", "datasets", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(mlflow|peft|torch|transformers)\b")
