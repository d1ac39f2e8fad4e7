"""Copy the report and the tables of a finished study to docs/results/NAME, and say how it was made.

Items are left out of the report, since their texts have licences of their own. `provenance.json`
has the command, the commit, versions, the processor and the time of every cell.
Runs are those of MLflow's default store or of MLFLOW_TRACKING_URI. From the repository's root:

    PYTHONPATH=src python -m scripts.keep_results NAME --command "mlflow run . -P study=..."
"""

import json
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import mlflow
from mlflow.entities import Run

from isogloss.cli.command import user_errors
from isogloss.errors import TrackingError
from isogloss.report.items_page import without_items
from isogloss.tracking import tag
from isogloss.tracking.search import FINISHED, experiments, find_runs
from isogloss.tracking.tags import prefixed, read_parts

PROVENANCE = "provenance.json"
KEPT = ("report.html", "*.csv", "baseline.png")  # the report holds all figures
MATRIX_UNITS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # flags that decide speed


def keep(study: str, out: Path, command: str) -> Path:
    """Write `out`/STUDY from the last finished run of a study; TrackingError if there is none."""
    runs = _finished(study)
    parent = next((run for run in runs if tag(run, "kind") == "study"), None)
    comparison = next((run for run in runs if tag(run, "kind") == "compare"), None)
    if parent is None or comparison is None:
        raise TrackingError(f"the store has no finished run and comparison of study {study!r}.")
    folder = out / study
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for run in (comparison, parent):
        with TemporaryDirectory() as temporary:
            mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=temporary)
            for path in (path for kind in KEPT for path in Path(temporary).rglob(kind)):
                shutil.copy(path, folder)
    if (report := folder / "report.html").exists():
        report.write_text(without_items(report.read_text("utf-8")), encoding="utf-8")
    cells = _cells(parent, runs)
    text = json.dumps(_provenance(parent, comparison, cells, command), indent=2)
    (folder / PROVENANCE).write_text(f"{text}\n", encoding="utf-8")
    return folder


def _finished(study: str) -> list[Run]:
    """The last finished run of each piece of work of a study, latest first."""
    experiment_ids = [experiment.experiment_id for experiment in experiments()]
    found = find_runs(experiment_ids, prefixed({"study": study}), status=FINISHED)
    by_work: dict[tuple[str | None, ...], Run] = {}
    for run in found:
        by_work.setdefault((tag(run, "kind"), tag(run, "fingerprint")), run)
    return list(by_work.values())


def _cells(parent: Run, runs: Sequence[Run]) -> list[Run]:
    """The evaluations that a study run names, and the trainings of their adapters."""
    ids = read_parts(parent, "cells")
    evaluated = [run for run in runs if run.info.run_id in ids]
    adapters = {tag(run, "adapter") for run in evaluated}
    trained = [
        run for run in runs if tag(run, "kind") == "finetune" and tag(run, "adapter") in adapters
    ]
    return [*evaluated, *trained]


def _provenance(
    parent: Run, comparison: Run, cells: Sequence[Run], command: str
) -> dict[str, object]:
    tags = parent.data.tags
    versions = {
        text
        for run in (*cells, comparison)
        for name in ("versions", "libraries")
        for text in (tag(run, name) or "").split()
    }
    seconds = {
        f"{tag(run, 'kind')} {run.info.run_name} ({tag(run, 'model')})": _seconds(run)
        for run in sorted(cells, key=lambda run: run.info.start_time)
    }
    return {
        "command": command,
        "commit": tags.get("mlflow.source.git.commit"),
        "commit_of_report": comparison.data.tags.get("mlflow.source.git.commit"),
        "finished": datetime.fromtimestamp(parent.info.end_time / 1000, UTC).isoformat(
            "T", "minutes"
        ),
        "processor": _processor(),
        "hours_of_cells": round(sum(seconds.values()) / 3600, 2),
        "versions": sorted(versions),
        "verdicts": {claim: tag(comparison, f"verdict_{claim}") for claim in ("C1", "C2", "C3")},
        "seconds_by_cell": seconds,
    }


def _seconds(run: Run) -> float:
    milliseconds: int = run.info.end_time - run.info.start_time
    return round(milliseconds / 1000, 1)


def _processor() -> str:
    """The processor of this machine, from Linux's list of processors."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = re.findall(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = set(text.split())
    units = " ".join(flag for flag in MATRIX_UNITS if flag in flags)
    return f"{names[0] if names else 'unknown'}, {len(names)} cores, {units}"


@click.command(help=__doc__)
@click.argument("study")
@click.option("--command", required=True, help="The command that ran the study.")
@click.option("--out", default="docs/results", show_default=True, type=click.Path(path_type=Path))
def main(study: str, command: str, out: Path) -> None:
    """Keep the results of a study."""
    with user_errors():
        click.echo(keep(study, out, command))


if __name__ == "__main__":
    main()
