"""A study and a search on a real Slurm node, with a job that is requeued in the middle of a cell."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.entities import Run

from isogloss.config import StudyConfig
from isogloss.launchers import slurm_backend
from isogloss.launchers.slurm_backend import SlurmBackend, SlurmRun
from isogloss.stages.study import run_study
from real.processes import last_step, wait_for

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts/slurm_node.py"
DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch")


def call(command: str, folder: Path) -> str:
    """What the script prints."""
    words = [sys.executable, str(SCRIPT), command, "--folder", str(folder)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def slurm_conf() -> Iterator[str]:
    """A Slurm cluster of one node."""
    search = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))
    if any(shutil.which(name, path=search) is None for name in DAEMONS):
        pytest.skip("needs Slurm: apt-get install slurmctld slurmd slurm-client munge")
    # munged wants a folder that everybody may enter, which those of pytest are not.
    folder = Path(tempfile.mkdtemp(prefix="isogloss-slurm-"))
    folder.chmod(0o755)
    try:
        printed = shlex.split(call("start", folder))
        yield printed[1].partition("=")[2]
    finally:
        call("stop", folder)
        shutil.rmtree(folder)


@pytest.fixture
def project(
    tmp_path: Path,
    slurm_conf: str,
    model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The project in the test's folder, whose jobs use the code under test."""
    monkeypatch.setenv("SLURM_CONF", slurm_conf)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(slurm_backend, "POLL_SECONDS", 0.5)
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def launch(project: Path, entry_point: str, config: dict[str, object], **params: str) -> SlurmRun:
    launched = SlurmBackend().run(
        str(project), entry_point, params, None, config, mlflow.get_tracking_uri(), "0"
    )
    return launched


def logs(launched: SlurmRun) -> str:
    folder = Path("slurm", launched.run_id, "logs")
    return "\n".join(f"== {path}\n{path.read_text()}" for path in folder.glob("*-*.log"))


def runs(kind: str) -> list[Run]:
    found: list[Run] = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.`isogloss.kind` = '{kind}'",
        output_format="list",
    )
    return found


def test_a_study_reaches_its_verdict_though_a_job_is_requeued_in_mid_cell(
    project: Path, model_folder: Callable[[str], Path]
) -> None:
    values = {
        "study": "on slurm", "model": str(model_folder("gemma3")), "dtype": "float32",
        "languages": "heb_Hebr,amh_Ethi,eng_Latn,fra_Latn", "limit": 4,
        # Steps of a tiny model take milliseconds: enough of them to be interrupted.
        "finetune": {
            "steps": 400, "batch_size": 8, "dev_limit": 2, "eval_every": 1000, "rank": 2,
            "checkpoint_every": 5, "target_modules": "all-linear",
        },
    }  # fmt: skip
    (project / "small.yaml").write_text(yaml.safe_dump(values), "utf-8")
    config = {"partition": "low", "time": 10, "gpus": 1}
    launched = launch(project, "main", config, study="small.yaml")
    _, trained, _, _ = launched.jobs
    wait_for(lambda: last_step() >= 10)
    subprocess.run(["scontrol", "requeue", f"{trained}_0"], check=True)
    assert launched.wait(), logs(launched)
    assert launched.get_status() == "FINISHED"
    text = logs(launched)
    assert "DUE TO JOB REQUEUE" in text
    assert f"job {trained}, start 1" in text
    # The second start resumed the run of the first from its checkpoint.
    (finetuned,) = runs("finetune")
    assert "resuming the run that was interrupted" in text
    assert finetuned.data.metrics["train/loss"] > 0
    history = mlflow.MlflowClient().get_metric_history(finetuned.info.run_id, "train/loss")
    assert sorted(entry.step for entry in history) == list(range(1, 401))
    evaluated = runs("evaluate")
    assert sorted(run.data.tags["isogloss.condition"] for run in evaluated) == ["base", "tuned"]
    (study,) = runs("study")
    assert (study.info.run_id, study.info.status) == (launched.run_id, "FINISHED")
    for run in (finetuned, *evaluated):
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == launched.run_id
    # In one process, without Slurm, the study is the same: nothing is computed again.
    (compared,) = runs("compare")
    assert run_study(StudyConfig.model_validate(values)) == compared.info.run_id
    assert len(runs("evaluate")) == 2


def test_workers_of_a_search_share_its_trials(
    project: Path, model_folder: Callable[[str], Path]
) -> None:
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2}, "rank": 2, "steps": 2, "batch_size": 2}
    (project / "space.yaml").write_text(yaml.safe_dump(space), "utf-8")
    launched = launch(
        project, "tune", {"workers": 2}, model=str(model_folder("gemma3")), dtype="float32",
        trials="4", space="space.yaml", storage="sqlite:///search.db", dev_limit="2",
        pruning="false", study="search",
    )  # fmt: skip
    assert launched.wait(), logs(launched)
    assert logs(launched).count("4 complete") == 2  # both saw the search to its end
    (search,) = runs("tune")
    assert (search.info.run_id, search.info.status) == (launched.run_id, "FINISHED")
    assert "isogloss.resumes" not in search.data.tags
    assert len(runs("trial")) == 4
