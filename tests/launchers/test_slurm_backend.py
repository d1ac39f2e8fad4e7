"""The project backend: what it submits for a study and for a search, and what becomes of it."""

import shutil
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import mlflow
import pytest
import yaml
from fake_slurm import FakeSlurm, fake_slurm
from mlflow.exceptions import ExecutionException

from isogloss.launchers import slurm_backend
from isogloss.launchers.slurm_backend import SlurmBackend, SlurmRun, backend

ROOT = Path(__file__).parents[2]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return fake_slurm(tmp_path / "commands", monkeypatch)


@pytest.fixture
def project(tmp_path: Path, model_folder: Callable[[str], Path]) -> Path:
    """A project with a small study of two seeds."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, folder)
    study = {
        "study": "it's small", "model": str(model_folder("gemma3")), "dtype": "float32",
        "languages": "arb_Arab,heb_Hebr,amh_Ethi,eng_Latn,fra_Latn", "limit": 4, "seeds": "0,1",
        "finetune": {"steps": 2, "batch_size": 2, "dev_limit": 2, "rank": 2},
    }  # fmt: skip
    (folder / "tiny.yaml").write_text(yaml.safe_dump(study), "utf-8")
    return folder


def launch(project: Path, entry_point: str = "main", config: dict[str, object] | None = None,
           **params: str) -> SlurmRun:  # fmt: skip
    given = {"study": "tiny.yaml"} if entry_point == "main" else {}
    return SlurmBackend().run(
        str(project), entry_point, {**given, **params}, None, config or {},
        mlflow.get_tracking_uri(), "0",
    )  # fmt: skip


def option(words: list[str], name: str) -> str | None:
    values = [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
    assert len(values) < 2
    return values[0] if values else None


def test_a_study_becomes_arrays_and_a_comparison_that_waits_for_them(
    slurm: FakeSlurm, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "partition": "gpu", "time": 60, "concurrency": 1, "setup": ["module load cuda"],
        "python": "python3", "finetune": {"gpus": 1}, "ENV_MANAGER": None, "SYNCHRONOUS": False,
    }  # fmt: skip
    launched = launch(project, config=config, limit="3")
    ready, trained, tuned, compared = slurm.submitted()
    folder = Path("slurm").absolute() / launched.run_id
    assert [words[-1] for words in slurm.submitted()] == [
        f"{folder}/{name}.sh" for name in ("evaluate", "finetune", "tuned", "compare")
    ]
    assert [option(words, "array") for words in (ready, trained, tuned, compared)] == [
        "0-0%1", "0-1%1", "0-1%1", None
    ]  # fmt: skip
    assert [option(words, "dependency") for words in (ready, trained, tuned, compared)] == [
        None, None, "aftercorr:102", "afterany:101:102:103"
    ]  # fmt: skip
    assert option(tuned, "kill-on-invalid-dep") == "yes"
    assert [option(words, "gres") for words in (ready, trained, tuned)] == [None, "gpu:1", None]
    assert option(compared, "job-name") == "it's small compare"
    assert option(compared, "time") == "60"
    assert (folder / "finetune.cells").read_text().splitlines()[1].endswith("arb_Arab.seed1")
    script = (folder / "tuned.sh").read_text()
    assert 'exec python3 -m isogloss cell tiny.yaml "$cell" --limit=3' in script
    assert script.endswith(f"--parent={launched.run_id}\n")
    assert "module load cuda\n" in script
    final = (folder / "compare.sh").read_text()
    assert f"export MLFLOW_RUN_ID={launched.run_id}\n" in final
    assert final.endswith("exec python3 -m isogloss main --study=tiny.yaml --limit=3\n")
    run = mlflow.get_run(launched.run_id)
    assert run.data.tags["isogloss.slurm_jobs"] == "101,102,103,104"
    assert launched.jobs == ("101", "102", "103", "104")
    assert run.info.status == "RUNNING"
    assert "5 cells in 3 job arrays, 0 have finished already" in capsys.readouterr().out


@pytest.mark.parametrize(
    "secret",
    [
        "postgresql://me:hunter2@host/store",
        "postgresql://me:/hunter2@host/store",
        "postgresql:///store?host=host&user=me&password=hunter2",
    ],
)
def test_a_password_in_the_address_is_in_no_file(
    slurm: FakeSlurm, project: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    other = mlflow.MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", other)
    launched = SlurmBackend().run(
        str(project), "main", {"study": "tiny.yaml"}, None, {}, secret, "0"
    )
    texts = [path.read_text() for path in Path("slurm", launched.run_id).glob("*.*")]
    assert len(texts) == 7
    assert not any("hunter2" in text for text in texts)
    assert slurm.environments() == [{"MLFLOW_TRACKING_URI": secret, "MLFLOW_RUN_ID": None}] * 4


def test_workers_of_a_search_are_identical_tasks_in_one_run(
    slurm: FakeSlurm, project: Path
) -> None:
    config = {"workers": 3, "finetune": {"gpus": 1}}
    storage = "postgresql+psycopg2://me@host/optuna"
    launched = launch(project, "tune", config, trials="20", storage=storage)
    (words,) = slurm.submitted()
    assert option(words, "array") == "0-2"
    assert option(words, "gres") == "gpu:1"
    assert option(words, "dependency") is None
    script = Path(words[-1]).read_text()
    assert script.endswith(f"-m isogloss tune --trials=20 --storage={storage}\n")
    assert f"export MLFLOW_RUN_ID={launched.run_id}\n" in script


@pytest.mark.parametrize(
    ("params", "config", "sentence"),
    [
        ({"study": "none.yaml"}, {}, "study file 'none.yaml' cannot be read"),
        ({"sede": "1"}, {}, "unknown parameter 'sede'; did you mean 'seed'?"),
        ({"dry_run": "true"}, {}, "dry_run=true submits nothing"),
        ({"experiment": "other"}, {}, "experiment 'other' is not the one this run is in"),
        ({}, {"gpu": 1}, "backend config: unknown parameter 'gpu'; did you mean 'gpus'?"),
        ({}, {"ENV_MANAGER": "conda"}, "--env-manager conda makes an environment on this machine"),
    ],
)
def test_a_mistake_is_refused_before_a_run_is_open(
    slurm: FakeSlurm,
    project: Path,
    params: dict[str, str],
    config: dict[str, object],
    sentence: str,
) -> None:
    with pytest.raises(ExecutionException) as refused:
        launch(project, config=config, **params)
    assert sentence in str(refused.value)
    assert len(mlflow.search_runs()) == 0
    assert slurm.submitted() == []


def test_a_partition_that_the_cluster_lacks_is_refused_before_a_run_is_open(
    slurm: FakeSlurm, project: Path
) -> None:
    slurm.answer("test-only", error="sbatch: error: invalid partition specified: x", code=1)
    with pytest.raises(ExecutionException, match="Slurm refuses --partition=x: invalid partition"):
        launch(project, config={"partition": "x"})
    assert len(mlflow.search_runs()) == 0


def test_if_a_later_job_is_refused_the_earlier_ones_are_cancelled(
    slurm: FakeSlurm, project: Path
) -> None:
    slurm.accept(2)
    with pytest.raises(ExecutionException, match="Job violates accounting policy"):
        launch(project)
    assert slurm.calls("scancel") == [["101", "102"]]
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert run.info.status == "FAILED"


@pytest.mark.parametrize(
    ("squeue", "status", "succeeded"),
    [
        ("1|PENDING\n2|PENDING\n", "SCHEDULED", None),
        ("1|COMPLETED\n2|PENDING\n", "RUNNING", None),
        ("1|FAILED\n2|COMPLETED\n", "FINISHED", True),  # `main` has done what was missing
        ("1|COMPLETED\n2|TIMEOUT\n", "FAILED", False),
        ("1|COMPLETED\n2|CANCELLED\n", "KILLED", False),
        ("1|COMPLETED\n", "FINISHED", True),  # by the run
    ],
)
def test_the_last_job_decides(
    slurm: FakeSlurm, squeue: str, status: str, succeeded: bool | None
) -> None:
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.set_terminated(run_id, "FINISHED")
    launched = SlurmRun(run_id, ["1", "2"], "2")
    slurm.answer("squeue", squeue)
    slurm.answer("sacct", error="Slurm accounting storage is disabled", code=1)
    assert launched.get_status() == status
    if succeeded is not None:
        assert launched.wait() is succeeded


def test_an_open_run_whose_jobs_are_gone_has_failed(slurm: FakeSlurm) -> None:
    slurm.answer("squeue", error="Invalid job id specified", code=1)
    launched = SlurmRun(mlflow.MlflowClient().create_run("0").info.run_id, ["1"], "1")
    assert launched.get_status() == "FAILED"


def test_cancelling_ends_all_jobs(slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_backend, "POLL_SECONDS", 0.01)
    slurm.answer("squeue", "1|CANCELLED\n2|CANCELLED\n")
    SlurmRun("0", ["1", "2"], "2").cancel()
    assert slurm.calls("scancel") == [["1", "2"]]


def test_mlflow_finds_the_backend_by_its_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["mlflow.project_backend"]["isogloss-slurm"].partition(
        ":"
    )
    assert getattr(import_module(module), name) is backend
    assert isinstance(backend(), SlurmBackend)
