"""Slurm's own commands: submitting jobs, their states, and cancelling them."""

import logging
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from enum import StrEnum

from isogloss.errors import ConfigError

logger = logging.getLogger(__name__)

DEFAULT_ARRAY_SIZE = 1001  # MaxArraySize, unless the cluster says otherwise
WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
# Of jobs that no scheduler knows any more, or that have no accounting.
NOT_KNOWN = ("Invalid job id", "accounting storage is disabled")


class JobState(StrEnum):
    """The state of a task, in as many words as matter here."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self not in (JobState.WAITING, JobState.RUNNING)

    @classmethod
    def of(cls, name: str) -> "JobState":
        """The state that squeue (`RUNNING`) or sacct (`CANCELLED by 1000`) names."""
        word = name.partition(" ")[0]
        if word in WAITING:
            return cls.WAITING
        if word in RUNNING:
            return cls.RUNNING
        if word == "COMPLETED":
            return cls.COMPLETED
        return cls.CANCELLED if word == "CANCELLED" else cls.FAILED


def require_slurm() -> None:
    """ConfigError where Slurm's commands are not installed."""
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise ConfigError(
            f"Slurm's command {missing[0]!r} is not on the PATH; submit from a login node of a "
            "Slurm cluster."
        )


def largest_array() -> int:
    """The most tasks that an array of this cluster has."""
    shown = _call(["scontrol", "show", "config"])
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown.stdout, re.MULTILINE)
    return max(int(found[1]) if found else DEFAULT_ARRAY_SIZE, 2) - 1


def check_options(options: Sequence[str]) -> None:
    """ConfigError if no cluster answers, or it would refuse a job with these options of sbatch."""
    refused = _call(["sbatch", "--test-only", *options, "--wrap=true"])
    if refused.returncode:
        if (asked := _call(["scontrol", "show", "config"])).returncode:
            raise ConfigError(
                f"no Slurm cluster answers ({_reason(asked)}); submit from a login node of one."
            )
        raise ConfigError(f"Slurm refuses {' '.join(options) or 'a job'}: {_reason(refused)}.")


def submit(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Submit a script with options of sbatch; returns the id of the job."""
    submitted = _call(["sbatch", "--parsable", *words], environment)
    number = submitted.stdout.strip().partition(";")[0]  # id;cluster
    if submitted.returncode or not number.isdecimal():
        raise ConfigError(f"Slurm refuses a job: {_reason(submitted)}.")
    return number


def job_states(jobs: Sequence[str]) -> dict[str, list[JobState]]:
    """The states of the tasks of jobs, by squeue, and by sacct for jobs that squeue has forgotten.

    Jobs that neither knows are left out. Raises OSError if Slurm cannot be asked.
    """
    listed = _call(
        ["squeue", "--noheader", "--array", "--states=all", "--format=%F|%T",
         f"--jobs={','.join(jobs)}"]
    )  # fmt: skip
    states = _read_states(listed)
    if old := [job for job in jobs if job not in states]:
        accounted = _call(
            ["sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State",
             f"--jobs={','.join(old)}"]
        )  # fmt: skip
        states |= {job: own for job, own in _read_states(accounted).items() if job in old}
    return states


def _read_states(listed: subprocess.CompletedProcess[str]) -> dict[str, list[JobState]]:
    if listed.returncode and not any(known in listed.stderr for known in NOT_KNOWN):
        raise OSError(_reason(listed))
    states: dict[str, list[JobState]] = {}
    for line in listed.stdout.splitlines():
        job, _, state = line.partition("|")
        states.setdefault(job.partition("_")[0], []).append(JobState.of(state))
    return states


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs; those that have ended stay as they are."""
    cancelled = _call(["scancel", *jobs])
    if cancelled.returncode:
        logger.warning(f"jobs {' '.join(jobs)} may go on: {_reason(cancelled)}")


def _call(
    words: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm, without a shell."""
    try:
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(words, 127, "", f"{error.filename} is not installed")


def _reason(failed: subprocess.CompletedProcess[str]) -> str:
    """The first line that a command has written, without the command's name."""
    lines = (failed.stderr.strip() or failed.stdout.strip() or "no reason given").splitlines()
    return re.sub(r"^\w+: (error: )?", "", lines[0]).rstrip(".")
