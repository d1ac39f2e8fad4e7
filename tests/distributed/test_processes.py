"""Two processes, started with the launch files of configs/accelerate, compute what one does."""

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
from launched_program import train_and_predict
from safetensors.torch import load_file

from isogloss.distributed import processes
from isogloss.models.adapter_files import WEIGHTS
from isogloss.models.loading import load
from isogloss.models.locate import locate

REAL = pytest.mark.real
ROOT = Path(__file__).parents[2]
NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None,
    reason="DeepSpeed is not installed",
)
CONFIGS = ROOT / "configs/accelerate"


def launch(file: str, *command: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes with a launch file."""
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
    """The results of two processes."""
    folder = tmp_path_factory.mktemp("two")
    model, file = str(model_folder("gemma3")), folder / "results.json"
    process = launch(request.param, f"{ROOT}/tests/launched_program.py", model, str(file))
    assert process.returncode == 0, process.stderr[-3000:]
    results = json.loads(file.read_text("utf-8"))
    assert results["count"] == 2
    return {**results, "folder": folder, "launch_file": request.param}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_have_every_item_once_and_similar_sizes(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [50, 3, 40, 7, 7, 90, 1, 12, 33, 33, 60, 5]
    monkeypatch.setattr(processes, "count", lambda: count)
    shares = []
    for rank in range(count):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        shares.append(processes.split_work(list(enumerate(sizes)), lambda item: item[1]))
    assert sorted(item for share in shares for item in share) == list(enumerate(sizes))
    assert all(share == sorted(share) for share in shares)  # in their original order
    totals = [sum(size for _, size in share) for share in shares]
    assert max(totals) - min(totals) <= max(sizes)


def test_without_a_launcher_there_is_one_process_whatever_the_cluster_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some clusters set it in every job
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    counts: list[int] = []
    processes.run_on_leader(lambda: counts.append(processes.count()))
    assert counts == [1]
    result = processes.run_on_all(lambda model, number: (model, number), "model", 5)
    assert result == ("model", 5)


def test_weights_are_sharded_only_where_the_launch_file_says_so(two: dict[str, Any]) -> None:
    whole = two["launch_file"] == "gpus.yaml"
    assert two["held_fraction"] == pytest.approx(1.0 if whole else 0.5, abs=0.01)


def test_two_processes_train_and_predict_as_one_does(
    two: dict[str, Any], model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    one = train_and_predict(load(locate(str(model_folder("gemma3"))), "float32"), tmp_path)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    for measured, expected in zip(two["dev"], one["dev"], strict=True):
        assert measured == pytest.approx(expected, rel=1e-4)
    weights = load_file(tmp_path / "work" / "last" / WEIGHTS)
    for name, weight in load_file(two["folder"] / "work" / "last" / WEIGHTS).items():
        assert weight.numpy() == pytest.approx(weights[name].numpy(), abs=1e-4)
    assert one["answers"].keys() == two["answers"].keys()
    for name, tables in one["answers"].items():
        for expected_rows, rows in zip(tables, two["answers"][name], strict=True):
            assert [row[:2] for row in rows] == [row[:2] for row in expected_rows]
            for (*_, logprobs), (*_, expected) in zip(rows, expected_rows, strict=True):
                assert logprobs == pytest.approx(expected, abs=2e-3)
    assert two["bfloat16"] == pytest.approx(one["bfloat16"], abs=0.2)
    assert two["answers"]["cloze False"] != two["answers"]["cloze True"]
    assert two["done"] == one["done"] == [11] * 12


def test_a_resumed_training_with_dropout_gives_the_same_weights(two: dict[str, Any]) -> None:
    whole, resumed = two["weights"]
    assert whole == resumed


def test_an_error_of_a_follower_is_raised_in_the_leader_and_both_go_on(
    two: dict[str, Any],
) -> None:
    assert two["user"] == ["TrainingError", "out of memory here."]
    kind, message = two["other"]
    assert kind == "RuntimeError"
    assert "process 1 of 2 failed" in message
    assert "KeyError: 'no such thing'" in message
    assert re.search("the (loss|gradient) of step|has a log-likelihood of nan", two["diverging"])
