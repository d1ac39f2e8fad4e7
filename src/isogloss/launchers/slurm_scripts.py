"""Batch scripts of a study's jobs, in the folder of a launch.

Values that users give reach the shell quoted, and sbatch as arguments, which no shell reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from isogloss.files import write_whole

PROJECT_RUN = "MLFLOW_RUN_ID"


@dataclass(frozen=True)
class JobFolder:
    """The folder of a launch, and what all its jobs have in common.

    `variables` are exported, `python` starts isogloss in the folder of the `project`.
    """

    path: Path
    project: Path
    title: str
    python: str
    setup: tuple[str, ...]
    variables: Mapping[str, str]

    @property
    def logs(self) -> Path:
        """The folder of what the jobs print."""
        return self.path / "logs"

    def write_array(
        self, name: str, cells: Sequence[str], before: Sequence[str], after: Sequence[str]
    ) -> Path:
        """Write the script of an array whose task i runs the cell `cells[i]`; returns its path.

        `before` and `after` are the arguments of `isogloss cell` before and after the cell.
        """
        listed = self.path / f"{name}.cells"
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(listed, "".join(f"{cell}\n" for cell in cells).encode())
        words = " ".join([*map(quote, before), '"$cell"', *map(quote, after)])
        body = (
            f"unset {PROJECT_RUN}\n"
            f"mapfile -t cells < {quote(str(listed))}\n"
            "cell=${cells[$SLURM_ARRAY_TASK_ID]:?has no line of this number}\n"
            'echo "cell $cell, job $SLURM_JOB_ID, start ${SLURM_RESTART_COUNT:-0}"\n'
            f"exec {quote(self.python)} -m isogloss cell {words}\n"
        )
        return self._write(name, body)

    def write_job(self, name: str, run_id: str, arguments: Sequence[str]) -> Path:
        """Write the script of a job that works in the run `run_id`; returns its path.

        `arguments` are those of `isogloss`.
        """
        words = " ".join(map(quote, arguments))
        return self._write(
            name,
            f"export {PROJECT_RUN}={quote(run_id)}\n"
            f"exec {quote(self.python)} -m isogloss {words}\n",
        )

    def _write(self, name: str, body: str) -> Path:
        """A script: variables, the user's set-up, and a command that gets Slurm's signals."""
        exports = "".join(f"export {key}={quote(value)}\n" for key, value in self.variables.items())
        setup = "".join(f"{line}\n" for line in self.setup)
        self.logs.mkdir(parents=True, exist_ok=True)
        path = self.path / f"{name}.sh"
        write_whole(path, f"#!/bin/bash\n{exports}{setup}{body}".encode())
        return path

    def words(self, name: str, options: Sequence[str]) -> list[str]:
        """The options of sbatch for a job of the launch."""
        return [
            f"--job-name={self.title} {name}",
            f"--chdir={self.project}",
            "--export=ALL",
            "--open-mode=append",
            "--requeue",
            "--nodes=1",
            "--ntasks=1",
            *options,
        ]

    def array_words(self, name: str, size: int, concurrency: int | None) -> list[str]:
        """The options of sbatch that make a job an array of so many tasks."""
        limit = f"%{concurrency}" if concurrency else ""
        return [f"--array=0-{size - 1}{limit}", f"--output={self.logs}/{name}-%A_%a.log"]

    def link_logs(self, name: str, job: str, cells: Sequence[str]) -> None:
        """Give the log of each task of an array the name of its cell, too."""
        for number, cell in enumerate(cells):
            link = self.logs / f"{cell}.log"
            link.unlink(missing_ok=True)
            link.symlink_to(f"{name}-{job}_{number}.log")
