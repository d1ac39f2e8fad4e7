"""Kept results: files of the last finished study, and how long its cells took."""

import json
from pathlib import Path

import mlflow
import pytest

from isogloss.errors import TrackingError
from scripts.keep_results import PROVENANCE, keep


def logged(
    kind: str,
    fingerprint: str,
    file: str | None = None,
    status: str = "FINISHED",
    **more: str,
) -> str:
    client = mlflow.MlflowClient()
    tags = {"kind": kind, "study": "tiny", "fingerprint": fingerprint, "libraries": "torch:2.13.0"}
    tags |= more
    run = client.create_run(
        "0", start_time=1000, tags={f"isogloss.{name}": value for name, value in tags.items()}
    )
    if file:
        client.log_text(run.info.run_id, kind, file)
    client.set_terminated(run.info.run_id, status, end_time=3500)
    return str(run.info.run_id)


def test_the_report_is_kept_with_the_time_of_each_cell(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="no finished run and comparison of study 'tiny'"):
        keep("tiny", tmp_path, "mlflow run .")
    cell = logged("evaluate", "a", adapter="x")
    logged("finetune", "b", adapter="x")
    logged("finetune", "c", status="FAILED", adapter="x")
    logged("evaluate", "e", adapter="y")  # of an earlier attempt at the study
    logged("finetune", "f", adapter="y")
    compared = logged("compare", "d", "report/report.html", verdict_C1="inconclusive")
    study = logged("study", "d", "models.csv", cells=cell)
    for run_id, commit in ((study, "computed"), (compared, "drawn")):
        mlflow.MlflowClient().set_tag(run_id, "mlflow.source.git.commit", commit)
    (stale := tmp_path / "tiny" / "old.csv").parent.mkdir()
    stale.touch()

    folder = keep("tiny", tmp_path, "mlflow run .")
    assert {path.name for path in folder.iterdir()} == {PROVENANCE, "report.html", "models.csv"}
    provenance = json.loads((folder / PROVENANCE).read_text())
    assert provenance["command"] == "mlflow run ."
    assert (provenance["commit"], provenance["commit_of_report"]) == ("computed", "drawn")
    assert provenance["versions"] == ["torch:2.13.0"]
    assert provenance["verdicts"]["C1"] == "inconclusive"
    assert list(provenance["seconds_by_cell"].values()) == [2.5, 2.5]


def test_a_kept_report_has_no_texts_of_items(tmp_path: Path) -> None:
    cell = logged("evaluate", "a")
    compared = logged("compare", "d")
    block = '<script type="application/json" id="items-data">{"question": "secret"}</script>'
    client = mlflow.MlflowClient()
    client.log_text(compared, f"<p>before</p>{block}<p>after</p>", "report/report.html")
    client.log_text(compared, "secret", "report/items.html")
    logged("study", "d", cells=cell)
    folder = keep("tiny", tmp_path, "mlflow run .")
    assert {path.name for path in folder.iterdir()} == {PROVENANCE, "report.html"}
    kept = (folder / "report.html").read_text("utf-8")
    assert "secret" not in kept
    assert kept.startswith("<p>before</p>")
    assert kept.endswith("<p>after</p>")
