"""launcher=ray on a cluster of two nodes, with workers, nodes and drivers that are lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
from mlflow.entities import Run

from isogloss import tracking
from isogloss.config import StudyConfig
from isogloss.stages.study import run_study
from real.processes import ROOT, environment, wait_for

pytest.importorskip("ray", reason="launcher=ray wants Ray: pip install 'ray>=2.60,<2.61'")
pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DRIVER = """
import json, sys
from isogloss import logs
from isogloss.cli.interruptions import interruptions
from isogloss.config import StudyConfig
from isogloss.errors import IsoglossError
from isogloss.launchers.studies import launch
from isogloss.stages.study import run_study
logs.configure()
try:
    with interruptions():
        run_study(StudyConfig.model_validate(json.loads(sys.argv[1])), launch=launch)
except IsoglossError as error:
    sys.exit(str(error))
"""
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
SECRET = "never-in-a-log-4711"
LEFT = re.compile(r"cells left, about (\d+) (\w+)")
STARTED = re.compile(r"cell \d+ of \d+ · (.+): on .+, process (\d+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Two nodes of one processor each, on loopback addresses that Ray takes for two machines."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        system = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
        head = {
            **NODE, "include_dashboard": False, "node_ip_address": "127.0.0.2",
            "_system_config": system,
        }  # fmt: skip
        nodes = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes.add_node(**NODE, node_ip_address="127.0.0.3")
            yield nodes
        finally:
            nodes.shutdown()


@pytest.fixture
def study(model_folder: Callable[[str], Path]) -> dict[str, object]:
    return {
        "study": "on a cluster",
        "model": str(model_folder("gemma3")),
        "dtype": "float32",
        "languages": ["arb_Arab", "heb_Hebr", "amh_Ethi", "eng_Latn", "fra_Latn", "tur_Latn"],
        "limit": 4,
        "seeds": [0, 1],
        "finetune": {
            "steps": 600, "batch_size": 4, "dev_limit": 4, "rank": 2, "checkpoint_every": 5,
            "eval_every": 600,
        },
        "launcher": "ray",
        "resources": {"gpus": 0, "memory_gb": 1},
    }  # fmt: skip


@dataclass
class Driver:
    """A process that runs a study on the cluster, and what it has logged."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def lines(self) -> str:
        return self.log.read_text("utf-8")

    def workers(self) -> list[tuple[str, int]]:
        """Cells that were given to workers so far, with the worker's process, in order."""
        return [(cell, int(process)) for cell, process in STARTED.findall(self.lines)]

    def wait_for_cell(self, part: str, times: int = 1) -> int:
        """The process of the worker of a cell, once it was started so many times."""
        found = lambda: [process for cell, process in self.workers() if part in cell]
        wait_for(lambda: len(found()) >= times)
        return found()[times - 1]

    def finished(self, status: int = 0) -> str:
        assert self.process.wait(150) == status, self.lines[-4000:]
        return self.lines


