"""Two machines on one PostgreSQL store that run the same cells of a study at the same time."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import mlflow
import pytest
import sqlalchemy as sql
from mlflow.entities import Run

from isogloss.config import StudyConfig
from isogloss.stages.cell import cells_by_id
from real.machines import Database, Machine, Worker, can_make, machine, postgresql
from real.processes import wait_for

pytestmark = pytest.mark.real
LANGUAGES = "arb_Arab,heb_Hebr,amh_Ethi,eng_Latn,fra_Latn"
LEASE = 6.0  # seconds
STEPS = 12


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[list[Machine], Database]]:
    """Two machines and the PostgreSQL that they reach; two processes where none can be made."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")):
        pytest.skip("two machines want PostgreSQL: apt-get install postgresql")
    with ExitStack() as stack:
        if can_make():
            machines = [stack.enter_context(machine(number)) for number in (1, 2)]
        else:
            machines = [Machine(f"local{number}", (), "127.0.0.1") for number in (1, 2)]
        hosts = ["127.0.0.1", *(each.database_host for each in machines)]
        yield machines, stack.enter_context(postgresql(list(dict.fromkeys(hosts))))


@pytest.fixture
def study(model_folder: Callable[[str], Path], request: pytest.FixtureRequest) -> dict[str, object]:
    """A study of its own for each test: other fingerprints in the same store."""
    seed = sum(map(ord, request.node.name))
    return {
        "study": request.node.name, "model": str(model_folder("gemma3")), "dtype": "float32",
        "languages": LANGUAGES, "limit": 4, "seeds": f"{seed},{seed + 1}",
        "finetune": {"steps": STEPS, "batch_size": 2, "dev_limit": 2, "rank": 2,
                     "checkpoint_every": 2, "eval_every": STEPS},
    }  # fmt: skip


Start = Callable[..., Worker]


@pytest.fixture
def start(place: tuple[list[Machine], Database], study: dict[str, object]) -> Iterator[Start]:
    """A function that starts a worker on a machine; this test uses the same store."""
    machines, database = place
    mlflow.set_tracking_uri(database.url("127.0.0.1"))
    workers = []

    def begin(
        number: int, cells: list[str], pause: float, unfinished: str = "shared", held: bool = False
    ) -> Worker:
        workers.append(
            Worker(
                machines[number], study, cells, pause, held,
                MLFLOW_TRACKING_URI=database.url(machines[number].database_host),
                ISOGLOSS_UNFINISHED=str(Path(unfinished).absolute()),
                ISOGLOSS_LEASE_SECONDS=str(LEASE),
            )
        )  # fmt: skip
        return workers[-1]

    yield begin
    for worker in workers:
        worker.end()
        assert database.password not in worker.logged()


def cells(study: dict[str, object]) -> list[str]:
    return list(cells_by_id(StudyConfig.model_validate(study)))


def runs(study: dict[str, object]) -> list[Run]:
    name = study["study"]
    found: list[Run] = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.`isogloss.study` = '{name}'",
        output_format="list",
    )
    return found


def leases() -> list[tuple[str, str]]:
    with sql.create_engine(mlflow.get_tracking_uri()).connect() as connection:
        query = sql.text("SELECT name, host FROM isogloss_leases WHERE holder IS NOT NULL")
        return [(row.name, row.host) for row in connection.execute(query)]


def steps(run_id: str) -> list[int]:
    history = mlflow.MlflowClient().get_metric_history(run_id, "train/loss")
    return [point.step for point in history]


def last_step(unfinished: str = "shared") -> int:
    lines = [
        json.loads(line)["step"]
        for path in Path(unfinished).glob("finetune-*/metrics.jsonl")
        for line in path.read_text("utf-8").splitlines()
    ]
    return max(lines, default=0)


def test_each_cell_is_done_once(start: Start, study: dict[str, object]) -> None:
    both = [start(number, cells(study), 0.1) for number in (0, 1)]
    done = [worker.finish() for worker in both]
    assert [worker.process.returncode for worker in both] == [0, 0], both[0].logged()[-2000:]
    assert done[0] == done[1]
    assert list(done[0]) == cells(study)
    found = runs(study)
    assert sorted(run.info.run_id for run in found) == sorted(done[0].values())
    assert {run.info.status for run in found} == {"FINISHED"}
    kinds = [run.data.tags["isogloss.kind"] for run in found]
    assert (kinds.count("evaluate"), kinds.count("finetune")) == (3, 2)
    logs = "".join(worker.logged() for worker in both)
    assert logs.count("reusing run") == 5
    assert "another process is computing" in logs
    assert leases() == []


@pytest.mark.parametrize("unfinished", ["shared", "own"])
def test_the_work_of_a_killed_machine_is_taken_over(
    start: Start, study: dict[str, object], unfinished: str
) -> None:
    (cell,) = [name for name in cells(study) if ".finetune." in name][:1]
    first = start(0, [cell], 0.1, unfinished, held=True)
    wait_for(lambda: last_step(unfinished) >= 5, 180)
    second = start(1, [cell], 0.0, "shared" if unfinished == "shared" else "other")
    wait_for(lambda: "another process is computing" in second.logged(), 180)
    first.send(signal.SIGKILL)
    killed = time.monotonic()
    wait_for(lambda: "this one takes over" in second.logged())
    assert time.monotonic() - killed < LEASE + 4  # it looks every .75 s
    (run_id,) = second.finish().values()
    states = {run.info.run_id: run.info.status for run in runs(study)}
    assert states.pop(run_id) == "FINISHED"
    # With its folder, its run is resumed; without, that run cannot be resumed.
    assert list(states.values()) == ([] if unfinished == "shared" else ["KILLED"])
    assert steps(run_id) == list(range(1, STEPS + 1))
    assert ("resuming the run that was interrupted" in second.logged()) == (unfinished == "shared")


@pytest.mark.parametrize("unfinished", ["shared", "own"])
def test_a_machine_that_was_stopped_doubles_nothing(
    start: Start, study: dict[str, object], unfinished: str
) -> None:
    (cell,) = [name for name in cells(study) if ".finetune." in name][:1]
    first = start(0, [cell], 0.1, unfinished, held=True)
    wait_for(lambda: last_step(unfinished) >= 5, 180)
    first.send(signal.SIGSTOP)
    second = start(1, [cell], 0.5, "shared" if unfinished == "shared" else "other")
    wait_for(lambda: "this one takes over" in second.logged(), 180)
    Path("go").touch()
    first.send(signal.SIGCONT)  # while the other computes
    (run_id,) = second.finish().values()
    assert first.finish() == {cell: run_id}
    assert "another process has taken over finetune-" in first.logged()
    states = {run.info.run_id: run.info.status for run in runs(study)}
    assert states.pop(run_id) == "FINISHED"
    assert list(states.values()) == ([] if unfinished == "shared" else ["KILLED"])
    assert steps(run_id) == list(range(1, STEPS + 1))
