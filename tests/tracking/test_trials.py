"""Runs of trials that are sent again after a kill."""

from pathlib import Path

import mlflow
import pytest

from isogloss.tracking.metric_log import METRICS_FILE
from isogloss.tracking.resume import RUN_FILE, WorkDir
from isogloss.tracking.trials import TrialOutcome, TrialRun, publish_trial


def test_a_process_killed_while_it_deletes_a_sent_trial_causes_no_second_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "trial-1"
    folder.mkdir()
    tags = {"isogloss.kind": "trial", "isogloss.trial": "1"}
    TrialRun(experiment_id="0", name="trial 1", started=1, tags=tags).write(folder)
    (folder / METRICS_FILE).write_text('{"key": "a", "value": 1.5, "timestamp": 1, "step": 1}\n')
    outcome = TrialOutcome(1, "complete", objective=0.5)

    def killed(work: WorkDir) -> None:
        (work.folder / RUN_FILE).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WorkDir, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            publish_trial(outcome, folder)
    publish_trial(outcome, folder)
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"a": 1.5, "objective": 0.5}
    assert len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "a")) == 1
    assert not folder.exists()
