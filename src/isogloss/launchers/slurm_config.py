"""The backend configuration of Slurm jobs: a JSON file, given as `--backend-config FILE`."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, ValidationError
from pydantic_core import PydanticCustomError

from isogloss.config import explain
from isogloss.config.fields import Config
from isogloss.config.words import one_line
from isogloss.errors import ConfigError

# What the launcher itself sets, and what would make sbatch do something else.
OWN_OPTIONS = (
    "array", "chdir", "dependency", "export", "help", "job-name", "kill-on-invalid-dep",
    "open-mode", "output", "parsable", "quiet", "requeue", "no-requeue", "test-only", "usage",
    "verbose", "version", "wait", "wrap",
)  # fmt: skip

Word = Annotated[str, Field(min_length=1), one_line()]


def _sbatch_options(options: Mapping[str, object]) -> Mapping[str, object]:
    for name in options:
        if name in OWN_OPTIONS or not name.replace("-", "").isalnum() or name.startswith("-"):
            raise PydanticCustomError(
                "sbatch_option",
                "Input should have long options of sbatch without dashes, such as 'qos', and not "
                "those that isogloss sets ({own})",
                {"own": ", ".join(OWN_OPTIONS)},
            )
    return options


class JobOptions(Config):
    """What a job requests; what is left out is the default of the cluster.

    `options` has other long options of sbatch by name; `true` is one without a value.
    """

    partition: Word | None = None
    account: Word | None = None
    time: PositiveInt | Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d\d){0,2}$")] | None = None
    gpus: NonNegativeInt | Annotated[str, Field(pattern=r"^[\w.-]+:\d+$")] | None = None
    cpus: PositiveInt | None = None
    mem: PositiveInt | Annotated[str, Field(pattern=r"^\d+[KMGT]?$")] | None = None
    options: (
        Annotated[dict[str, Word | int | Literal[True]], AfterValidator(_sbatch_options)] | None
    ) = None


class SlurmConfig(JobOptions):
    """The backend configuration: options of all jobs, those of a kind of job, and the set-up.

    `setup` are lines of shell that run before each job's command, `python` the interpreter of the
    jobs, `card` the kind of GPU for which resources are estimated, `concurrency` the most tasks of
    an array that run at the same time, `workers` the number of workers of `tune`, `folder` that of
    scripts and logs, which all nodes must see.
    """

    finetune: JobOptions = JobOptions()
    evaluate: JobOptions = JobOptions()
    compare: JobOptions = JobOptions()
    card: Literal["H100", "H200"] | None = None
    setup: tuple[str, ...] = ()
    python: Word | None = None
    concurrency: PositiveInt | None = None
    workers: PositiveInt = 1
    folder: Word = "slurm"


def read_backend_config(values: Mapping[str, object]) -> SlurmConfig:
    """The configuration of a mapping; ConfigError in one sentence per wrong value."""
    try:
        return SlurmConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"backend config: {explain(error, SlurmConfig)}") from error


def sbatch_words(*sections: JobOptions) -> list[str]:
    """The options of sbatch that sections state; later sections replace what earlier ones state."""
    values: dict[str, object] = {}
    others: dict[str, object] = {}
    for section in sections:
        stated = {name: getattr(section, name) for name in JobOptions.model_fields}
        others |= section.options or {}
        values |= {
            name: value for name, value in stated.items() if value is not None and name != "options"
        }
    names = {"cpus": "cpus-per-task", "gpus": "gres", "mem": "mem"}
    if gpus := values.pop("gpus", None):  # zero GPUs are none
        values["gpus"] = f"gpu:{gpus}"
    merged = {names.get(name, name): value for name, value in values.items()} | others
    return [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in sorted(merged.items())
    ]
