"""What the cost model predicts beside what was measured, as a table in Markdown.

`PYTHONPATH=src python -m benchmarks.cost_check` prints the table of docs/explanation/costs.md from
the results files of this folder.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.plan import MATMUL
from benchmarks.table import RANK, table
from isogloss.costs.memory import Memory, Precision, scoring_memory, training_memory
from isogloss.costs.operations import Lora, Work
from isogloss.costs.shape import ModelShape
from isogloss.costs.time import (
    CPU_BYTES_PER_SECOND,
    Machine,
    generation_seconds,
    scoring_seconds,
    training_seconds,
)
from isogloss.models.batch_limits import (
    CPU_TOKENS_PER_BATCH,
    GPU_TOKENS_PER_BATCH,
    MATRIX_TOKENS_PER_BATCH,
)
from isogloss.models.shapes import shape_from_config

FOLDER = Path(__file__).resolve().parent
FILES = ("results-no_bf16.json", "results-avx512_bf16-2026-11-24.json", "results-amx.json")
# Its bfloat16 weights stood beside the float32 ones in memory. They no longer do, and memory.json
# has what the same processor takes since.
OUTDATED_MEMORY = "2026-11-24", Precision.BFLOAT16
GPU_FILE = "results-gpu-2026-11-27.json"
PASS_TOKENS = 32_491
PASSES = {"8b letter eager": "not compiled", "8b letter compiled": "compiled"}
MEMORY_BOUND, TIME_BOUND = 0.15, 0.30
LORA = Lora(RANK)


@dataclass(frozen=True)
class Check:
    """A measured figure and its prediction, in the same unit."""

    machine: str
    what: str
    unit: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """The prediction's relative error."""
        return self.predicted / self.measured - 1

    @property
    def within(self) -> bool:
        """Whether the error is within the bound of its kind."""
        return abs(self.error) <= (TIME_BOUND if self.unit == "s" else MEMORY_BOUND)


def checks(path: Path) -> Iterator[Check]:
    """Time and peak memory of isogloss in every part of a results file."""
    results = json.loads(path.read_text("utf-8"))
    shape = shape_from_config(results["config"])
    for dtype in sorted({one["dtype"] for one in results["measurements"]}):
        for part in ("scoring", "training", "generation"):
            for case in sorted({one["case"] for one in _own(results, part, dtype)}):
                yield from _of_case(results, shape, Precision(dtype), part, case)


def memory_checks() -> Iterator[Check]:
    """Peak memory in dtypes and settings that the suite does not measure."""
    results = json.loads((FOLDER / "memory.json").read_text("utf-8"))
    config = json.loads((FOLDER / FILES[0]).read_text("utf-8"))["config"]
    shape = shape_from_config(config)
    for one in results["measurements"]:
        label = _label(results | one)
        precision, checkpointing = Precision(one["dtype"]), one["gradient_checkpointing"]
        name = f"{one['part']}, {one['case']}, {precision}"
        if one["part"] == "scoring":
            memory = scoring_memory(shape, precision, CPU_TOKENS_PER_BATCH, on_cpu=True)
        else:
            tokens, positions = max(one["steps"])
            memory = training_memory(
                shape, precision, tokens, positions, LORA, on_cpu=True, checkpointing=checkpointing
            )
        name += ", gradient checkpointing" if checkpointing else ""
        name += ", once loaded" if one.get("loaded") else ""
        yield Check(label, name, "GB", memory.total / 1e9, one["peak_mb"] * 2**20 / 1e9)


def gpu_checks() -> Iterator[Check]:
    """Time and peak memory in what `benchmarks.gpu` has written."""
    results = json.loads((FOLDER / GPU_FILE).read_text("utf-8"))
    shapes = {name: gpu_shape(model["sizes"]) for name, model in results["models"].items()}
    for parts in results["runs"].values():
        for key, part in parts.items():
            kind, _, name = key.partition(" ")
            if kind in {"scoring", "training"} and name in shapes:
                machine = _gpu(results["machine"], parts["products"], name)
                checks_of = _gpu_scoring if kind == "scoring" else _gpu_training
                yield from checks_of(machine, shapes[name], f"Qwen3 {name.upper()}", part)
            elif key in PASSES:
                machine = _gpu(results["machine"], _products_of(results, "8b"), "8b")
                work = Work(PASS_TOKENS, 0, keys=150)
                layers = PASSES[key]
                seconds = scoring_seconds(shapes["8b"], work, machine, layers == "compiled")
                what = f"a pass of letters, Qwen3 8B, {layers}"
                yield Check(machine.name, what, "s", seconds, part["best"])
    peak = json.loads((FOLDER / "memory.json").read_text("utf-8"))["gpu"]
    memory = scoring_memory(shapes[peak["model"]], Precision.BFLOAT16, GPU_TOKENS_PER_BATCH)
    what = f"scoring, {peak['case']}, Qwen3 {peak['model'].upper()}"
    yield Check(peak["device"], what, "GB", memory.total / 1e9, peak["peak_gb"])


def _products_of(results: dict[str, Any], name: str) -> dict[str, Any]:
    every = (parts["products"] for parts in results["runs"].values() if "products" in parts)
    return next(products for products in every if name in products["models"])


def _gpu(card: dict[str, Any], products: dict[str, Any], name: str) -> Machine:
    speeds = products["models"][name]
    return Machine(
        name=card["device"],
        operations_per_second=1e12 * speeds["body_tflops"],
        head_operations_per_second=1e12 * speeds["head_tflops"],
        bytes_per_second=1e9 * products["copy_gb_per_second"],
        memory=1e9 * card["memory_gb"],
    )


