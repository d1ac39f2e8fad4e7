"""Compare isogloss's predictions with lm-evaluation-harness's samples, item by item.

Both score the letters A to D as continuations of the same prompt, so in float32 each
log-likelihood should differ by rounding alone, and each answer be the same wherever the best
letter leads the second by more than that. The difference has a part common to an item's choices,
about 6e-5 nats where a vocabulary has 262,144 tokens: lm-eval normalises with torch's log_softmax,
whose float32 sum on a CPU is off by that, isogloss with logsumexp, which is not. It cancels between
choices, so differences are reported with and without it.
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
    """An item the two answer differently, and how far its best letter leads under either."""

    item_id: str
    margin: float


class Parity(NamedTuple):
    """How one language's scores compare; `uncompared` items are in one of the two alone."""

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
    """The id isogloss gives to a Belebele document."""
    return f"{doc['link']}#{doc['question_number']}"


def read_samples(folder: Path) -> Iterator[dict[str, Any]]:
    """The samples of all lm-eval runs below a folder, the latest run of a task last."""
    for path in sorted(folder.rglob("samples_*.jsonl"), key=lambda path: path.name):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def lm_eval_scores(folder: Path) -> pd.DataFrame:
    """One row an item: the log-likelihoods, answer and accuracy of lm-eval's samples.

    An item that was scored more than once counts as it was scored last.
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
    """How far the likeliest choice leads the second, in nats."""
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
    merged = ours.merge(theirs, on=KEY, how="outer", validate="one_to_one", indicator="found")
    parities = []
    for language, rows in merged.groupby("language"):
        items = rows[rows["found"] == "both"]
        if items.empty:
            continue
        if (items["gold"] != items["answer"]).any():
            raise click.ClickException(f"{language}: the two do not have the same right answers.")
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
    """A table with a row a language, and below it each disagreement with its margin."""
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
        f"- {row.language} {found.item_id}: margin {found.margin:.1e}"
        for row in parities
        for found in row.disagreements
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
    """Compare lm-eval's samples below SAMPLES with PREDICTIONS, an isogloss predictions.parquet.

    Prints a Markdown table; differences are of log-likelihoods, in nats. Exits with 1 if an item is
    answered differently although its best letter leads by more than the threshold.
    """
    parities = compare(isogloss_scores(predictions), lm_eval_scores(samples))
    if not parities:
        raise click.ClickException("the two have no item in common.")
    click.echo(markdown(parities))
    if any(found.margin > threshold for row in parities for found in row.disagreements):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
