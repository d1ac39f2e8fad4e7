"""A comparison of a study names what the study lacks: failed cells, deleted runs, a newer run."""

import mlflow
import pytest
from logged_runs import log_runs, log_study
from synthetic_predictions import gains, study, tables

from isogloss.config import CompareConfig
from isogloss.errors import ComparisonError
from isogloss.report.omissions import omission_sentence
from isogloss.stages.collect_runs import collect_runs


def sentences() -> list[str]:
    return [omission_sentence(each) for each in collect_runs(CompareConfig(study="s")).omissions]


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_a_newer_run_that_is_not_finished_is_named(status: str) -> None:
    old = log_study(log_runs(tables(gains(0.1, 0.05), n=8)).values())
    assert sentences() == []
    new = log_study([], status)
    assert sentences() == [
        f"Study run {new} of 's' is {status.lower()}; the older run {old} is compared in its place."
    ]
    log_study(log_runs(tables(gains(0.1, 0.05), n=8), again="1").values())
    assert sentences() == []  # the newest is finished


def test_failed_cells_are_named() -> None:
    run = log_study(log_runs(tables(gains(0.1, 0.05), n=8)).values(), failed="2")
    assert sentences() == [f"Study run {run} has failed cells (2), which are left out."]


def test_a_deleted_evaluation_is_named_and_cannot_be_chosen() -> None:
    runs = log_runs(study(1, seeds=3, sources=("arb_Arab",), n=24))
    parent = log_study(runs.values())
    deleted = next(run for key, run in runs.items() if key.seed == "1")
    mlflow.delete_run(deleted)
    assert sentences() == [
        f"Study run {parent} has the evaluate run {deleted}, which is deleted and left out."
    ]
    with pytest.raises(ComparisonError, match=f"run '{deleted}' is deleted"):
        collect_runs(CompareConfig(runs=",".join(runs.values())))
    # What the tags leave out is not missing.
    chosen = CompareConfig(study="s", tags="isogloss.condition=base")
    assert len(collect_runs(chosen).omissions) == 1
