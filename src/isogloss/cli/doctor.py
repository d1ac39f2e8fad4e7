"""The command `isogloss doctor`: what this machine has, what a run would use, what is missing."""

import os
import platform
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import click

import isogloss
from isogloss.cli.command import SETTINGS, set_verbosity, verbosity_options
from isogloss.cli.models import default_dtypes, folder_size
from isogloss.formatting import aligned, size
from isogloss.threads import limit_threads, waiting

ANSWER_SECONDS = 5  # to wait for a tracking server
PYPROJECT = Path(isogloss.__file__).parents[2] / "pyproject.toml"


@dataclass(frozen=True)
class Finding:
    """One line of the report; `problem` says what to do, if something is wrong."""

    name: str
    value: str
    problem: str | None = None


def python_and_packages() -> list[Finding]:
    """Versions of Python, isogloss and its dependencies, checked against pyproject.toml."""
    return [
        Finding("python", f"{platform.python_version()} ({sys.executable})"),
        Finding("isogloss", f"{isogloss.__version__} ({Path(isogloss.__file__).parent})"),
        *(package(requirement) for requirement in dependencies()),
    ]


def dependencies() -> list[str]:
    """The declared dependencies, from pyproject.toml or from the installed package."""
    if PYPROJECT.is_file():
        declared = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["dependencies"]
        return [str(requirement) for requirement in declared]
    return [entry for entry in requires("isogloss") or [] if "extra ==" not in entry]


def package(requirement: str) -> Finding:
    """The installed version of a dependency; a problem if it is missing or out of range."""
    from packaging.requirements import Requirement

    declared = Requirement(requirement)
    try:
        installed = version(declared.name)
    except PackageNotFoundError:
        return Finding(declared.name, "missing", f"install {requirement}")
    if not declared.specifier.contains(installed, prereleases=True):
        return Finding(declared.name, installed, f"install {requirement}")
    return Finding(declared.name, installed)


def devices() -> list[Finding]:
    """Processors and GPUs, their memory and whether they compute in bfloat16."""
    import psutil

    from isogloss.compat.torch_build import torch_build
    from isogloss.models.dtypes import bfloat16_instructions

    instructions = bfloat16_instructions()
    memory = psutil.virtual_memory()
    findings = [
        Finding(
            "cpu",
            f"{os.cpu_count()} cores, bfloat16: {', '.join(instructions) or 'no instructions'}",
        ),
        Finding("memory", f"{size(memory.available)} available of {size(memory.total)}"),
    ]
    if not torch_build().for_gpu:
        return [*findings, Finding("gpu", "none")]
    import torch  # takes seconds

    if not torch.cuda.is_available():
        return [*findings, Finding("gpu", "none")]
    bfloat16 = "yes" if torch.cuda.is_bf16_supported() else "no"
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        findings.append(
            Finding(
                f"gpu {index}", f"{name}, {size(free)} free of {size(total)}, bfloat16: {bfloat16}"
            )
        )
    return findings


def settings() -> list[Finding]:
    """What a run would use: precision, threads, processes, optional packages."""
    from isogloss.models.dtypes import bitsandbytes_installed

    processes, threads = os.environ.get("WORLD_SIZE", "1"), limit_threads()
    return [
        Finding("dtype", default_dtypes()),
        Finding("processes", processes),
        Finding("threads", f"{threads.number} ({threads.reason}), {waiting()}"),
        Finding("dtype nf4", "available" if bitsandbytes_installed() else "needs bitsandbytes"),
        Finding("hub", "offline (HF_HUB_OFFLINE)" if _offline() else "allowed (not tried)"),
    ]


def _offline() -> bool:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


def tracking() -> list[Finding]:
    """The MLflow store: whether it exists, and answers."""
    import mlflow

    from isogloss.errors import TrackingError
    from isogloss.files import sqlite_file
    from isogloss.tracking.server import shown_uri
    from isogloss.tracking.store import ensure_store

    path = sqlite_file(mlflow.get_tracking_uri())
    if path is not None and not path.is_file():
        return [Finding("mlflow store", f"{shown_uri()} (created by the first run)")]
    try:
        ensure_store()
    except TrackingError as error:
        return [Finding("mlflow store", shown_uri(), str(error).rstrip("."))]
    return [_answer(shown_uri())]


def _answer(uri: str) -> Finding:
    import mlflow

    from isogloss.tracking.server import UNREACHABLE, no_retries, reason

    before = os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT")
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(ANSWER_SECONDS)
    started = time.monotonic()
    try:
        with no_retries():
            experiments = mlflow.MlflowClient().search_experiments()
    except UNREACHABLE as error:
        return Finding("mlflow store", uri, f"MLflow {reason(error)}; see MLFLOW_TRACKING_URI")
    finally:
        del os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
        if before is not None:
            os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = before
    seconds = time.monotonic() - started
    return Finding(
        "mlflow store", f"{uri} answers in {seconds:.1f} s, {len(experiments)} experiments"
    )


def folders() -> list[Finding]:
    """The caches, their sizes, and work that was interrupted."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from isogloss.files import cache_dir

    return [
        _folder("cache", cache_dir()),
        _folder("hub cache", Path(HF_HUB_CACHE)),
        *unfinished(),
    ]


def _folder(name: str, folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding(name, f"{folder} (created when needed)")
    used = folder_size(path for path in folder.rglob("*") if not path.is_symlink())
    free = shutil.disk_usage(folder).free
    problem = None if os.access(folder, os.W_OK) else f"{folder} is not writable"
    return Finding(name, f"{folder}: {size(used)}, {size(free)} free on the disk", problem)


def unfinished() -> list[Finding]:
    """Interrupted work; the command that began it resumes it."""
    from isogloss.tracking.resume import WorkDir, work_root

    folder = work_root()
    names = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    if not names:
        return [Finding("unfinished work", f"none in {folder}")]
    return [
        Finding("unfinished work", f"{path} of run {WorkDir(path).run_id or 'not yet begun'}")
        for path in names
    ]


CHECKS: dict[str, Callable[[], Iterable[Finding]]] = {
    "Packages": python_and_packages,
    "Devices": devices,
    "What a run uses": settings,
    "Tracking": tracking,
    "Folders": folders,
}


def _doctor(verbose: bool, quiet: bool) -> None:
    set_verbosity(verbose, quiet)
    problems = []
    for title, check in CHECKS.items():
        findings = list(check())
        click.echo(f"{title}\n{aligned([(f'  {f.name}', f.value) for f in findings])}")
        problems += [f"{f.name}: {f.problem}" for f in findings if f.problem]
    for problem in problems:
        click.echo(f"problem: {problem}")
    if problems:
        raise SystemExit(1)
    click.echo("No problems found.")


doctor = click.Command(
    "doctor",
    callback=_doctor,
    help="Check this machine: versions, devices, the MLflow store, caches, unfinished work, and "
    "what a run would use. Exits with status 1 if there is a problem.",
    short_help="Check this machine.",
    params=verbosity_options(),
    context_settings=SETTINGS,
)
