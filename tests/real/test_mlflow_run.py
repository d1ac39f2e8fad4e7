"""Every entry point as users start it: `mlflow run . -e NAME --env-manager local` in a clone."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import mlflow
import psutil
import pytest

from real.processes import wait_for

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]
TARGETS = "heb_Hebr,amh_Ethi,eng_Latn,fra_Latn"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's files alone."""
    folder = tmp_path_factory.mktemp("clone") / "isogloss"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    return folder


def start(
    clone: Path, name: str, *parameters: str, uri: str | None = None, experiment: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run an entry point; `parameters` are NAME=VALUE, `uri` is a store other than the clone's."""
    words = [word for parameter in parameters for word in ("-P", parameter)]
    # mlflow.set_tracking_uri sets a variable that child processes inherit; the clone has a store.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    if uri:
        clean["MLFLOW_TRACKING_URI"] = uri
    words += ["--experiment-name", experiment] if experiment else []
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["mlflow", "run", ".", "-e", name, "--env-manager", "local", *words],
        cwd=clone, env={**clean, "PATH": search}, capture_output=True, text=True,
    )  # fmt: skip


def run_id(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr[-3000:]
    match = re.search(r"^run (\w{32})$", result.stdout, re.MULTILINE)
    assert match, result.stdout
    return match[1]


def test_each_entry_point_takes_the_results_of_those_before_it(clone: Path) -> None:
    where = [f"languages={TARGETS}", "limit=2", "study=chain"]
    base = run_id(start(clone, "evaluate", *where))
    trained = run_id(start(clone, "finetune", "steps=2", "batch_size=2", "dev_limit=2"))
    tuned = run_id(start(clone, "evaluate", f"adapter={trained}", *where))
    compared = start(clone, "compare", "study=chain")
    assert "claims (evidence in the report): C1 " in compared.stdout, compared.stderr[-3000:]
    report = re.search(r"^report: (.*)$", compared.stdout, re.MULTILINE)
    assert report
    assert Path(report[1]).is_file()
    registered = start(clone, "register", f"adapter={trained}", "name=reader")
    assert "models:/reader/1: registered; alias candidate is at version 1" in registered.stdout
    by_alias = start(clone, "evaluate", "adapter=models:/reader@candidate", *where)
    assert run_id(by_alias) == tuned != base
    store = mlflow.MlflowClient(f"sqlite:///{clone}/mlflow.db")
    tracking = f"{store.get_run(base).info.artifact_uri}/predictions.parquet"
    origin = ["model=other", "condition=base", "task=probe", "format=cloze"]
    imported = start(clone, "import", f"path={tracking}", *origin)
    line = r"^base +other, probe \(cloze\): 4 languages, 8 items"
    assert re.search(line, imported.stdout, re.MULTILINE)
    planned = start(clone, "plan", "control=8,12")
    assert "equivalent" in planned.stdout, planned.stderr[-3000:]
    (clone / "small.yaml").write_text("{rank: [2, 4], steps: 1, batch_size: 2}\n", "utf-8")
    searched = start(clone, "tune", "trials=1", "space=small.yaml", "dev_limit=2")
    assert "1 complete; the best is trial 0" in searched.stdout, searched.stderr[-3000:]
    assert store.get_run(tuned).data.tags["isogloss.condition"] == "tuned"
    assert int(store.get_model_version_by_alias("reader", "candidate").version) == 1


def test_an_unknown_parameter_is_rejected_by_name(clone: Path) -> None:
    result = start(clone, "evaluate", "no_such_thing=1")
    assert result.returncode != 0
    assert "--no_such_thing" in result.stderr
    assert "Traceback" not in result.stderr.split("mlflow.projects")[0]


@pytest.mark.skipif(
    not entry_points(group="mlflow.default_experiment_provider", name="isogloss"),
    reason="the installed isogloss does not have it yet: pip install --no-deps -e .",
)
def test_runs_have_an_experiment_and_names_and_a_refused_command_leaves_no_row(
    clone: Path, tmp_path: Path
) -> None:
    def rows(experiment: str) -> list[str]:
        found = store.get_experiment_by_name(experiment)
        runs = store.search_runs([found.experiment_id]) if found else []
        return [run.info.run_name for run in runs]

    database = f"sqlite:///{tmp_path}/own.db"
    store = mlflow.MlflowClient(database)
    where = [f"languages={TARGETS}", "limit=1"]
    refused = start(clone, "evaluate", "limit=few", uri=database)
    assert refused.returncode == 1
    assert "Error: limit should be an integer or 'all', but got 'few'." in refused.stderr
    assert "Traceback" not in refused.stderr
    assert rows("isogloss") == []
    run_id(start(clone, "evaluate", *where, uri=database))
    run_id(start(clone, "evaluate", *where, uri=database))
    name = "base · embedded · probe"
    assert sorted(rows("isogloss")) == [name, f"{name} (reused)"]
    assert rows("Default") == []
    run_id(start(clone, "evaluate", *where, uri=database, experiment="named"))
    assert rows("named") == [name]


def last_step(cache: Path) -> int:
    lines = [
        json.loads(line)["step"]
        for path in cache.glob("unfinished/*/finetune-*/metrics.jsonl")
        for line in path.read_text("utf-8").splitlines()
    ]
    return max(lines, default=0)


def test_a_training_of_a_git_uri_resumes_though_each_call_has_a_checkout_of_its_own(
    clone: Path, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *words], cwd=clone, check=True)
    # MLflow uses a file:// URI in place if its path exists, and it does not decode the URI as git does.
    uri = f"file://{clone.parent}/%69sogloss"
    cache, checkouts = tmp_path / "cache", tmp_path / "checkouts"
    checkouts.mkdir()
    left_out = ("MLFLOW_", "ISOGLOSS_")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(left_out)},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        "ISOGLOSS_CACHE": str(cache),
        "TMPDIR": str(checkouts),
    }
    steps = 80
    parameters = [
        f"model={model_folder('gemma3')}", "dtype=float32", f"steps={steps}", "batch_size=2",
        "limit=4", "dev_limit=2", "rank=2", f"eval_every={steps}", "checkpoint_every=5",
    ]  # fmt: skip
    words = [word for parameter in parameters for word in ("-P", parameter)]
    command = ["mlflow", "run", uri, "-e", "finetune", "--env-manager", "local", *words]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, **silent) as first:
        wait_for(lambda: last_step(cache) >= 10)
        below = psutil.Process(first.pid).children(recursive=True)
        (training,) = [one for one in below if "entrypoints.finetune" in one.cmdline()]
        training.kill()
        reached = last_step(cache)
        assert reached < steps
        assert first.wait(60) == 1
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "resuming the run that was interrupted" in again.stderr, again.stderr[-3000:]
    resumed = run_id(again)
    assert len({path.parent for path in checkouts.glob("*/MLproject")}) == 2
    run = mlflow.get_run(resumed)
    assert run.info.status == "FINISHED"
    losses = mlflow.MlflowClient().get_metric_history(resumed, "train/loss")
    assert [point.step for point in losses] == list(range(1, steps + 1))
    # The steps up to the last checkpoint are not done again: they have the time of the first call.
    (project,) = [
        run for run in mlflow.search_runs(output_format="list", search_all_experiments=True)
        if run.data.tags.get("isogloss.resumes") == resumed
    ]  # fmt: skip
    before = sum(point.timestamp < project.info.start_time for point in losses)
    assert reached - 5 <= before <= reached + 1
    assert not list(cache.glob("unfinished/*/finetune-*"))
