"""Arithmetic of the benchmarks: operations of a model, straight lines, tables, plan."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click import ClickException
from conftest import CONFIGS
from transformers import AutoModelForCausalLM

from benchmarks.bench import ProcessorKind, Results, only, processor_kind
from benchmarks.contenders.job import Moment, step_times
from benchmarks.contenders.vllm_runs import letter_request, letter_scores, option_scores
from benchmarks.flops import (
    Speed,
    Work,
    body_flops,
    head_shape,
    layer_shapes,
    least_seconds,
    lora_flops,
    product_flops,
)
from benchmarks.lines import draw, fit, points
from benchmarks.plan import PARTS, QUICK, Sizes, jobs
from benchmarks.table import markdown, table
from isogloss.prompts.tokenisation import EncodedPrompt

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("family", ["gemma3", "llama", "mistral", "qwen3"])
def test_operations_are_those_of_the_linear_layers_of_a_model(family: str) -> None:
    config = CONFIGS[family]()
    network = AutoModelForCausalLM.from_config(config)
    layers = {
        name: module for name, module in network.named_modules() if type(module) is torch.nn.Linear
    }
    head = layers.pop("lm_head")
    told = config.to_dict()
    assert body_flops(told) == sum(2 * module.weight.numel() for module in layers.values())
    assert product_flops([head_shape(told)]) == 2 * head.weight.numel()
    assert lora_flops(told, 4) == sum(
        2 * 4 * (module.in_features + module.out_features) for module in layers.values()
    )


def test_training_counts_forward_products_twice_and_lora_products_three_times() -> None:
    config = CONFIGS["llama"]().to_dict()
    body, head = body_flops(config), product_flops([head_shape(config)])
    scored = least_seconds(Work(10, 3), config, Speed(1.0, 2.0))
    assert scored == 10 * body + 3 * head / 2
    spared = body / config["num_hidden_layers"] - product_flops(layer_shapes(config)[1:3])
    assert least_seconds(Work(10, 3, 3), config, Speed(1.0, 2.0)) == scored - 7 * spared
    trained = least_seconds(Work(10, 3), config, Speed(1.0, 2.0), lora_rank=4)
    assert trained == 2 * scored + 10 * 3 * lora_flops(config, 4)


def test_a_line_is_recovered_and_residuals_are_reported() -> None:
    line = fit([1, 2, 4], [5.0, 7.0, 11.0])
    assert line is not None
    assert line.slope == pytest.approx(2)
    assert line.intercept == pytest.approx(3)
    assert line.r2 == pytest.approx(1)
    assert line.residual == pytest.approx(0, abs=1e-12)
    x = np.arange(1.0, 6.0)
    curved = fit(list(x), list(x**2))
    assert curved is not None
    # Least squares on 1, 4, 9, 16, 25 gives 6x - 7, with residual 2 at both ends.
    assert (curved.slope, curved.intercept) == pytest.approx((6, -7))
    assert curved.residual == pytest.approx(2)
    assert curved.r2 == pytest.approx(1 - 14 / 374)
    assert fit([1, 1, 2], [1.0, 2.0, 3.0]) is None


def test_the_first_step_is_not_timed() -> None:
    ends = [Moment(10.0, 20.0), Moment(12.0, 23.0), Moment(15.0, 29.0)]
    assert step_times(ends) == {"seconds": 5.0, "cpu_seconds": 9.0, "step_seconds": [2.0, 3.0]}


def test_contenders_take_turns_and_no_measurement_is_planned_twice() -> None:
    planned = list(jobs(PARTS, Sizes(rounds=2, training_rounds=2), "work", "data"))
    keys = [tuple(job.key.values()) for job in planned]
    assert len(set(keys)) == len(keys)
    trained = [
        (job.round, job.contender)
        for job in planned
        if (job.part, job.case, job.dtype) == ("training", "probe", "float32")
    ]
    assert trained == [
        (turn, contender) for turn in (0, 1) for contender in ("isogloss", "TRL", "Trainer")
    ]
    assert {job.part for job in jobs(("scoring",), QUICK, "work", "data")} == {"matmul", "scoring"}


def test_a_server_joins_the_contenders_if_its_program_is_there() -> None:
    planned = list(jobs(("scoring",), Sizes(rounds=2, dtypes=("bfloat16",)), "w", "d", "bin/vllm"))
    asked = [job for job in planned if job.contender == "vLLM"]
    assert [(job.part, job.case, job.round) for job in asked] == [
        ("settings", "letter", 0), ("scoring", "letter", 0), ("scoring", "cloze", 0),
        ("scoring", "letter", 1), ("scoring", "cloze", 1),
    ]  # fmt: skip
    assert asked[0].options == {"folder": "w/letter", "vllm": "bin/vllm", "limit": 64}
    assert not [job for job in jobs(("scoring",), Sizes(), "w", "d") if job.contender == "vLLM"]


def test_some_contenders_are_measured_without_the_others() -> None:
    planned = list(jobs(("scoring",), QUICK, "w", "d", "bin/vllm"))
    chosen = only(planned, ["isogloss", "vLLM"])
    assert [(job.case, job.contender) for job in chosen if job.part == "scoring"] == [
        ("letter", "isogloss"), ("letter", "vLLM"), ("cloze", "isogloss"), ("cloze", "vLLM"),
    ]  # fmt: skip
    assert [job for job in chosen if job.part == "matmul"]
    with pytest.raises(ClickException, match=r"^no contender vllm here; there are isogloss, lm-ev"):
        only(planned, ["vllm"])


def test_a_server_is_asked_for_the_letters_and_options_by_token() -> None:
    entry = EncodedPrompt(((2, 5, 7, 30), (2, 5, 7, 31)), (3, 3))
    request = letter_request(entry)
    assert request["prompt"] == (2, 5, 7)
    assert request["logprob_token_ids"] == [30, 31]
    top = {"token_id:31": -0.5, "token_id:30": -1.5, "token_id:9": -0.1}
    assert letter_scores(entry, {"choices": [{"logprobs": {"top_logprobs": [top]}}]}) == [
        -1.5,
        -0.5,
    ]
    positions = [
        None,
        {"5": {"logprob": -9.0}},
        {"7": {"logprob": -2.0}},
        {"30": {"logprob": -1.0}},
    ]
    answer = {"choices": [{"prompt_logprobs": positions}]}
    assert option_scores(2, (2, 5, 7, 30), answer) == -3.0


def test_each_kind_of_processor_has_results_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processor_kind(["avx512f", "avx512_bf16", "amx_bf16"]) == ProcessorKind.AMX
    assert processor_kind(["avx512f", "avx512_bf16"]) == ProcessorKind.AVX512_BF16
    assert processor_kind(["avx2", "avx512f", "amx_int8"]) == ProcessorKind.NO_BF16
    for kind in ("amx", "no_bf16"):
        stated = {"kind": kind, "processor": "P", "cores": 2, "flags": [], "commit": "c"}
        monkeypatch.setattr("benchmarks.bench.machine", lambda stated=stated: stated)
        Results(tmp_path, {}, resume=False).write()
    assert sorted(path.name for path in tmp_path.glob("results*")) == [
        "results-amx.json", "results-no_bf16.json",
    ]  # fmt: skip
    kept = json.loads((tmp_path / "results-amx.json").read_text("utf-8"))
    assert kept["machine"]["kind"] == "amx"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("results-*_bf16*.json")), ids=lambda p: p.stem)
def test_committed_results_are_of_the_kind_that_their_name_says(path: Path) -> None:
    stated = json.loads(path.read_text("utf-8"))["machine"]
    assert processor_kind(stated["flags"]) == stated["kind"]
    assert path.name.startswith(f"results-{stated['kind']}")
    page = path.with_name(path.name.replace("results-", "RESULTS-")).with_suffix(".md")
    assert page.is_file()


def _line_measurements(seconds: Callable[[int], float]) -> list[dict[str, object]]:
    return [
        {
            "part": "lines",
            "case": "items",
            "dtype": "auto",
            "dtype_used": "float32",
            "contender": f"isogloss, {size}",
            "round": 0,
            "seconds": seconds(size),
            "items": size,
            "peak_mb": 2000.0,
            "prompt_tokens": 100.0,
        }
        for size in (200, 50, 100)
    ]


def test_the_page_has_rates_ratios_and_failures(tmp_path: Path) -> None:
    config = CONFIGS["llama"]().to_dict()
    same = {"part": "scoring", "case": "letter", "dtype": "float32", "round": 0, "items": 2}
    scored = [
        {**same, "contender": "isogloss", "seconds": 0.5, "cpu_seconds": 1.0, "peak_mb": 1000.0},
        {
            **same,
            "contender": "isogloss",
            "seconds": 1.0,
            "cpu_seconds": 1.5,
            "peak_mb": 1100.0,
            "round": 1,
        },
        {**same, "contender": "lm-eval", "seconds": 2.0, "cpu_seconds": 4.0, "peak_mb": 3000.0},
    ]
    scored[0]["answers"] = scored[1]["answers"] = {"a#1": 0, "b#1": 3}
    scored[2]["answers"] = {"a#1": 0, "b#1": 2}
    failed = {"part": "training", "case": "probe", "dtype": "float32", "contender": "TRL"}
    speed = {"body": 1e9, "head": 1e9, "shapes": {"[1, 2] x [2, 3]": 1e9}, "versions": {"x": "1"}}
    measurements = [
        {"part": "matmul", "case": "", "dtype": "float32", "contender": "matmul", "threads": 2}
        | speed,
        *scored,
        failed | {"error": "exit 1: Killed"},
        *_line_measurements(lambda size: 1 + size / 10),
    ]
    results = {
        "started": "2026-01-01T00:00:00",
        "settings": {"sizes": Sizes().to_dict()},
        "machine": {
            "processor": "P",
            "cores": 2,
            "memory_gb": 8.0,
            "flags": [],
            "kind": "no_bf16",
            "commit": "c",
            "load": 0.0,
        },
        "config": config,
        "work": {"letter": {"distinct": [10, 2], "separate": [40, 8], "lm-eval": [12, 12]}},
        "measurements": measurements,
    }
    page = markdown(results, "lines.svg")
    assert page.startswith("# Benchmark results: processors without AVX512_BF16 or AMX\n")
    # 2 items in 1.0 and in 1.5 seconds of CPU time
    cpu = "1.67 (1.33 to 2.00)"
    assert f"isogloss | 2 | 3.00 (2.00 to 4.00) | 1.00 | {cpu} | 1,100 | 1.5 | 1 of 2 |" in page
    assert "lm-eval | 2 | 1.00 | 3.00 | 0.50 | 3,000 | 2.0 |  |" in page
    assert "- training probe float32 TRL: exit 1: Killed" in page
    assert "| English items | 50, 100, 200 | 100 | 1.00 | 1.0000 | 0.0% | 2,000 to 2,000 |" in page
    assert draw(results["measurements"], tmp_path / "lines.svg")
    assert "English items" in (tmp_path / "lines.svg").read_text("utf-8")
    assert not draw(scored, tmp_path / "none.svg")


def test_long_passages_are_timed_per_item() -> None:
    measured = _line_measurements(lambda size: size * 2.0)
    for one in measured:
        one["case"], one["prompt_tokens"] = "passages", 7.0
    assert points(measured, "passages").seconds == [2.0, 2.0, 2.0]


def test_a_table_aligns_texts_left_and_numbers_right() -> None:
    assert table(["a", "b"], [["x", 1]], 1) == "| a | b |\n| --- | --: |\n| x | 1 |\n"


def test_layers_of_a_block_are_seven() -> None:
    assert len(layer_shapes(CONFIGS["qwen3"]().to_dict())) == 7
