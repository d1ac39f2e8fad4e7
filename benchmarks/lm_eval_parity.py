"""Compares isogloss's predictions with lm-evaluation-harness's samples, item by item.

Both score the letters A to D as continuations of the same prompt, so in float32 the log-likelihoods
differ only by rounding, and the answers are equal unless the two best letters are that close. Part
of the difference is common to the choices of an item, about 6e-5 nats with a vocabulary of 262,144
tokens: lm-eval normalises with torch's log_softmax, whose float32 sum on a CPU has that error,
isogloss with logsumexp, which does not. It cancels between choices, so differences are reported
with and without it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pandas as pd

KEY = ["language", "item_id"]


class Disagreement(NamedTuple):
    """An item with two different answers, and the larger margin of its best letter."""

    item_id: str
    margin: float


class Parity(NamedTuple):
    """Comparison of one language's scores; `uncompared` items are in only one of the two."""

    language: str
    items: int
    uncompared: int
    largest: float  # absolute difference of a choice's log-likelihood, in nats
    median: float
    largest_centred: float  # the same, of log-likelihoods less the mean of the item's choices
    disagreements: tuple[Disagreement, ...]
    accuracy: float
    accuracy_lm_eval: float


def item_id(doc: dict[str, Any]) -> str:
    """The item id of a Belebele document in isogloss."""
    return f"{doc['link']}#{doc['question_number']}"


def read_samples(folder: Path) -> Iterator[dict[str, Any]]:
    """The samples of all lm-eval runs in a folder, the latest run of a task last."""
    for path in sorted(folder.rglob("samples_*.jsonl"), key=lambda path: path.name):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def lm_eval_scores(folder: Path) -> pd.DataFrame:
    """One row per item: log-likelihoods, answer and accuracy of lm-eval's samples.

    The last of several scores of one item counts.
    """
    rows = [
        {
            "language": sample["doc"]["dialect"],
            "item_id": item_id(sample["doc"]),
            "logprobs": [float(logprob) for logprob, _ in sample["filtered_resps"]],
            "gold": int(sample["target"]),
            "acc": float(sample["acc"]),
        }
        for sample in read_samples(folder)
    ]
    if not rows:
        raise click.ClickException(f"no samples_*.jsonl with documents below {folder}.")
    return pd.DataFrame(rows).drop_duplicates(KEY, keep="last")


def isogloss_scores(predictions: Path) -> pd.DataFrame:
    """The Belebele rows in `letter` format of an evaluate run's predictions.parquet."""
    table = pd.read_parquet(predictions)
    return table[(table["task"] == "belebele") & (table["format"] == "letter")]


def margin(logprobs_C: np.ndarray) -> float:
    """Difference of the two highest log-likelihoods, in nats."""
    second, best = np.sort(logprobs_C)[-2:]
    return float(best - second)


def disagreements(items: pd.DataFrame) -> Iterator[Disagreement]:
    """The items with two answers, each with the larger of the two margins."""
    for row in items.itertuples():
        theirs_C, ours_C = np.array(row.logprobs), np.array(row.choice_logprobs)
        if theirs_C.argmax() != row.prediction:
            yield Disagreement(str(row.item_id), max(margin(theirs_C), margin(ours_C)))


def compare(ours: pd.DataFrame, theirs: pd.DataFrame) -> list[Parity]:
    """The parity of each language that has items in both tables."""
    merged = ours.merge(theirs, on=KEY, how="outer", validate="one_to_one", indicator="side")
    parities = []
    for language, rows in merged.groupby("language"):
        items = rows[rows["side"] == "both"]
        if items.empty:
            continue
        if (items["gold"] != items["answer"]).any():
            raise click.ClickException(f"{language}: the gold answers differ.")
        ours_IC = np.stack(items["choice_logprobs"].tolist())
        difference_IC = ours_IC - np.stack(items["logprobs"].tolist())
        centred_IC = difference_IC - difference_IC.mean(axis=1, keepdims=True)
        parities.append(
            Parity(
                language=str(language),
                items=len(items),
                uncompared=len(rows) - len(items),
                largest=float(np.abs(difference_IC).max()),
                median=float(np.median(np.abs(difference_IC))),
                largest_centred=float(np.abs(centred_IC).max()),
                disagreements=tuple(disagreements(items)),
                accuracy=float(items["correct"].mean()),
                accuracy_lm_eval=float(items["acc"].mean()),
            )
        )
    return parities


def markdown(parities: list[Parity]) -> str:
    """A table with one row per language, then each disagreement with its margin."""
    lines = [
        "| language | items | uncompared | largest difference | median difference "
        "| largest between choices | disagreements | accuracy isogloss | accuracy lm-eval |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.language} | {row.items} | {row.uncompared} | {row.largest:.1e} | {row.median:.1e} "
        f"| {row.largest_centred:.1e} | {len(row.disagreements)} "
        f"| {row.accuracy:.4f} | {row.accuracy_lm_eval:.4f} |"
        for row in parities
    ]
    listed = [
        f"- {row.language} {item.item_id}: margin {item.margin:.1e}"
        for row in parities
        for item in row.disagreements
    ]
    return "\n".join([*lines, *(["", "Disagreements:", "", *listed] if listed else [])])


@click.command()
@click.argument("samples", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("predictions", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--threshold",
    type=click.FloatRange(0),
    default=1e-3,
    show_default=True,
    help="Largest margin, in nats, at which an answer may differ.",
)
def main(samples: Path, predictions: Path, threshold: float) -> None:
    """Compare lm-eval's samples in SAMPLES with PREDICTIONS, an isogloss predictions.parquet.

    Prints a Markdown table; differences are of log-likelihoods, in nats. Exits with status 1 if two
    answers differ although the margin of the best letter is above the threshold.
    """
    parities = compare(isogloss_scores(predictions), lm_eval_scores(samples))
    if not parities:
        raise click.ClickException("the two have no item in common.")
    click.echo(markdown(parities))
    if any(item.margin > threshold for row in parities for item in row.disagreements):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