def gpu_shape(sizes: dict[str, Any]) -> ModelShape:
    """The shape of one of `benchmarks.gpu`'s models."""
    kind = "qwen3_moe" if "num_experts" in sizes else "qwen3"
    return shape_from_config({"model_type": kind, **sizes})


def _gpu_scoring(
    machine: Machine, shape: ModelShape, size: str, part: dict[str, Any]
) -> Iterator[Check]:
    for case in ("letter", "cloze"):
        if case in part:
            items, tokens = part[case]["items"], part[case]["tokens"]
            work = Work(tokens, items, keys=part[case]["mean_prompt_tokens"] / 2)
            seconds = scoring_seconds(shape, work, machine, compiled=False)  # nor was it then
            measured = median(part[case]["seconds"])
            yield Check(machine.name, f"scoring, {case}, {size}", "s", seconds, measured)


def _gpu_training(
    machine: Machine, shape: ModelShape, size: str, part: dict[str, Any]
) -> Iterator[Check]:
    ours = part["isogloss"]
    seconds, batch = sum(ours["step_seconds"]), part["recipe"]["batch_size"]
    steps = len(ours["step_seconds"])
    lora = Lora(part["recipe"]["rank"])
    tokens = ours["shared_tokens_per_second"] * seconds
    work = Work(
        tokens, batch * steps, keys=ours["tokens_per_second"] / ours["items_per_second"] / 2
    )
    predicted = training_seconds(shape, work, machine, lora)
    yield Check(machine.name, f"training, {size}", "s", predicted, seconds)
    memory = training_memory(shape, Precision.BFLOAT16, tokens / steps, batch, lora)
    yield Check(machine.name, f"training, {size}", "GB", memory.total / 1e9, ours["peak_gb"])


def _label(results: dict[str, Any]) -> str:
    processor = results["machine"]["processor"].replace("(R)", "").removesuffix(" Processor")
    return f"{processor}, {results['started'][:10]}"


def _own(results: dict[str, Any], part: str, dtype: str) -> list[dict[str, Any]]:
    return [
        one
        for one in results["measurements"]
        if (one["part"], one["dtype"], one["contender"]) == (part, dtype, "isogloss")
        and "error" not in one
    ]


def _of_case(
    results: dict[str, Any], shape: ModelShape, precision: Precision, part: str, case: str
) -> Iterator[Check]:
    rounds = [one for one in _own(results, part, precision) if one["case"] == case]
    machine = _machine(results, precision)
    matrix_units = machine.matrix_units
    work = Work(*results["work"]["generation" if part == "generation" else case][
        "prompts" if part == "generation" else "distinct"
    ])  # fmt: skip
    measured = rounds[0]["seconds"]
    batch = MATRIX_TOKENS_PER_BATCH if matrix_units else CPU_TOKENS_PER_BATCH
    memory: Memory
    if part == "scoring":
        items = rounds[0]["items"]
        measured = items * median(one["seconds"] / one["items"] for one in rounds)
        seconds = scoring_seconds(shape, work, machine)
        memory = scoring_memory(shape, precision, batch, on_cpu=True)
    elif part == "training":
        seconds = training_seconds(shape, work, machine, LORA)
        steps = results["settings"]["sizes"]["steps"] - 1  # the first is not timed
        memory = training_memory(
            shape, precision, work.tokens / steps, work.positions / steps, LORA, on_cpu=True
        )
    else:
        rows, tokens = rounds[0]["items"], rounds[0]["kept_tokens"]
        prompts = work._replace(last=rows, positions=0)
        seconds = generation_seconds(shape, prompts, rows, tokens / rows, machine, precision)
        cached = work.tokens + tokens
        memory = scoring_memory(shape, precision, batch, on_cpu=True, cached_tokens=cached)
    name = f"{part}, {case}, {precision}"
    label = _label(results)
    yield Check(label, name, "s", seconds, measured)
    if (results["started"][:10], precision) != OUTDATED_MEMORY:
        peak = max(one["peak_mb"] for one in rounds) * 2**20 / 1e9
        yield Check(label, name, "GB", memory.total / 1e9, peak)


def _machine(results: dict[str, Any], dtype: Precision) -> Machine:
    """The machine's measured product speeds, and the assumed speed of its memory."""
    every = results["measurements"]
    own = [one for one in every if one["part"] == MATMUL and one["dtype"] == dtype]
    return Machine(
        name=results["machine"]["processor"],
        operations_per_second=max(one["body"] for one in own),
        head_operations_per_second=max(one["head"] for one in own),
        bytes_per_second=CPU_BYTES_PER_SECOND,
        memory=results["machine"]["memory_gb"] * 2**30,
        share=None,
        on_cpu=True,
        matrix_units=results["machine"]["kind"] == "amx" and dtype == Precision.BFLOAT16,
    )


def every_check() -> Iterator[Check]:
    """All figures that were measured."""
    for name in FILES:
        yield from checks(FOLDER / name)
    yield from memory_checks()
    yield from gpu_checks()


def page() -> str:
    """The table, one row per figure."""
    rows = [
        [
            check.machine,
            check.what,
            f"{check.predicted:.2f} {check.unit}",
            f"{check.measured:.2f} {check.unit}",
            f"{check.error:+.0%}" + ("" if check.within else " (outside)"),
        ]
        for check in every_check()
    ]
    return table(["machine", "work", "predicted", "measured", "error"], rows, 2)


if __name__ == "__main__":
    print(page())
