"""The engine on a GPU: one command, no network, no MLflow, eight minutes at most.

    PYTHONPATH=src python -m benchmarks.gpu --out gpu.json

Models have random weights at real sizes, items the lengths of Belebele's (or those of `--items`).
Every part is measured apart: an error in one is written down, and the next begins. Needs torch,
transformers, peft, accelerate, pandas, pyarrow and pydantic. On a CPU it rehearses with a tiny
model.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts import (
    attention,
    correctness,
    generation,
    products,
    profiling,
    scoring,
    training,
)
from benchmarks.gpu_parts import items as item_files
from benchmarks.gpu_parts.measure import Deadline, peak_gb, reset_peak, synchronise
from benchmarks.gpu_parts.models import SHORT, SIZES, build, describe, train_tokenizer
from benchmarks.gpu_parts.table import markdown
from benchmarks.gpu_parts.work import Setting
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt

Part = Callable[[LanguageModel, Setting, Deadline], Iterator[dict[str, Any]]]
PARTS: dict[str, Part] = {
    "correctness": correctness.measure,
    "scoring": scoring.measure,
    "training": training.measure,
    "generation": generation.measure,
    "attention": attention.measure,
    "profile": profiling.measure,
}
NAMES = ("products", *PARTS)
DEFAULT = tuple(name for name in NAMES if name != "profile")
SECONDS = {
    "correctness": 75,
    "scoring": 75,
    "training": 120,  # compiling included
    "generation": 60,
    "attention": 60,
    "profile": 60,
}
# What is to be known first comes first, in case the time does not last.
ORDER = (
    ("correctness", "4b"),
    ("scoring", "4b"),
    ("scoring", "8b"),
    ("profile", "8b"),
    ("training", "8b"),
    ("generation", "8b"),
    ("attention", "8b"),
    ("scoring", "30b-a3b"),
    ("training", "30b-a3b"),
    ("generation", "30b-a3b"),
    ("training", "4b"),
    ("generation", "4b"),
    ("correctness", f"30b-a3b{SHORT}"),
    ("correctness", "8b"),
)
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "tokenizers",
    "triton",
    "flash-attn",
    "liger-kernel",
)
TINY = ("tiny", "tiny-moe")
QUICK_PASSAGES = 5
LEAST_SECONDS = 20  # without which no part begins


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--parts", default=",".join(DEFAULT), help=f"of {', '.join(NAMES)} [all but profile]"
    )
    parser.add_argument(
        "--models", help=f"of {', '.join(SIZES)} [on a GPU all but tiny, else tiny]"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="in all [8]")
    parser.add_argument("--items", type=Path, help=".jsonl or .parquet with Belebele's columns")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="[gpu.json]")
    chosen = parser.parse_args(arguments)
    gpu = torch.cuda.is_available()
    chosen.parts = chosen.parts.split(",")
    chosen.models = (chosen.models or ("4b,8b,30b-a3b" if gpu else "tiny")).split(",")
    for name, known in (("parts", NAMES), ("models", tuple(SIZES))):
        if unknown := set(getattr(chosen, name)) - set(known):
            parser.error(f"no {name} {', '.join(sorted(unknown))}; expected {', '.join(known)}.")
    return chosen


def planned(parts: Sequence[str], models: Sequence[str]) -> list[tuple[str, str]]:
    """Parts and models to measure, in order."""
    pairs = [*ORDER, *((part, name) for name in TINY for part in PARTS)]
    if "8b" not in models and "attention" in parts:  # its kernels do not depend on the model
        pairs.append(("attention", models[0]))
    return list(
        dict.fromkeys(
            pair for pair in pairs if pair[0] in parts and pair[1].removesuffix(SHORT) in models
        )
    )


def machine(device: torch.device) -> dict[str, Any]:
    """The card, or the processor, and versions."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    if device.type == "cpu":
        return {"device": platform.processor() or "CPU", "versions": found}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "memory_gb": properties.total_memory / 1e9,
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "versions": found,
        "python": sys.version.split()[0],
    }


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    described = subprocess.run(
        [git, "describe", "--always", "--dirty", "--exclude", "*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def guarded(
    device: torch.device, seconds: float, work: Callable[[], Iterable[dict[str, Any]]]
) -> dict[str, Any]:
    """The results of a part up to its end or its error; with its time and its peak of memory."""
    reset_peak(device)
    started = time.perf_counter()
    result: dict[str, Any] = {}
    try:
        for measured in work():
            result |= measured
        synchronise(device)
    except Exception as error:  # the parts after it are measured all the same
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
        message = (str(error).strip().splitlines() or [""])[0][:500]
        result |= {"error": f"{type(error).__name__}: {message}", "at": places}
    spent = {"part_seconds": time.perf_counter() - started, "allowed_seconds": seconds}
    return {**result, **spent, "peak_gb": peak_gb(device)}


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """All results; written to `--out` after every part."""
    deadline = Deadline(60 * chosen.minutes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    quick = set(chosen.models) <= set(TINY)
    items = (
        item_files.read(chosen.items)
        if chosen.items
        else item_files.made(QUICK_PASSAGES if quick else item_files.PASSAGES)
    )
    prompts = [prompt(item, Protocol()) for item in items]
    texts = [f"{entry.context}{text}" for entry in prompts for text in entry.continuations]
    vocabulary = max(SIZES[name]["vocab_size"] for name in chosen.models)
    tokenizer: Any = train_tokenizer(texts, vocabulary)
    results: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(device),
        "items": {"source": str(chosen.items or "made"), "number": len(items)},
        "models": {name: describe(name) for name in chosen.models},
        "parts": {},
    }
    parts = results["parts"]
    if "products" in chosen.parts:
        parts["products"] = guarded(
            device, deadline.left, lambda: [products.measure(chosen.models, device)]
        )
        _report(chosen.out, results, "products", parts["products"])
    model: LanguageModel | None = None
    for part, name in planned(chosen.parts, chosen.models):
        key = f"{part} {name}"
        if deadline.left < (LEAST_SECONDS if device.type == "cuda" else 0):
            parts[key] = {"error": "OutOfTimeError: too little time is left."}
            continue
        if model is None or model.location.name != f"random-{name}":
            model = None
            reset_peak(device)
            built: list[LanguageModel] = []
            make = partial(_build_into, built, name, device, tokenizer)
            loaded = guarded(device, deadline.left, make)
            _report(chosen.out, results, f"build {name}", loaded)
            if "error" in loaded:
                parts[key] = loaded
                continue
            model = built.pop()
        setting = Setting(name, device, items, quick)
        limit = deadline.within(SECONDS[part])
        # No variable keeps the work: it would keep its model beside the next one.
        parts[key] = guarded(device, limit.left, partial(PARTS[part], model, setting, limit))
        _report(chosen.out, results, key, parts[key])
    return results


def _build_into(
    built: list[LanguageModel], name: str, device: torch.device, tokenizer: Any
) -> list[dict[str, Any]]:
    built.append(build(name, device, tokenizer))
    return []


def _report(out: Path, results: dict[str, Any], key: str, measured: dict[str, Any]) -> None:
    """Write all results so far, and a line on what came last."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    out.with_suffix(".md").write_text(markdown(results), "utf-8")
    peak = measured["peak_gb"]
    memory = f", peak {peak:.1f} GB" if peak is not None else ""
    problem = f": {measured['error']} {measured.get('at', '')}" if "error" in measured else ""
    print(f"{key}: {measured['part_seconds']:.1f} s{memory}{problem}", flush=True)


def main() -> None:
    """Measure, write the results (.json and .md), print the tables."""
    chosen = options()
    started = time.perf_counter()
    results = run(chosen)
    print(f"\n{markdown(results)}\n{chosen.out} after {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
