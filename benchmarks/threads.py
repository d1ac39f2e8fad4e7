"""How long `finetune` takes by number of threads and by how they wait, alone and beside other work.

    python -m benchmarks.threads [--steps 4] [--busy 0,2] [--settings default,passive] [--rounds 2]

Each measurement is a process that trains the embedded model and evaluates it on four dev items.
Beside it run as many processes as `--busy` says, each of which keeps one processor busy. Settings
take turns. Prints a table of medians in seconds, of the whole command with imports and loading.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "RAYON_NUM_THREADS", "GOMP_SPINCOUNT")
# libgomp spins 300,000 times where nothing is set; `passive` is what isogloss sets.
SETTINGS = {
    "default": {"GOMP_SPINCOUNT": "300000"},
    "active": {"OMP_WAIT_POLICY": "ACTIVE"},
    "passive": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def spin() -> None:
    """Keep one processor busy until the process is ended."""
    while True:
        sum(range(10_000))


@contextmanager
def other_work(n_processes: int) -> Iterator[None]:
    """Context in which that many processes compute."""
    spinning = [multiprocessing.Process(target=spin, daemon=True) for _ in range(n_processes)]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.terminate()
            process.join()


def seconds(setting: Mapping[str, str], steps: int, model: str, timeout: float) -> float:
    """Return the duration of `isogloss finetune` with these variables; infinity at `timeout`."""
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    arguments = f"finetune --model {model} --steps {steps} --limit 64 --dev_limit 4 --quiet"
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        try:
            subprocess.run(
                [sys.executable, "-m", "isogloss", *arguments.split()], cwd=folder, check=True,
                env={**clean, "PYTHONPATH": str(ROOT / "src"), **setting},
                stdout=subprocess.DEVNULL, timeout=timeout,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return float("inf")
        return time.monotonic() - started


@click.command()
@click.option("--steps", default=4, show_default=True)
@click.option("--model", default="embedded", show_default=True)
@click.option("--rounds", default=2, show_default=True)
@click.option("--busy", default="0,2", show_default=True, help="Numbers of busy processes.")
@click.option("--settings", default=",".join(SETTINGS), show_default=True)
@click.option("--timeout", default=600.0, show_default=True, help="Seconds per measurement.")
def main(steps: int, model: str, rounds: int, busy: str, settings: str, timeout: float) -> None:
    """Measure and print the table; on a quiet machine only."""
    names = settings.split(",")
    measured: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for number in busy.split(","):
            for name in names:
                with other_work(int(number)):
                    measured[name, number].append(seconds(SETTINGS[name], steps, model, timeout))
                click.echo(f"{name}, {number} busy: {measured[name, number][-1]:.1f} s", err=True)
    click.echo("| setting | " + " | ".join(f"{number} busy" for number in busy.split(",")) + " |")
    click.echo("|---|" + "---|" * len(busy.split(",")))
    for name in names:
        medians = [statistics.median(measured[name, number]) for number in busy.split(",")]
        click.echo(f"| {name} | " + " | ".join(f"{value:.1f} s" for value in medians) + " |")


if __name__ == "__main__":
    main()
