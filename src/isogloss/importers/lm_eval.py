"""Samples of lm-evaluation-harness, as `--log_samples` writes them (layout of lm-eval 0.4.13).

One file a task, `samples_TASK_TIME.jsonl`, a line for each document and filter; beside it
`results_TIME.json`, which names the model.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.importers import fields as given
from isogloss.importers.fields import Given, Said
from isogloss.tasks.rows import Row
from isogloss.types import FloatArray

logger = logging.getLogger(__name__)

NAME = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
NEEDED = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps")
INVALID = "[invalid]"  # what lm-eval's filters make of an answer that they cannot read


def read(path: Path, rows: Sequence[Row], config: ImportConfig) -> list[Given]:
    """An answer for each document; DataError, with file and line, for what cannot be read.

    The parameter `metric` is METRIC or METRIC,FILTER. Without it: `acc` or else the only metric,
    and of several filters the first, which is announced.
    """
    named = NAME.fullmatch(path.name)
    name = named["task"] if named else ""
    model = _model(path.with_name(f"results_{named['time']}.json"), config) if named else None
    metric, _, wanted = (config.metric or "").partition(",")
    filters = list(dict.fromkeys(str(row.values.get("filter", "none")) for row in rows))
    chosen = wanted or filters[0]
    if chosen not in filters:
        raise DataError(f"{path} has no filter {chosen!r}; it has {', '.join(filters)}.")
    if len(filters) > 1 and not wanted:
        logger.info(f"{path.name}: of the filters {', '.join(filters)} the first is taken")
    found = []
    for place, values in rows:
        if str(values.get("filter", "none")) != chosen:
            continue
        given.require(values, NEEDED, place)
        doc = values["doc"] if isinstance(values["doc"], dict) else {}
        fields = {"doc_id": values["doc_id"], **doc}
        by = metric or _metric(values, place)
        given.require(values, (by,), place, "metric")
        format, columns = _columns(values, by, chosen, place)
        found.append(
            Given(
                place,
                Said("lm-eval", model=model, task=given.task_in(name) or None, format=format),
                given.language_in(fields, ("dialect",), config, place, name),
                given.item_in(fields, given.text_of(values["doc_id"], place, "doc_id")),
                given.passage_in(fields, ("link",), config, place),
                given.truth(values[by], place, by),
                columns,
            )
        )
    return found


def _model(results: Path, config: ImportConfig) -> str | None:
    """The model that a results file names; DataError if it has an adapter and is called base."""
    if not results.is_file():
        return None
    try:
        content = json.loads(results.read_text(encoding="utf-8"))
        args = content["config"]["model_args"]
        if isinstance(args, str):
            args = dict(part.partition("=")[::2] for part in args.split(","))
        name = str(args.get("pretrained") or content["model_name"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{results} is not a results file of lm-eval: {error!r}.") from None
    if args.get("peft") and config.condition is not None and "base" in config.condition:
        raise DataError(f"{results}: there is an adapter, but condition={config.condition}.")
    return name


def _metric(values: Mapping[str, Any], place: str) -> str:
    metrics = values.get("metrics", ["acc"])
    if "acc" in metrics or len(metrics) == 1:
        return "acc" if "acc" in metrics else str(metrics[0])
    raise DataError(f"{place}: choose one of the metrics {', '.join(metrics)} with metric=.")


def _columns(
    values: Mapping[str, Any], by: str, chosen: str, place: str
) -> tuple[str, dict[str, Any]]:
    """Format of the question and optional columns of the answer."""
    try:
        asked = [tuple(each.values()) for each in values["arguments"].values()]
        read = values["filtered_resps"]
        if not all(isinstance(text, str) for _, text in asked):
            return "generate", _of_text(values["resps"], read, chosen)
        # acc_mutual_info asks again without the prompt: those come behind, and are left.
        n = sum(prompt == asked[0][0] for prompt, _ in asked)
        texts = [text.strip() for _, text in asked[:n]]
        logprob_C = np.array([float(logprob) for logprob, _ in read[:n]])
        said = [at for at in range(n) if str(read[at][1]) == "True"]
    except (ValueError, TypeError, AttributeError, IndexError):
        raise DataError(
            f"{place}: arguments, resps and filtered_resps are not as lm-eval writes them."
        ) from None
    columns: dict[str, Any] = {}
    if n > 1:
        greedy = max(said, key=lambda at: len(texts[at]), default=-1)
        columns = {"greedy": greedy, "valid": greedy >= 0}
        columns |= _of_options(values, texts, logprob_C, by)
    return "letter" if all(len(text) == 1 for text in texts) else "cloze", columns


def _of_options(
    values: Mapping[str, Any], texts: Sequence[str], logprob_C: FloatArray, by: str
) -> dict[str, Any]:
    """Columns of a choice; what depends on the gold one only if `acc` agrees with it."""
    columns: dict[str, Any] = {}
    likeliest = int(logprob_C.argmax())
    if by == "acc":
        columns |= {"prediction": likeliest, "forced": likeliest}
    finite = bool(np.isfinite(logprob_C).all())
    if finite:
        columns["choice_logprobs"] = logprob_C.tolist()
    target = str(values["target"]).strip()  # an index, or the text of the choice
    answer = -1
    if target.isdecimal() and int(target) < len(texts):
        answer = int(target)
    elif texts.count(target) == 1:
        answer = texts.index(target)
    right = likeliest == answer
    if answer >= 0 and values.get("acc", right) == right:
        columns["answer"] = answer
        if finite:
            gold = logprob_C[answer] - np.logaddexp.reduce(logprob_C)
            columns["gold_logprob"] = float(gold)
    return columns


def _of_text(resps: Any, filtered: Any, chosen: str) -> dict[str, Any]:
    """Columns of a generated answer."""
    columns: dict[str, Any] = {}
    match resps:
        case [[str(text)]]:
            columns["text"] = text
    match filtered:
        case [str(read)] if chosen != "none":
            columns["valid"] = read != INVALID
    return columns
