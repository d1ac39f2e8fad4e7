"""Batch scripts, run by bash: every value arrives as it was given."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from isogloss.launchers.slurm_scripts import JobFolder

NASTY = "a 'quoted' \"name\" $(touch stolen) `touch stolen`; touch stolen & \\ * ~ ü"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A program that prints its arguments and what it finds in the environment as JSON."""
    path = tmp_path / "bin folder" / "python"
    path.parent.mkdir()
    path.write_text(
        "#!/usr/bin/env python3\n"
        "import json, os, sys\n"
        "names = ('MLFLOW_RUN_ID', 'MLFLOW_TRACKING_URI', 'FROM_SETUP')\n"
        "print(json.dumps([sys.argv[1:], {n: os.environ.get(n) for n in names}, os.getpid()]))\n",
        "utf-8",
    )
    path.chmod(0o755)
    return path


def job_folder(tmp_path: Path, python: Path) -> JobFolder:
    return JobFolder(
        path=tmp_path / "jobs of $HOME",
        project=tmp_path,
        title=NASTY,
        python=str(python),
        setup=("export FROM_SETUP=set",),
        variables={"MLFLOW_TRACKING_URI": "sqlite:////tmp/it's $HERE.db"},
    )


def run(script: Path, **variables: str) -> tuple[subprocess.Popen[str], str, str]:
    process = subprocess.Popen(
        ["bash", str(script)], env={**os.environ, **variables}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=script.parent,
    )  # fmt: skip
    return process, *process.communicate(timeout=20)


def test_a_task_runs_the_cell_of_its_line_with_all_values_as_given(
    tmp_path: Path, python: Path
) -> None:
    folder = job_folder(tmp_path, python)
    script = folder.write_array(
        "tuned",
        ["m.base", "m.tuned.arb_Arab.seed0"],
        [NASTY],
        [f"--languages={NASTY}", "--parent=1"],
    )
    process, printed, _ = run(
        script, SLURM_ARRAY_TASK_ID="1", SLURM_JOB_ID="7", MLFLOW_RUN_ID="of another run"
    )
    heading, result = printed.splitlines()
    words, variables, number = json.loads(result)
    assert words == [
        "-m", "isogloss", "cell", NASTY, "m.tuned.arb_Arab.seed0", f"--languages={NASTY}",
        "--parent=1",
    ]  # fmt: skip
    assert variables == {
        "MLFLOW_RUN_ID": None,  # else the cell would take the study's run for its own
        "MLFLOW_TRACKING_URI": "sqlite:////tmp/it's $HERE.db",
        "FROM_SETUP": "set",
    }
    assert number == process.pid  # it replaces bash, so that signals reach it
    assert heading == "cell m.tuned.arb_Arab.seed0, job 7, start 0"
    assert not list(tmp_path.rglob("stolen"))


def test_a_number_beyond_the_lines_fails(tmp_path: Path, python: Path) -> None:
    script = job_folder(tmp_path, python).write_array("evaluate", ["m.base"], ["s.yaml"], [])
    process, printed, error = run(script, SLURM_ARRAY_TASK_ID="1", SLURM_JOB_ID="7")
    assert (process.returncode, printed) == (1, "")
    assert "has no line of this number" in error


def test_the_last_job_works_in_the_run_of_the_study(tmp_path: Path, python: Path) -> None:
    script = job_folder(tmp_path, python).write_job(
        "compare", "0123abcd", ["main", f"--study={NASTY}"]
    )
    _, printed, _ = run(script)
    words, variables, _ = json.loads(printed)
    assert words == ["-m", "isogloss", "main", f"--study={NASTY}"]
    assert variables["MLFLOW_RUN_ID"] == "0123abcd"
    assert not list(tmp_path.rglob("stolen"))


def test_sbatch_gets_values_as_arguments(tmp_path: Path, python: Path) -> None:
    folder = job_folder(tmp_path, python)
    words = folder.words("tuned", ["--qos=$(x)"])
    assert f"--job-name={NASTY} tuned" in words
    assert "--qos=$(x)" in words
    assert {"--requeue", "--open-mode=append", f"--chdir={tmp_path}"} <= set(words)
    assert folder.array_words("tuned", 5, 2) == [
        "--array=0-4%2", f"--output={tmp_path}/jobs of $HOME/logs/tuned-%A_%a.log"
    ]  # fmt: skip


def test_logs_have_the_names_of_cells_too(tmp_path: Path, python: Path) -> None:
    folder = job_folder(tmp_path, python)
    folder.write_job("compare", "1", [])
    folder.link_logs("tuned", "12", ["m.base", "m.tuned"])
    (folder.logs / "tuned-12_1.log").write_text("of the second")
    assert (folder.logs / "m.tuned.log").read_text() == "of the second"
