"""A comparison is reused only for the runs that it was made from."""

import mlflow
import pandas as pd
import pytest
from logged_runs import log_run
from synthetic_predictions import BASE, TUNED, gains, tables

from isogloss.config import CompareConfig
from isogloss.stages.compare import run_compare

pytestmark = pytest.mark.usefixtures("no_figures")


def test_an_evaluation_that_was_computed_again_is_compared_again() -> None:
    before, after = tables(gains(0.1, 0.05), n=20).values()
    old = log_run(BASE, before, fingerprint="b")
    log_run(TUNED, after, fingerprint="t")
    first = run_compare(CompareConfig())
    assert run_compare(CompareConfig()) == first
    # With another major version of a library: the same fingerprint, other predictions.
    again: pd.DataFrame = before.assign(correct=False)
    new = log_run(BASE, again, fingerprint="b")
    second = mlflow.get_run(run_compare(CompareConfig()))
    assert second.data.tags["isogloss.cells"].split().count(new) == 1
    assert old not in second.data.tags["isogloss.cells"]
    assert second.data.metrics["gain/mean"] > mlflow.get_run(first).data.metrics["gain/mean"]
