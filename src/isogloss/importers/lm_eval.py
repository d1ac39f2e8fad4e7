"""Samples of lm-evaluation-harness, as `--log_samples` writes them (lm-eval 0.4.3 to 0.4.13).

One file per task, `samples_TASK_TIME.jsonl`, with one line per document and filter, and
`results_TIME.json` in the same folder, which names the model; `NAME_TIME.json` with
`--output_path NAME.json`. Versions before 0.4.7 name neither filters nor metrics.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.formatting import did_you_mean
from isogloss.importers import fields
from isogloss.importers.answer_language import answer_language, task_name
from isogloss.importers.fields import Fields, ImportedAnswer, RunFields, Value
from isogloss.importers.model_args import check_condition, is_adapter_folder
from isogloss.predictions.table import DOCUMENT_DIGEST, PROMPT_DIGEST
from isogloss.row_files import Row, parse_json, read_lines
from isogloss.types import FloatArray, Format

logger = logging.getLogger(__name__)

NAME = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
NEEDED = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps")
FIELDS = {*NEEDED, "doc_hash", "prompt_hash", "target_hash"}  # the others are metrics
UNSCORED: tuple[list[str], ...] = ([], ["bypass"])  # metrics after --predict_only
INVALID = "[invalid]"  # what the filters of lm-eval return for an answer they cannot parse


def read(path: Path, rows: Sequence[Row], config: ImportConfig) -> list[ImportedAnswer]:
    """One answer per document; DataError, with file and line, for an invalid one.

    The parameter `metric` is METRIC or METRIC,FILTER. The default is `acc`, or the only metric, and
    the first of several filters, with a warning.
    """
    named = NAME.fullmatch(path.name.removesuffix(".gz"))
    name = named["task"] if named else ""
    model = _model(_results_file(path, named["time"]) if named else None, path, config)
    metric, _, filter_name = (config.metric or "").partition(",")
    chosen, rows = _of_one_filter(path, rows, filter_name)
    docs = [_doc_fields(row) for row in rows]
    languages = [
        answer_language(doc, ("dialect",), config, row.place, name)
        for row, doc in zip(rows, docs, strict=True)
    ]
    task = task_name(name, languages, config) or None
    answers = []
    for (place, values), doc_fields, language in zip(rows, docs, languages, strict=True):
        if _metrics_of(values) in UNSCORED:
            values = {**values, **_accuracy(values, place), "metrics": ["acc"]}
        column = metric or _default_metric(values, place)
        fields.require(values, (column,), place, "metric")
        item_id = fields.item_in(doc_fields, fields.text_of(values["doc_id"], place, "doc_id"))
        fields.check_finite(values[column], place, column, item_id, language.code)
        for number in _log_likelihoods(values):
            fields.check_finite(number, place, "a log-likelihood", item_id, language.code)
        format, columns = _columns(values, column, chosen, place)
        columns[DOCUMENT_DIGEST] = fields.digest(values["doc"])
        columns[PROMPT_DIGEST] = fields.digest(values["arguments"])
        run = RunFields(
            "lm-eval",
            model=model,
            task=task,
            format=format,
            metric=column if chosen == "none" else f"{column},{chosen}",
        )
        answers.append(
            ImportedAnswer(
                place,
                run,
                language.code,
                item_id,
                fields.passage_in(doc_fields, ("link",), config, place),
                fields.truth(values[column], place, column),
                columns,
                language.read_as,
            )
        )
    return answers


def _of_one_filter(path: Path, rows: Sequence[Row], filter_name: str) -> tuple[str, list[Row]]:
    """The filter of that name, or else the first one, and its rows."""
    filters = list(dict.fromkeys(str(row.values.get("filter", "none")) for row in rows))
    chosen = filter_name or filters[0]
    if chosen not in filters:
        ending = did_you_mean(chosen, filters)
        raise DataError(f"{path} has no filter {chosen!r}; it has {', '.join(filters)}{ending}")
    if len(filters) > 1 and not filter_name:
        logger.warning(
            f"{path.name} has the filters {', '.join(filters)}; the first is used, set metric to "
            "METRIC,FILTER for another"
        )
    ids = [row.values.get("doc_id") for row in rows]
    if "filter" not in rows[0].values and ids.count(ids[0]) > 1:
        raise DataError(
            f"{path} has several answers to document {ids[0]} and no names of filters, which "
            "lm-eval writes since 0.4.7; evaluate with a later version, or a task with one filter."
        )
    return chosen, [row for row in rows if str(row.values.get("filter", "none")) == chosen]


def _doc_fields(row: Row) -> dict[str, Value]:
    """The fields of a document, and its number."""
    fields.require(row.values, NEEDED, row.place)
    doc = row.values["doc"]
    return {"doc_id": row.values["doc_id"], **(doc if isinstance(doc, dict) else {})}


def _results_file(samples: Path, time: str) -> Path | None:
    """The results of the run that wrote a file of samples; named by --output_path NAME.json."""
    found = sorted(samples.parent.glob(f"*_{time}.json"))
    return found[0] if found else None


def is_results(content: Value) -> bool:
    """Whether the content of a JSON file is that of results, which have no answers."""
    return isinstance(content, dict) and {"results", "config"} <= content.keys()


def _model(results: Path | None, samples: Path, config: ImportConfig) -> str | None:
    """The model in a results file; DataError if its adapter and the condition disagree."""
    if results is None:
        if config.condition is not None and not config.condition.tuned:
            logger.warning(
                f"the folder of {samples.name} has no results file: whether the model had an "
                "adapter is not checked"
            )
        return None
    try:
        content = parse_json("".join(read_lines(results)))
        args = content["config"]["model_args"]
        if isinstance(args, str):
            args = dict(part.strip().partition("=")[::2] for part in args.split(","))
        name = str(args.get("pretrained") or content["model_name"])
        others = [key for key in ("peft_sha", "delta_sha") if content["config"].get(key)]
        backend = content["config"].get("model")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{results} is not a results file of lm-eval: {error!r}.") from None
    if is_adapter_folder(name):
        others.append("pretrained")
    check_condition(config.condition, args, str(results), backend=backend, others=others)
    return name


def _log_likelihoods(values: Fields) -> list[Value]:
    """The log-likelihoods of all requests of a document; none of generated text."""
    responses = values["filtered_resps"]
    return [
        response[0]
        for response in (responses if isinstance(responses, list) else ())
        if isinstance(response, list | tuple) and len(response) == 2
    ]


def _metrics_of(values: Fields) -> list[str]:
    """The metrics of a sample; before 0.4.7 these are all fields but the known ones."""
    if "metrics" in values:
        return [str(name) for name in values["metrics"]]
    return [name for name in values if name not in FIELDS]


def _default_metric(values: Fields, place: str) -> str:
    metrics = _metrics_of(values)
    if "acc" in metrics or len(metrics) == 1:
        return "acc" if "acc" in metrics else metrics[0]
    raise DataError(f"{place}: set metric to one of {', '.join(metrics)}.")


def _accuracy(values: Fields, place: str) -> dict[str, float]:
    """`acc` of a document without metrics, as lm-eval defines it: the likeliest choice is right."""
    choices = _choices(values, place)
    answer = -1 if choices is None else _answer(values, choices.texts)
    if choices is None or answer < 0:
        raise DataError(
            f"{place}: there is no metric, as after --predict_only, and only choices with a known "
            "answer can be scored from their log-likelihoods; evaluate without --predict_only."
        )
    return {"acc": float(choices.logprobs.argmax() == answer)}


class _Choices(NamedTuple):
    """The choices of a document, their log-likelihoods, [C], and which of them are greedy."""

    texts: list[str]
    logprobs: FloatArray
    greedy: list[int]


def _choices(values: Fields, place: str) -> _Choices | None:
    """The choices of a document; None if its answer was generated."""
    try:
        requests = [tuple(request.values()) for request in values["arguments"].values()]
        if not all(isinstance(text, str) for _, text in requests):
            return None
        responses = values["filtered_resps"]
        # acc_mutual_info scores the options again without the prompt; those requests come last.
        n = sum(prompt == requests[0][0] for prompt, _ in requests)
        return _Choices(
            [text.strip() for _, text in requests[:n]],
            np.array([float(logprob) for logprob, _ in responses[:n]]),
            [at for at in range(n) if str(responses[at][1]) == "True"],
        )
    except (ValueError, TypeError, AttributeError, IndexError):
        raise DataError(
            f"{place}: arguments, resps and filtered_resps are not in the layout of lm-eval."
        ) from None


def _columns(
    values: Fields, metric: str, filter_name: str, place: str
) -> tuple[Format, dict[str, Value]]:
    """Format of the question and optional columns of the answer."""
    choices = _choices(values, place)
    if choices is None:
        generated = _generated_columns(values["resps"], values["filtered_resps"], filter_name)
        return Format.GENERATE, generated
    texts = choices.texts
    columns: dict[str, Value] = {}
    if len(texts) > 1:
        greedy = max(choices.greedy, key=lambda at: len(texts[at]), default=-1)
        columns = {"greedy": greedy, "valid": greedy >= 0}
        columns |= _choice_columns(values, choices, metric)
    letters = all(len(text) == 1 for text in texts)
    return Format.LETTER if letters else Format.CLOZE, columns


def _choice_columns(values: Fields, choices: _Choices, metric: str) -> dict[str, Value]:
    """Columns of a choice; those that need the gold choice only if `acc` agrees with it."""
    columns: dict[str, Value] = {}
    likeliest = int(choices.logprobs.argmax())
    if metric == "acc":
        columns |= {"prediction": likeliest, "forced": likeliest}
    columns["choice_logprobs"] = choices.logprobs.tolist()
    answer = _answer(values, choices.texts)
    correct = likeliest == answer
    if answer >= 0 and values.get("acc", correct) == correct:
        columns["answer"] = answer
        normaliser = np.logaddexp.reduce(choices.logprobs)
        columns["gold_logprob"] = float(choices.logprobs[answer] - normaliser)
    return columns


def _answer(values: Fields, texts: Sequence[str]) -> int:
    """The index of the gold choice: `target` is an index, or the text of a choice; else -1."""
    target = str(values["target"]).strip()
    if target.isdecimal() and int(target) < len(texts):
        return int(target)
    return texts.index(target) if texts.count(target) == 1 else -1


def _generated_columns(resps: Value, filtered: Value, filter_name: str) -> dict[str, Value]:
    """Columns of a generated answer."""
    columns: dict[str, Value] = {}
    match resps:
        case [[str(text)]]:
            columns["text"] = fields.writable(text)
    match filtered:
        case [str(parsed)] if filter_name != "none":
            columns["valid"] = parsed != INVALID
    return columns
