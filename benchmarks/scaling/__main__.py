"""What a large tracking store costs; figures in docs/explanation/scaling-figures.md.

    PYTHONPATH=src python -m benchmarks.scaling                          # sqlite, 10,000 runs
    PYTHONPATH=src python -m benchmarks.scaling --uri postgresql+psycopg2://user@host/database

The store is filled if it has fewer runs. An empty database is needed, and 1.5 GB on disk.
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

import mlflow

from benchmarks.scaling.filled_store import fill
from benchmarks.scaling.measure import Cost, measure
from isogloss.tracking.store import ensure_store


def main() -> None:
    """Fill the store where needed, measure, print a table and write results.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(".bench/scaling"))
    parser.add_argument("--uri", help="the tracking store; default: sqlite in the folder")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--metrics", type=int, default=200, help="of each run")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    mlflow.set_tracking_uri(options.uri or f"sqlite:///{Path.cwd()}/mlflow.db")
    ensure_store()
    if not mlflow.search_runs(search_all_experiments=True, max_results=1, output_format="list"):
        fill(options.runs, options.metrics)
    costs = measure(options.repeats)
    Path("results.json").write_text(json.dumps([asdict(cost) for cost in costs], indent=2))
    print(table(costs))


def table(costs: list[Cost]) -> str:
    """The figures as a table in Markdown."""
    rows = [
        f"| {cost.step} | {cost.seconds:.2f} | {cost.selects} | {cost.writes} | {cost.rows:,} |"
        for cost in costs
    ]
    heading = ["| step | s | queries | writes | rows read |", "|---|---:|---:|---:|---:|"]
    return "\n".join([*heading, *rows])


if __name__ == "__main__":
    main()
