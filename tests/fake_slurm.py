"""Stand-ins for Slurm's commands: they record how they are called and answer from files."""

import json
import sys
from pathlib import Path

import pytest

PROGRAM = """#!{python} -S
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
name = pathlib.Path(sys.argv[0]).name
words = sys.argv[1:]
kept = {{key: os.environ.get(key) for key in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID")}}
with (folder / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps([name, words, kept]) + "\\n")
answer = folder / f"{{name}}.json"
if name == "sbatch" and "--test-only" in words:
    answer = folder / "test-only.json"
code, out, err = json.loads(answer.read_text()) if answer.exists() else (0, "", "")
if name == "sbatch" and "--parsable" in words and not out:
    number = sum('"--parsable"' in line for line in (folder / "calls.jsonl").open())
    limit = folder / "limit"
    if limit.exists() and number > int(limit.read_text()):
        sys.exit("sbatch: error: Batch job submission failed: Job violates accounting policy")
    out = f"{{100 + number}};cluster\\n"
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""
COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol")


class FakeSlurm:
    """The stand-ins in a folder on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COMMANDS:
            path = folder / name
            path.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)), "utf-8")
            path.chmod(0o755)

    def answer(self, command: str, out: str = "", error: str = "", code: int = 0) -> None:
        """What a command prints and exits with from now on; `test-only` is that of sbatch."""
        (self.folder / f"{command}.json").write_text(json.dumps([code, out, error]), "utf-8")

    def accept(self, jobs: int) -> None:
        """Refuse all jobs after so many."""
        (self.folder / "limit").write_text(str(jobs), "utf-8")

    def calls(self, command: str) -> list[list[str]]:
        """The arguments of each call of a command."""
        return [words for name, words, _ in self._recorded() if name == command]

    def submitted(self) -> list[list[str]]:
        """The arguments of each submission."""
        return [words[1:] for words in self.calls("sbatch") if words[0] == "--parsable"]

    def environments(self) -> list[dict[str, str | None]]:
        """MLflow's variables in each submission."""
        return [kept for name, words, kept in self._recorded() if words[:1] == ["--parsable"]]

    def _recorded(self) -> list[tuple[str, list[str], dict[str, str | None]]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Slurm's commands, of which none is real, first on the PATH."""
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return FakeSlurm(folder)
