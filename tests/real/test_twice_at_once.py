"""The same command twice at once, and again after a kill: its work is done once, in one run."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import yaml
from logged_runs import log_runs
from mlflow.entities import Run
from synthetic_predictions import gains, tables

from isogloss.config import FinetuneConfig
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from real.processes import ROOT, environment, finished, last_step, started, wait_for

pytestmark = pytest.mark.real
LANGUAGES = "arb_Arab,heb_Hebr,amh_Ethi,eng_Latn,fra_Latn"


@pytest.fixture
def study(model_folder: Callable[[str], Path], tmp_path: Path) -> dict[str, object]:
    """The parameters of `main` for a small study."""
    values = {
        "study": "small", "model": str(model_folder("gemma3")), "dtype": "float32",
        "languages": LANGUAGES, "limit": 4,
        "finetune": {"steps": 12, "batch_size": 2, "dev_limit": 2, "rank": 2,
                     "checkpoint_every": 2, "eval_every": 12},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return {"study": str(tmp_path / "study.yaml")}


def runs_by_kind() -> dict[str, list[Run]]:
    by_kind: dict[str, list[Run]] = {}
    for run in mlflow.search_runs(output_format="list", search_all_experiments=True):
        by_kind.setdefault(run.data.tags.get("isogloss.kind", "new"), []).append(run)
    return by_kind


def check_one_whole_study() -> Run:
    """Each run of the study is there once, has finished, and is a child of the study's run."""
    kinds = runs_by_kind()
    assert {kind: len(runs) for kind, runs in kinds.items()} == {
        "study": 1, "evaluate": 2, "finetune": 1, "compare": 1
    }  # fmt: skip
    (parent,) = kinds.pop("study")
    children = [run for runs in kinds.values() for run in runs]
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    return parent


def test_a_study_that_was_killed_is_completed_in_its_own_run(study: dict[str, object]) -> None:
    with started("main", 0.3, study) as worker:
        wait_for(lambda: last_step() >= 4)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    (left,) = runs_by_kind()["study"]
    assert left.info.status == "RUNNING"
    with started("main", 0.0, study) as worker:
        stdout, stderr = finished(worker)
    assert "claims (evidence in the report): C1 " in stdout
    assert "resuming the run that was interrupted" in stderr
    assert check_one_whole_study().info.run_id == left.info.run_id
    assert [path.name for path in Path("unfinished").iterdir()] == [".locks"]


def test_a_study_that_was_told_to_end_says_so_and_is_completed(study: dict[str, object]) -> None:
    words = [word for name, value in study.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "isogloss", "main", *words]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as worker:
        wait_for(lambda: list(Path("unfinished").glob("finetune-*/run.json")))
        worker.send_signal(signal.SIGTERM)
        _, stderr = worker.communicate(timeout=90)
    assert worker.returncode == 143
    assert stderr.splitlines()[-1].startswith("Interrupted by SIGTERM: ")
    assert "Traceback" not in stderr
    assert "RUNNING" not in {run.info.status for runs in runs_by_kind().values() for run in runs}
    with started("main", 0.0, study) as again:
        finished(again)
    check_one_whole_study()


def test_two_studies_at_once_are_one(study: dict[str, object]) -> None:
    with started("main", 0.8, study) as one, started("main", 0.8, study) as other:
        printed = [finished(worker)[0] for worker in (one, other)]
    reports = [text[text.index("report: ") :] for text in printed]
    assert reports[0].splitlines()[0] == reports[1].splitlines()[0]
    check_one_whole_study()


def both(*words: str) -> list[str]:
    """What two processes print that are started with the same command."""
    pair = [
        subprocess.Popen(
            [sys.executable, "-m", "isogloss", *words], env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    return [finished(process)[0] for process in pair]


def test_two_comparisons_at_once_are_one() -> None:
    log_runs(tables(gains(0.1, 0.05), n=40), study="s")
    printed = both("compare", "--study", "s")
    assert printed[0] == printed[1]
    (compared,) = runs_by_kind()["compare"]
    assert compared.info.status == "FINISHED"
    client = mlflow.MlflowClient()
    for name in compared.data.metrics:
        assert len(client.get_metric_history(compared.info.run_id, name)) == 1


def test_of_two_adapters_that_are_registered_at_once_one_is_the_first_champion(
    model_folder: Callable[[str], Path],
) -> None:
    folder = str(model_folder("gemma3"))
    session = Session(folder, "float32")
    trained = [
        finetune(
            FinetuneConfig(model=folder, dtype="float32", steps=2, batch_size=2, limit=4,
                           dev_limit=4, rank=2, seed=seed),
            session,
        ).info.run_id
        for seed in (0, 1)
    ]  # fmt: skip
    pair = [
        subprocess.Popen(
            [sys.executable, "-m", "isogloss", "register", "--adapter", run_id, "--name", "reader",
             "--alias", "champion"],
            env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for run_id in trained
    ]  # fmt: skip
    for process in pair:
        finished(process)
    versions = mlflow.MlflowClient().search_model_versions("name = 'reader'")
    assert sorted(version.run_id for version in versions) == sorted(trained)
    reasons = [version.tags["isogloss.promotion"] for version in versions]
    assert reasons.count("the first champion") == 1
    assert sum("on the dev items" in reason or "dev" in reason for reason in reasons) == 1


CREATE = """
import sys
import mlflow
from isogloss.tracking.store import ensure_store
from isogloss.tracking.leases import lease
for uri in sys.stdin:
    mlflow.set_tracking_uri(uri.strip())
    ensure_store()
    with lease("evaluate-0"):
        print(len(mlflow.MlflowClient().search_experiments()), flush=True)
"""


def test_two_processes_use_a_new_store_at_once_five_times(tmp_path: Path) -> None:
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE], env={**environment(), "PYTHONPATH": str(ROOT / "src")},
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for trial in range(5):
        for process in pair:
            assert process.stdin is not None
            process.stdin.write(f"sqlite:///{tmp_path}/new{trial}.db\n")
            process.stdin.flush()
        for process in pair:
            assert process.stdout is not None
            assert process.stdout.readline() == "1\n"
    for process in pair:
        finished(process)
