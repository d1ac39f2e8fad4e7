"""Two processes, started by a launch file of ours, compute what one does."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from launched import everything
from safetensors.torch import load_file

from isogloss.distributed import processes
from isogloss.models.adapters import WEIGHTS
from isogloss.models.loading import load
from isogloss.models.locate import locate

REAL = pytest.mark.real
ROOT = Path(__file__).parents[2]
NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None,
    reason="DeepSpeed is not installed",
)
CONFIGS = ROOT / "configs/accelerate"


def launched(file: str, *command: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """A command in two processes, by one of the launch files."""
    paths = [f"{ROOT}/src", str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch", "--config_file",
            f"{CONFIGS}/{file}", "--num_processes", "2", "--main_process_port", "0", *command,
        ],
        capture_output=True, text=True, timeout=seconds,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("gpus.yaml", marks=REAL),
        pytest.param("fsdp.yaml", marks=REAL),
        pytest.param("deepspeed.yaml", marks=[REAL, NEEDS_DEEPSPEED]),
    ],
)
def two(
    request: pytest.FixtureRequest,
    model_folder: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What came out of two processes."""
    folder = tmp_path_factory.mktemp("two")
    model, result = str(model_folder("gemma3")), str(folder / "result.json")
    said = launched(request.param, f"{ROOT}/tests/launched.py", model, result)
    assert said.returncode == 0, said.stderr[-3000:]
    found = json.loads((folder / "result.json").read_text("utf-8"))
    assert found["count"] == 2
    return {**found, "folder": folder, "file": request.param}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_have_everything_once_and_are_about_as_large(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [50, 3, 40, 7, 7, 90, 1, 12, 33, 33, 60, 5]
    monkeypatch.setattr(processes, "count", lambda: count)
    shares = []
    for rank in range(count):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        shares.append(processes.split_work(list(enumerate(sizes)), lambda thing: thing[1]))
    assert sorted(thing for share in shares for thing in share) == list(enumerate(sizes))
    assert all(share == sorted(share) for share in shares)  # in the order they came in
    loads = [sum(size for _, size in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes)


def test_without_a_launcher_there_is_one_process_whatever_a_cluster_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some clusters set it in every job
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    seen: list[int] = []
    processes.run_on_leader(lambda: seen.append(processes.count()))
    assert seen == [1]
    assert processes.run_on_all(lambda model, number: (model, number), "model", 5) == ("model", 5)


def test_weights_are_spread_where_that_is_asked_for(two: dict[str, Any]) -> None:
    whole = two["file"] == "gpus.yaml"
    assert two["weights_here"] == pytest.approx(1.0 if whole else 0.5, abs=0.01)


def test_two_processes_train_and_answer_as_one_does(
    two: dict[str, Any], model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    one = everything(load(locate(str(model_folder("gemma3"))), "float32"), tmp_path)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    for measured, expected in zip(two["dev"], one["dev"], strict=True):
        assert measured == pytest.approx(expected, rel=1e-4)
    weights = load_file(tmp_path / "work" / "last" / WEIGHTS)
    for name, weight in load_file(two["folder"] / "work" / "last" / WEIGHTS).items():
        assert weight.numpy() == pytest.approx(weights[name].numpy(), abs=1e-4)
    assert one["answers"].keys() == two["answers"].keys()
    for name, tables in one["answers"].items():
        for expected, made in zip(tables, two["answers"][name], strict=True):
            assert [row[:2] for row in made] == [row[:2] for row in expected]
            for (*_, these), (*_, those) in zip(made, expected, strict=True):
                assert these == pytest.approx(those, abs=2e-3)
    assert two["bfloat16"] == pytest.approx(one["bfloat16"], abs=0.2)
    assert two["answers"]["cloze False"] != two["answers"]["cloze True"]
    assert two["done"] == one["done"] == [11] * 12


def test_training_cut_off_and_gone_on_with_gives_the_same_weights_with_dropout(
    two: dict[str, Any],
) -> None:
    whole, cut = two["weights"]
    assert whole == cut


def test_an_error_of_one_process_is_raised_by_the_one_that_leads_and_the_others_are_well(
    two: dict[str, Any],
) -> None:
    assert two["user"] == ["TrainingError", "out of memory here."]
    kind, said = two["other"]
    assert kind == "RuntimeError"
    assert "process 1 of 2 has failed" in said
    assert "KeyError: 'no such thing'" in said
    assert re.search("the loss of step|gives no numbers after step", two["wild"])
