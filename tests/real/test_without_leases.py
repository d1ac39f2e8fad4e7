"""Two machines, a tracking server and no database of leases: what overlaps is logged once."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.entities import Run
from requests import RequestException

from isogloss.config import StudyConfig
from isogloss.stages.cell import cells_by_id
from real.machines import Machine, Worker
from real.processes import wait_for
from scripts.tracking_server import free

pytestmark = pytest.mark.real
STEPS = 8


@pytest.fixture
def server(empty_store: Path, tmp_path: Path) -> Iterator[str]:
    """`mlflow server` on a new store, which keeps artifacts too."""
    uri, folder = f"http://127.0.0.1:{free()}", tmp_path / "server"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    words += [
        "--port",
        uri.rpartition(":")[2],
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
    ]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )

    def answers() -> bool:
        try:
            return requests.get(f"{uri}/health", timeout=5).ok
        except RequestException:
            return False

    try:
        wait_for(answers, 300)
        yield uri
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def all_runs() -> list[Run]:
    return mlflow.search_runs(search_all_experiments=True, output_format="list")


def test_the_second_of_two_that_overlap_finds_the_first_ones_run(
    server: str, model_folder: Callable[[str], Path]
) -> None:
    study: dict[str, object] = {
        "study": "overlap", "model": str(model_folder("gemma3")), "dtype": "float32", "limit": 4,
        "languages": "arb_Arab,heb_Hebr,amh_Ethi,eng_Latn,fra_Latn",
        "finetune": {"steps": STEPS, "batch_size": 2, "dev_limit": 2, "rank": 2,
                     "checkpoint_every": 2, "eval_every": STEPS},
    }  # fmt: skip
    mlflow.set_tracking_uri(server)
    names = list(cells_by_id(StudyConfig.model_validate(study)))
    cells = [name for name in names if ".finetune." in name]
    # Each has a folder of its own, as on machines that share none.
    workers = [
        Worker(
            Machine(f"own{number}", (), "127.0.0.1"), study, cells, pause, held=True,
            MLFLOW_TRACKING_URI=server, ISOGLOSS_UNFINISHED=str(Path(f"own{number}").absolute()),
        )
        for number, pause in enumerate((0.0, 4.0))
    ]  # fmt: skip
    try:
        wait_for(lambda: len(all_runs()) == 2, 400)
        Path("go").touch()  # the second goes on four seconds a step, when the first has finished
        printed = [worker.process.communicate(timeout=400)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.end()
    # MLflow prints lines about its server too.
    done = [re.findall(rf"^{re.escape(cells[0])} (\w+)$", text, flags=re.M) for text in printed]
    assert done[0] == done[1], [worker.logged()[-3000:] for worker in workers]
    (run_id,) = done[0]
    runs = {run.info.run_id: run for run in all_runs()}
    assert runs.pop(run_id).info.status == "FINISHED"
    (other,) = runs.values()
    assert other.info.status == "KILLED"
    assert f"in run {run_id}, because no lease" in other.data.tags["isogloss.reason"]
    experiments = [each.experiment_id for each in mlflow.search_experiments()]
    assert len(mlflow.search_logged_models(experiments, output_format="list")) == 1
    for worker in workers:
        assert worker.logged().count("two machines may compute the same at the same time") == 1
    assert "the results are those of the process that took it over" in workers[1].logged()
