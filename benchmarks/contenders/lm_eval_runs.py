"""lm-evaluation-harness: its evaluator on tasks that read the chosen Belebele items.

`letter` is its Belebele task. It has no cloze task for Belebele; `cloze` is a task with isogloss's
cloze prompt and the option texts as choices, answered by acc_norm.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from benchmarks.contenders.job import Stopwatch, main, peak_mb
from benchmarks.lm_eval_belebele import task_config
from benchmarks.lm_eval_parity import item_id

CLOZE = {
    "doc_to_text": "P: {{flores_passage}}\nQ: {{question.strip()}}\nAnswer:",
    "doc_to_choice": "{{[mc_answer1, mc_answer2, mc_answer3, mc_answer4]}}",
}
TRIED_BATCHES = (1, 2, 4, 8)


def _model(job: dict[str, Any], way: str, batch: int) -> HFLM:
    """`weights` loads the weights in the dtype, `autocast` computes only products in it."""
    dtype = job["dtype"]
    return HFLM(
        pretrained=job["model"],
        device="cpu",
        batch_size=batch,
        dtype=dtype if way == "weights" else "float32",
        mixed_precision_dtype=dtype if way == "autocast" else None,
    )


def _tasks(job: dict[str, Any]) -> tuple[str, TaskManager]:
    documents = Path(job["folder"]) / "eng_Latn.jsonl"
    config = task_config(documents) | (CLOZE if job["case"] == "cloze" else {})
    config["task"] = f"bench_{job['case']}"
    folder = Path(job["folder"]) / "tasks"
    folder.mkdir(exist_ok=True)
    (folder / "task.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return str(config["task"]), TaskManager(include_path=str(folder), include_defaults=False)


def _evaluate(
    job: dict[str, Any], model: HFLM, limit: int | None
) -> tuple[Stopwatch, Stopwatch, list[dict[str, Any]]]:
    """Time in the model's `loglikelihood`, time in the whole evaluator, and the samples."""
    name, manager = _tasks(job)
    scoring, whole = Stopwatch(), Stopwatch()
    original = model.loglikelihood

    def loglikelihood(*arguments: Any, **kwargs: Any) -> Any:
        with scoring:
            return original(*arguments, **kwargs)

    model.loglikelihood = loglikelihood
    with whole:
        results = simple_evaluate(
            model, tasks=[name], task_manager=manager, limit=limit, bootstrap_iters=0
        )
    model.loglikelihood = original
    return scoring, whole, results["samples"][name]


def _answer(case: str, sample: dict[str, Any]) -> int:
    loglikelihoods = np.array([float(value) for value, _ in sample["filtered_resps"]])
    if case == "cloze":
        texts = [sample["doc"][f"mc_answer{number}"] for number in range(1, 5)]
        loglikelihoods = loglikelihoods / np.array([len(text) for text in texts])
    return int(loglikelihoods.argmax())


def try_settings(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds for a few items with each batch size and use of the dtype, and the fastest."""
    ways = ("weights", "autocast") if job["dtype"] == "bfloat16" else ("weights",)
    tried = {}
    for way in ways:
        model = _model(job, way, 1)
        for batch in TRIED_BATCHES:
            model.batch_size_per_gpu = batch
            tried[f"{way}, batch {batch}"] = _evaluate(job, model, job["limit"])[0].spent["seconds"]
    return {"tried": tried, "best": min(tried, key=lambda setting: tried[setting])}


def score(job: dict[str, Any]) -> dict[str, Any]:
    """Score; the seconds are those of `loglikelihood`, without the rest of the evaluator."""
    way, _, batch = job["setting"].partition(", batch ")
    model = _model(job, way, int(batch))
    scoring, whole, samples = _evaluate(job, model, None)
    peak = peak_mb()
    return {
        **scoring.spent,
        "whole_seconds": whole.spent["seconds"],
        "peak_mb": peak,
        "items": len(samples),
        "answers": {item_id(sample["doc"]): _answer(job["case"], sample) for sample in samples},
        "threads": torch.get_num_threads(),
        "dtype": job["dtype"],
    }


if __name__ == "__main__":
    main(lambda job: try_settings(job) if "limit" in job else score(job))
