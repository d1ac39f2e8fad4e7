"""Cells per hour with one and with two workers of a Ray cluster on this machine.

python -m benchmarks.scaling.ray_workers --workers 1 --workers 2 --output results.json
"""

import json
import os
import tempfile
from contextlib import chdir
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import mlflow
import psutil
from mlflow.entities import Run

import isogloss
from isogloss import logs
from isogloss.config import StudyConfig
from isogloss.launchers.studies import launch
from isogloss.stages.study import run_study

CELL_KINDS = ("evaluate", "finetune")


@dataclass(frozen=True)
class Rate:
    """A study on so many workers of one core, from its first cell's start to its last one's end.

    `worker_seconds` is the time in cells, of all workers; `loads` the mean number of runnable
    processes of the machine in the minute before, and in the last minute.
    """

    workers: int
    cells: int
    seconds: float
    cells_per_hour: float
    worker_seconds: float
    loads: tuple[float, float]


def study(seeds: int, limit: int, steps: int) -> StudyConfig:
    """A study of the embedded model: its baseline, and two cells for each seed."""
    values = {
        "study": "rate",
        "model": "embedded",
        "languages": ("arb_Arab", "heb_Hebr", "amh_Ethi", "eng_Latn", "fra_Latn", "tur_Latn"),
        "limit": limit,
        "seeds": tuple(range(seeds)),
        "finetune": {"steps": steps, "batch_size": 8, "dev_limit": limit},
        "launcher": "ray",
        "resources": {"gpus": 0, "cpus": 1, "memory_gb": 3},
    }
    return StudyConfig.model_validate(values)


def cells_per_hour(workers: int, config: StudyConfig) -> Rate:
    """Run a study in a new store, on a cluster of this process with one processor per worker."""
    import ray

    before = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ["ISOGLOSS_UNFINISHED"] = f"{folder}/unfinished"
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # of the store before, which MLflow sets
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=200_000_000,
            _node_ip_address="127.0.0.1",
        )
        try:
            run_study(config, launch=launch)
        finally:
            ray.shutdown()
        done = [
            run
            for run in mlflow.search_runs(search_all_experiments=True, output_format="list")
            if run.data.tags["isogloss.kind"] in CELL_KINDS
        ]
    seconds = max(map(_end, done)) - min(map(_start, done))
    busy = sum(_end(run) - _start(run) for run in done)
    return Rate(
        workers=workers,
        cells=len(done),
        seconds=round(seconds, 1),
        cells_per_hour=round(3600 * len(done) / seconds, 1),
        worker_seconds=round(busy, 1),
        loads=(round(before, 1), round(psutil.getloadavg()[0], 1)),
    )


def _start(run: Run) -> float:
    return float(run.info.start_time) / 1000


def _end(run: Run) -> float:
    return float(run.info.end_time) / 1000


@click.command()
@click.option("--workers", type=int, multiple=True, default=(1, 2), show_default=True)
@click.option("--seeds", type=int, default=4, show_default=True)
@click.option("--limit", type=int, default=20, show_default=True)
@click.option("--steps", type=int, default=10, show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=None)
def main(workers: tuple[int, ...], seeds: int, limit: int, steps: int, output: Path | None) -> None:
    """Measure each number of workers in turn."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Workers start in another folder, where a relative path leads elsewhere.
    os.environ["PYTHONPATH"] = str(Path(isogloss.__file__).absolute().parents[1])
    logs.configure()
    rates = []
    for count in workers:
        rates.append(asdict(cells_per_hour(count, study(seeds, limit, steps))))
        print(json.dumps(rates[-1]), flush=True)
        if output:
            output.write_text(f"{json.dumps(rates, indent=2)}\n", "utf-8")


if __name__ == "__main__":
    main()
