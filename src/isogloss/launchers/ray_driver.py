"""The loop of launcher=ray: it starts workers, gives them cells, and replaces lost ones."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.entities import Run

from isogloss.formatting import duration
from isogloss.launchers import ray_cluster
from isogloss.launchers.cell_queue import MOST_ATTEMPTS, CellQueue, Loss
from isogloss.launchers.ray_resources import Demand
from isogloss.launchers.ray_worker import (
    INTERRUPT,
    CellWorker,
    Outcome,
    Place,
    Settings,
    Task,
    code_digest,
    send_signal,
)
from isogloss.stages.remaining import Remaining
from isogloss.stages.study_cells import EvaluateCell, StudyCell

if TYPE_CHECKING:
    from ray import ObjectRef

logger = logging.getLogger(__name__)

POLL = 1.0  # seconds
MOST_STARTING = 8  # workers that wait for a place at the same time
REMINDER = 60.0  # seconds between lines on what is being waited for
NODE_PATIENCE = 900.0  # seconds that a model waits for a node large enough, which may be starting
GRACE = 30.0  # seconds for a cell to end after an interruption


@dataclass(eq=False)
class _Worker:
    """An actor, what it was last asked, and the cell it runs; `place` is None while it starts."""

    model: str
    actor: Any  # a handle of CellWorker, whose methods Ray makes at run time
    answer: "ObjectRef[Place | Outcome]"
    place: Place | None = None
    cell: StudyCell | None = None
    since: float = field(default_factory=time.monotonic)


@dataclass
class Driver:
    """The loop that starts workers, gives them cells, and collects what comes of these."""

    queue: CellQueue
    asked: Mapping[str, Demand]
    settings: Settings
    parent: str
    names: Mapping[StudyCell, str]
    remaining: Remaining
    runs: dict[StudyCell, Run] = field(default_factory=dict)
    workers: list[_Worker] = field(default_factory=list)
    failed_starts: dict[str, int] = field(default_factory=dict)  # in a row, by model
    without_node: dict[str, float] = field(default_factory=dict)  # since when, by model
    reminded: float = field(default_factory=time.monotonic)
    code: str = field(default_factory=code_digest)

    def work(self) -> None:
        """Run all cells."""
        import ray

        for cell in self.queue.failed:
            logger.error(f"{self.names[cell]} is not run: {self.queue.failed[cell]}")
        while not self.queue.finished:
            self._balance()
            answers = [worker.answer for worker in self.workers]
            if not answers:
                time.sleep(POLL)
                continue
            ready, _ = ray.wait(answers, num_returns=1, timeout=POLL)
            for worker in [own for own in self.workers if own.answer in ready]:
                self._receive(worker)
            self._remind()

    def _balance(self) -> None:
        """Start workers for cells that are ready, and end those that wait in vain."""
        for model in dict.fromkeys([*self.queue.models(), *(own.model for own in self.workers)]):
            starting = [own for own in self.workers if own.model == model and own.place is None]
            wanted = len(self.queue.ready(model))
            for surplus in starting[wanted:]:
                self._release(surplus)
            for _ in range(wanted - len(starting)):
                if sum(own.place is None for own in self.workers) >= MOST_STARTING:
                    return
                self._start(model)

    def _start(self, model: str) -> None:
        import ray

        demand = self.asked[model]
        options = {"num_cpus": demand.cpus, "num_gpus": demand.gpus, "memory": demand.memory}
        remote: Any = ray.remote(CellWorker)  # Ray's types know neither its options nor its methods
        actor = remote.options(**options, max_restarts=0, max_task_retries=0).remote(self.settings)
        self.workers.append(_Worker(model, actor, actor.place.remote()))

    def _receive(self, worker: _Worker) -> None:
        """Take what a worker answers, or notice that it is lost; then give it the next cell."""
        import ray
        from ray.exceptions import RayError

        try:
            answer = ray.get(worker.answer)
        except RayError as error:
            self._lose(worker, error)
            return
        if isinstance(answer, Place):
            if answer.code != self.code:
                reason = f"{answer.host} has another version of isogloss than this machine"
                self._release(worker)
                self._fail_start(worker.model, reason)
                return
            worker.place = answer
            self.failed_starts[worker.model] = 0
        elif worker.cell is not None:
            self._record(worker, worker.cell, answer)
        if worker in self.workers:
            self._give(worker)

    def _give(self, worker: _Worker) -> None:
        """Give a worker the next cell of its model; end it if none is ready."""
        cell = self.queue.take(worker.model)
        if cell is None or worker.place is None:
            self._release(worker)
            return
        finetuned = None
        if isinstance(cell, EvaluateCell) and cell.finetuned:
            finetuned = self.runs[cell.finetuned].info.run_id
        task = Task(cell, self.names[cell], self.parent, finetuned)
        worker.cell, worker.since = cell, time.monotonic()
        self.remaining.start(cell)
        worker.answer = worker.actor.run.remote(task)
        logger.info(f"{task.label}: on {worker.place.host}, process {worker.place.process}")

    def _record(self, worker: _Worker, cell: StudyCell, outcome: Outcome) -> None:
        """Note what came of a cell."""
        name, seconds = self.names[cell], time.monotonic() - worker.since
        worker.cell = None
        if outcome.run:
            self.runs[cell] = mlflow.get_run(outcome.run)
            self.queue.finish(cell)
            started = self.runs[cell].info.start_time / 1000  # of a reused run, earlier
            self.remaining.start(cell, outcome.share, outcome.seconds)
            self.remaining.finish(cell, computed=started >= time.time() - seconds)
            logger.info(f"{name}: done in {duration(seconds)}{self._rest()}")
        elif outcome.again:
            self._again(cell, Loss.WORKER, outcome.reason.rstrip("."))
            self._release(worker)
        else:
            logger.error(f"{name} failed: {outcome.reason}")
            self.queue.fail(cell, outcome.reason)
            if outcome.unloadable:
                self.queue.fail_model(worker.model, outcome.reason)

    def _rest(self) -> str:
        """How many cells are left, and about how long they take."""
        if self.queue.finished:
            return ""
        for cell in [cell for cell in self.remaining.left if cell in self.queue.failed]:
            self.remaining.finish(cell, computed=False)
        # The worker that has just answered gets another cell.
        busy = 1 + sum(worker.cell is not None for worker in self.workers)
        seconds = self.remaining.seconds(min(busy, self.queue.left))
        time_left = "" if seconds is None else f", about {duration(seconds)}"
        return f"; {self.queue.left} of {len(self.names)} cells left{time_left}"

    def _lose(self, worker: _Worker, error: Exception) -> None:
        """A worker is gone: its cell is tried again, unless it has been lost too often."""
        from ray.exceptions import OutOfMemoryError, RayActorError

        self._release(worker)
        cell, place = worker.cell, worker.place
        if cell is None or place is None:
            in_python = isinstance(error, RayActorError) and error.actor_init_failed
            lines = str(error).strip().splitlines() or [repr(error)]
            reason = lines[-1 if in_python else 0].strip().rstrip(".")
            self._fail_start(worker.model, f"its workers do not start: {reason}")
            return
        where = f"process {place.process} on {place.host}"
        if place.node not in {node.id for node in ray_cluster.nodes()}:
            self._again(cell, Loss.NODE, f"{place.host} was lost")
        elif isinstance(error, OutOfMemoryError):
            self._again(cell, Loss.WORKER, f"{where} was ended because memory ran out")
        else:
            self._again(cell, Loss.WORKER, f"{where} was killed or crashed")

    def _again(self, cell: StudyCell, loss: Loss, reason: str) -> None:
        if self.queue.lose(cell, loss, reason):
            logger.warning(f"{self.names[cell]}: {reason}; it is tried again")
        else:
            logger.error(f"{self.names[cell]} failed: {self.queue.failed[cell]}")

    def _fail_start(self, model: str, reason: str) -> None:
        """Give up a model none of whose workers starts."""
        self.failed_starts[model] = self.failed_starts.get(model, 0) + 1
        logger.warning(f"{model}: {reason}")
        if self.failed_starts[model] >= MOST_ATTEMPTS[Loss.WORKER]:
            self._fail_model(model, f"{reason}.")

    def _fail_model(self, model: str, reason: str) -> None:
        logger.error(f"no more cells of {model} are run: {reason}")
        self.queue.fail_model(model, reason)

    def _release(self, worker: _Worker) -> None:
        """End a worker, which frees its place."""
        import ray

        self.workers.remove(worker)
        ray.kill(worker.actor, no_restart=True)

    def _remind(self) -> None:
        """Now and then say which models wait for a place, and give up those that get none."""
        if time.monotonic() - self.reminded < REMINDER:
            return
        self.reminded = time.monotonic()
        cluster = ray_cluster.nodes()
        for model in self.queue.models():
            demand = self.asked[model]
            if any(demand.fits(node) for node in cluster):
                self.without_node.pop(model, None)
                continue
            since = self.without_node.setdefault(model, time.monotonic())
            reason = f"no node of the cluster has {demand.text}, which a worker of {model} takes"
            if time.monotonic() - since < NODE_PATIENCE:
                logger.warning(f"{reason}; waiting for one")
            else:
                self._fail_model(model, f"{reason}; state `resources` in the study file.")

    def stop(self) -> None:
        """End all workers; those that run a cell are interrupted first and given time to end it."""
        import ray
        from ray.exceptions import RayError

        try:
            busy = [worker for worker in self.workers if worker.cell and worker.place]
            if busy:
                logger.info(f"ending {len(busy)} cells that are running")
                signals = [_interrupt(worker.place) for worker in busy if worker.place]
                answers = [worker.answer for worker in busy]
                ray.wait(answers, num_returns=len(answers), timeout=GRACE)
                del signals
        except RayError as error:
            logger.debug("workers cannot be interrupted", exc_info=error)
        finally:
            for worker in list(self.workers):
                with suppress(RayError):
                    self._release(worker)


def _interrupt(place: Place) -> "ObjectRef[None]":
    """Send a signal to a worker, by a task on its node that takes no place there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(place.node, soft=False)
    task = ray.remote(send_signal).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    return task.remote(place.process, int(INTERRUPT))
