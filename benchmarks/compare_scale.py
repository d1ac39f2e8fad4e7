"""Time and memory of the compare step at the scale of a large study, on synthetic predictions.

    python benchmarks/compare_scale.py [--models 10] [--languages 30] [--items 900]

Four conditions per model: 1.08 million rows by default, in files like those of evaluate runs.
Reading the files, the comparison and the report are timed separately.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from isogloss.analysis.comparison import compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.analysis.score_matrix import COLUMNS, RunKey
from isogloss.languages import table as known_languages
from isogloss.report.page import write
from isogloss.types import Condition

RELATED = ("amh_Ethi", "heb_Hebr", "mlt_Latn", "tir_Ethi")
ITEMS_PER_PASSAGE = 900 / 488  # as in Belebele


def main() -> None:
    """Write the files, then time each stage once and print one line per stage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("models", 10), ("languages", 30), ("items", 900)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    others = [code for code, row in known_languages().items() if row.belebele]
    languages = list(dict.fromkeys(("arb_Arab", *RELATED, *others)))[: options.languages]
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        rng = np.random.default_rng(0)
        for m in range(options.models):
            for at, condition in enumerate(Condition):
                source = "arb_Arab" if condition.tuned else ""
                run = RunKey(f"model-{m}", condition, source, "0" if source else "")
                paths[run] = Path(folder) / f"{m}-{at}.parquet"
                share = 0.3 + 0.04 * m + 0.05 * at
                _predictions(languages, options.items, share, rng).to_parquet(paths[run])
        before = _peak()
        started = time.perf_counter()
        tables = {run: pd.read_parquet(path, columns=list(COLUMNS)) for run, path in paths.items()}
        read = time.perf_counter()
        comparison = compare(tables, source="arb_Arab")
        judged = time.perf_counter()
        numbers = comparison_metrics(comparison)
        write(comparison, Path(folder) / "report", {}, [("Run",)])
        written = time.perf_counter()
    rows = sum(map(len, tables.values()))
    test = comparison.contrast.permutation
    print(f"{rows:,} rows in {len(tables)} files; {len(numbers)} numbers")
    print(f"exact test over {test.relabellings:,} relabellings" if test.exact else "Monte Carlo")
    print(f"read    {read - started:6.2f} s")
    print(f"compare {judged - read:6.2f} s")
    print(f"report  {written - judged:6.2f} s")
    print(f"peak memory {_peak():,.0f} MB ({before:,.0f} MB before reading)")


def _predictions(
    languages: list[str], items: int, share: float, rng: np.random.Generator
) -> pd.DataFrame:
    n = items * len(languages)
    item = np.tile(np.arange(items), len(languages))
    answer = item % 4
    right = rng.random(n) < share
    forced = np.where(right, answer, (answer + 1) % 4)
    return pd.DataFrame(
        {
            "task": "belebele",
            "language": np.repeat(languages, items),
            "format": "letter",
            "item_id": [f"item-{i:04d}" for i in item],
            "passage_id": [f"passage-{int(i / ITEMS_PER_PASSAGE):04d}" for i in item],
            "answer": answer,
            "prediction": forced,
            "correct": right,
            "valid": rng.random(n) < 0.9,
            "forced": forced,
            "greedy": forced,
            "choice_logprobs": list(rng.normal(-3, 1, (n, 4))),
            "gold_logprob": rng.normal(-1.2, 0.5, n),
            "text": "The answer is B.",
            "tokens": 150,
            "words": 90,
        }
    )


def _peak() -> float:
    """Largest resident set of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
