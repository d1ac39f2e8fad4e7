"""A program starts no more threads than it may use processors, whatever the machine has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import json, os, sys
{given}
from isogloss import threads
threads.limit_threads.cache_clear()
numerical = {{"numpy", "torch", "pyarrow", "tokenizers", "scipy", "sklearn"}}
before = numerical & set(sys.modules)
import entrypoints.finetune

def started():
    return len(os.listdir("/proc/self/task"))

import numpy, torch
from tokenizers import Tokenizer, models, pre_tokenizers
from threadpoolctl import threadpool_info
square = numpy.random.rand(400, 400)
square @ square
weight = torch.rand(600, 600, requires_grad=True)
(weight @ weight).sum().backward()
after_products = started()
import pyarrow  # starts a thread of its own
before_tokenizers = started()
tokenizer = Tokenizer(models.WordLevel({{"a": 0, "u": 1}}, unk_token="u"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
os.environ["TOKENIZERS_PARALLELISM"] = "true"
tokenizer.encode_batch(["a b"] * 5000)
print(json.dumps({{
    "before": sorted(before),
    "pools": sorted({{pool["num_threads"] for pool in threadpool_info()}}),
    "torch": torch.get_num_threads(),
    "arrow": pyarrow.cpu_count(),
    "after products": after_products,
    "tokenizers": started() - before_tokenizers,
    "waiting": os.environ["OMP_WAIT_POLICY"],
    "reason": threads.limit_threads().reason,
}}))
"""
QUOTA = "import isogloss.threads; isogloss.threads.cpu_quota = lambda root: 1.5"
AFFINITY = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("given", "reason"),
    [(QUOTA, "CPU quota of 1.5 processors"), (AFFINITY, "affinity to 1 of ")],
    ids=["quota", "affinity"],
)
def test_libraries_start_as_many_threads_as_quota_or_affinity_allow(
    given: str, reason: str
) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor is all there is")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMP_", "GOMP_", "RAYON_", "MKL_", "OPENBLAS_"))
    }
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(given=given)], cwd=ROOT, capture_output=True,
        text=True, env={**clean, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout)
    assert found.pop("reason").startswith(reason)
    assert found == {
        "before": [],
        "pools": [1],
        "torch": 1,
        "arrow": 1,
        "after products": 1,
        "tokenizers": 1,  # their pool has threads of its own
        "waiting": "PASSIVE",
    }