def not_ignored() -> None:
    """Receive Ctrl-C, which workers of pytest-xdist ignore and hand on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def driving(cluster: object, study: dict[str, object], log: str = "driver.log") -> Iterator[Driver]:
    """Start a driver; it is killed at the end of the context if it still runs."""
    variables = {
        **environment(),
        "RAY_ADDRESS": cluster.address,
        "ISOGLOSS_UNFINISHED": str(Path("unfinished").absolute()),
        "HF_HUB_OFFLINE": "1",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    variables.pop("MLFLOW_EXPERIMENT_ID", None)  # of a study that the test ran in this process
    with Path(log).open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(study)], env=variables, stdout=file,
            stderr=subprocess.STDOUT, preexec_fn=not_ignored,
        )  # fmt: skip
    try:
        yield Driver(process, Path(log).absolute())
    finally:
        process.kill()
        process.wait()


def steps() -> int:
    """The steps of all unfinished trainings."""
    paths = Path("unfinished").glob("finetune-*/metrics.jsonl")
    return sum(path.read_text("utf-8").count('"train/loss"') for path in paths)


def runs(experiment: str = "isogloss") -> list[Run]:
    return mlflow.search_runs(experiment_names=[experiment], output_format="list")


def statuses(found: list[Run]) -> dict[str, Counter[str]]:
    """How many runs of each kind ended in which way."""
    counted: dict[str, Counter[str]] = {}
    for run in found:
        counted.setdefault(run.data.tags["isogloss.kind"], Counter())[run.info.status] += 1
    return counted


def results(found: list[Run]) -> dict[str, pd.DataFrame | str]:
    """What the finished cells have, by fingerprint: predictions, or the digest of the adapter."""
    values: dict[str, pd.DataFrame | str] = {}
    for run in found:
        kind, key = run.data.tags["isogloss.kind"], run.data.tags.get("isogloss.fingerprint")
        if run.info.status != "FINISHED" or kind not in ("evaluate", "finetune"):
            continue
        assert key not in values, "a cell was done twice"
        evaluated = kind == "evaluate"
        values[key] = (
            tracking.read_predictions(run.info.run_id) if evaluated
            else run.data.tags["isogloss.adapter"]
        )  # fmt: skip
    return values


def seconds(number: str, unit: str) -> int:
    """The seconds of a time in a log."""
    return int(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def all_gone(processes: list[int]) -> bool:
    return not any(psutil.pid_exists(process) for process in processes)


def test_a_killed_worker_and_a_lost_node_change_no_result_and_each_cell_is_done_once(
    cluster: object, study: dict[str, object]
) -> None:
    run_study(StudyConfig.model_validate({**study, "launcher": "local"}), "here")
    with driving(cluster, study) as driver:
        process = driver.wait_for_cell("finetune")
        wait_for(lambda: steps() >= 10)
        os.kill(process, signal.SIGKILL)
        driver.wait_for_cell("tuned")
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        log = driver.finished()
    assert "was killed or crashed; it is tried again" in log
    found = runs()
    assert statuses(found) == {
        "evaluate": Counter(FINISHED=3), "finetune": Counter(FINISHED=2),
        "compare": Counter(FINISHED=1), "study": Counter(FINISHED=1),
    }  # fmt: skip
    (parent,) = (run for run in found if run.data.tags["isogloss.kind"] == "study")
    for run in found:
        if run is not parent:
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    one_after_another, side_by_side = results(runs("here")), results(found)
    assert side_by_side.keys() == one_after_another.keys()
    for key, expected in one_after_another.items():
        value = side_by_side[key]
        if isinstance(expected, str):
            assert value == expected
        else:
            pd.testing.assert_frame_equal(value, expected, check_exact=True)
    cluster.add_node(**NODE, node_ip_address="127.0.0.3")
    logs = Path(cluster.head_node.get_logs_dir_path())
    assert len(list(logs.glob("worker-*.err"))) >= 2
    for path in [driver.log, *(path for path in logs.rglob("*") if path.is_file())]:
        assert SECRET not in path.read_text("utf-8", errors="replace"), path.name


def interrupted_by(number: signal.Signals, cluster: object, study: dict[str, object]) -> None:
    """Interrupt a driver in the middle of a training; it ends as documented, and its workers too."""
    before = steps()
    with driving(cluster, study, f"{number.name}.log") as driver:
        driver.wait_for_cell("finetune")
        wait_for(lambda: steps() >= before + 10)
        driver.process.send_signal(number)
        assert f"Interrupted by {number.name}" in driver.finished(128 + number)
        workers = driver.workers()
    wait_for(lambda: all_gone([process for _, process in workers]), 30)
    ended = statuses(runs())
    assert ended["study"] == Counter(KILLED=1)
    assert ended["finetune"]["KILLED"] >= 1
    assert not any("RUNNING" in counted for counted in ended.values())


def test_an_interrupted_and_a_killed_driver_leave_nothing_and_the_same_command_resumes(
    cluster: object, study: dict[str, object]
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        interrupted_by(number, cluster, study)
    before = steps()

    with driving(cluster, study, "killed.log") as driver:
        driver.wait_for_cell("finetune")
        wait_for(lambda: steps() >= before + 10)
        driver.process.send_signal(signal.SIGKILL)
        driver.process.wait()
        killed = driver.workers()
    wait_for(lambda: all_gone([process for _, process in killed]), 30)
    assert "resuming the run that was interrupted" in Path("killed.log").read_text("utf-8")

    with driving(cluster, study, "finished.log") as driver:
        driver.finished()
    assert statuses(runs()) == {
        "evaluate": Counter(FINISHED=3), "finetune": Counter(FINISHED=2),
        "compare": Counter(FINISHED=1), "study": Counter(FINISHED=1),
    }  # fmt: skip
    assert len(results(runs())) == 5


def test_a_cell_whose_worker_is_killed_each_time_fails_and_the_others_are_done(
    cluster: object, study: dict[str, object]
) -> None:
    began = time.monotonic()
    with driving(cluster, study) as driver:
        for attempt in (1, 2, 3):
            os.kill(driver.wait_for_cell("seed 1", attempt), signal.SIGKILL)
        log = driver.finished(1)
    assert re.search(r"finetune .*, seed 1: process \d+ .* in each of 3 attempts\.", log)
    assert "its adapter is missing" in log
    told = [seconds(*found) for found in LEFT.findall(log)]
    assert told, log
    assert max(told) < 3 * (time.monotonic() - began), log
    ended = statuses(runs())
    assert ended["evaluate"] == Counter(FINISHED=2)
    assert ended["finetune"]["FINISHED"] == 1
    assert not any("RUNNING" in counted for counted in ended.values())
