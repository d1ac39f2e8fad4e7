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


def test_mlflow_finds_the_backend_by_its_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["mlflow.project_backend"]["isogloss-slurm"].partition(
        ":"
    )
    assert getattr(import_module(module), name) is backend
    assert isinstance(backend(), SlurmBackend)
