"""Entry points in two processes, as `accelerate launch` starts them."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import yaml
from mlflow.entities import Run

from isogloss.tracking import read_predictions
from real.processes import ROOT, environment, finished, last_step, wait_for

pytestmark = pytest.mark.real


@contextmanager
def launched(entry: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """An entry point in two processes, which are killed at the end if they still run."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file",
        str(ROOT / "configs/accelerate/gpus.yaml"), "--num_processes", "2",
        "--main_process_port", "0", "-m", f"entrypoints.{entry}", *options,
    ]  # fmt: skip
    launcher = subprocess.Popen(
        command, env={**environment(), "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield launcher
    finally:
        for process in [*children(launcher), launcher]:
            process.kill()
        launcher.communicate()


def children(launcher: subprocess.Popen[str]) -> list[psutil.Process]:
    if launcher.poll() is not None:
        return []
    return psutil.Process(launcher.pid).children(recursive=True)


def runs(experiment: str, kind: str) -> list[Run]:
    matches: list[Run] = mlflow.search_runs(
        experiment_names=[experiment],
        filter_string=f"tags.`isogloss.kind` = '{kind}'", output_format="list",
    )  # fmt: skip
    return sorted(matches, key=lambda run: run.data.tags.get("isogloss.condition", ""))


def test_a_study_in_two_processes_has_the_results_of_one_process(
    model_folder: Callable[[str], Path],
) -> None:
    study = {
        "study": "tiny", "model": str(model_folder("gemma3")), "dtype": "float32", "limit": 6,
        "languages": ["arb_Arab", "heb_Hebr", "amh_Ethi", "eng_Latn", "fra_Latn"],
        "finetune": {
            "steps": 3, "batch_size": 4, "dev_limit": 4, "rank": 2, "alpha": 4,
            "learning_rate": 0.01,
        },
    }  # fmt: skip
    Path("study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    with launched("main", "--study", "study.yaml", "--experiment", "two") as launcher:
        _, log = finished(launcher, 240)
    assert log.count("gemma3 (float32, ") == 1  # the second process logs nothing
    subprocess.run(
        [sys.executable, "-m", "entrypoints.main", "--study", "study.yaml", "--experiment", "one"],
        env={**environment(), "PYTHONPATH": str(ROOT)}, check=True, capture_output=True,
    )  # fmt: skip
    pairs = list(zip(runs("one", "evaluate"), runs("two", "evaluate"), strict=True))
    assert len(pairs) == 2
    for one, two in pairs:
        expected, predictions = (read_predictions(run.info.run_id) for run in (one, two))
        assert predictions["prediction"].tolist() == expected["prediction"].tolist()
        assert np.allclose(predictions["gold_logprob"], expected["gold_logprob"], atol=1e-3)
        assert two.data.tags["isogloss.processes"] == "2"
        assert "isogloss.processes" not in one.data.tags
    (one,), (two,) = runs("one", "finetune"), runs("two", "finetune")
    client = mlflow.MlflowClient()
    losses = [
        [point.value for point in client.get_metric_history(run.info.run_id, "train/loss")]
        for run in (one, two)
    ]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_user_error_is_printed_once_and_ends_both_processes() -> None:
    for options, message in (
        (["--steps", "-3"], "steps"),
        (
            ["--task", "sib200", "--data_dir", "nowhere"],
            "data_dir 'nowhere' is not a folder; looked for at ",
        ),
    ):
        with launched("finetune", *options) as launcher:
            _, log = launcher.communicate(timeout=60)
        assert launcher.returncode != 0
        assert log.count("Error: ") - log.count("ChildFailedError: ") == 1
        assert message in log


@pytest.mark.parametrize(("rank", "processes"), [(0, 1), (1, 2)])
def test_a_killed_process_ends_the_other_and_any_number_of_processes_resumes(
    model_folder: Callable[[str], Path], rank: int, processes: int
) -> None:
    command = (
        "finetune", "--model", str(model_folder("gemma3")), "--dtype", "float32", "--limit", "16",
        "--dev_limit", "4", "--steps", "400", "--batch_size", "4", "--rank", "2",
        "--eval_every", "100", "--checkpoint_every", "10",
    )  # fmt: skip
    with launched(*command) as launcher:
        wait_for(lambda: last_step() >= 20)
        both = [process for process in children(launcher) if "RANK" in process.environ()]
        (victim,) = [process for process in both if process.environ()["RANK"] == str(rank)]
        victim.kill()
        killed = time.monotonic()
        launcher.communicate(timeout=60)
        assert launcher.returncode != 0
        assert not any(process.is_running() for process in both)
        assert time.monotonic() - killed < 60
    assert last_step() < 400
    if processes == 2:
        with launched(*command) as launcher:
            printed, log = finished(launcher, 240)
    else:
        alone = subprocess.run(
            [sys.executable, "-m", "entrypoints.finetune", *command[1:]],
            env={**environment(), "PYTHONPATH": str(ROOT)}, check=True, capture_output=True,
            text=True,
        )  # fmt: skip
        printed, log = alone.stdout, alone.stderr
    (run,) = runs("isogloss", "finetune")
    assert "resuming the run that was interrupted" in log
    assert f"run {run.info.run_id}" in printed
    losses = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in losses] == list(range(1, 401))


def test_a_search_is_led_by_one_process(model_folder: Callable[[str], Path]) -> None:
    space = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "rank": 2, "steps": 4}
    Path("space.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
    with launched(
        "tune", "--model", str(model_folder("gemma3")), "--dtype", "float32", "--limit", "8",
        "--dev_limit", "6", "--trials", "9", "--space", "space.yaml", "--measurements", "2",
        "--objective", "gold_logprob", "--storage", "sqlite:///search.db",
    ) as launcher:  # fmt: skip
        printed, _ = finished(launcher, 240)
    assert "; the best is trial" in printed
    states = [run.data.tags["isogloss.state"] for run in runs("isogloss", "trial")]
    assert len(states) == 9
    assert set(states) <= {"complete", "pruned"}
