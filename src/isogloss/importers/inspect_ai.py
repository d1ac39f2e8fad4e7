"""Logs of inspect_ai as JSON (layout of inspect_ai 0.3.285).

`inspect log dump FILE.eval` prints such a log, and `--log-format=json` makes inspect write one.
"""

import math
import string
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.formatting import did_you_mean
from isogloss.importers import fields
from isogloss.importers.answer_language import AnswerLanguage, answer_language, task_name
from isogloss.importers.fields import Fields, ImportedAnswer, RunFields, Value
from isogloss.importers.model_args import check_condition
from isogloss.predictions.table import DOCUMENT_DIGEST, PROMPT_DIGEST
from isogloss.types import Missing

LANGUAGE = ("language", "lang", "dialect")
PASSAGE = ("passage_id", "passage", "link")
NO_MODEL = "none/none"  # the solver chooses the models
VALUES = {"C": 1, "I": 0, "N": 0, "P": 0.5}  # correct, incorrect, no answer, partially correct


def read(path: Path, log: Fields, config: ImportConfig) -> list[ImportedAnswer]:
    """One answer per sample and epoch; with several epochs the epoch is the seed.

    The parameter `metric` names one of several scorers, or SCORER.KEY. Raises DataError for a log
    that is unfinished or has no samples, and for a sample that failed or has no score, unless the
    parameter `missing` leaves such samples out.
    """
    if log["status"] != "success" or log.get("invalidated"):
        status = "invalidated" if log["status"] == "success" else log["status"]
        raise DataError(f"{path} is not a finished evaluation: its status is {status!r}.")
    samples = log.get("samples")
    if not samples:
        raise DataError(f"{path} has no samples; export the whole log, not only its header.")
    header = log["eval"]
    name = fields.text_of(header.get("task"), str(path), "eval.task")
    several = len({sample.get("epoch", 1) for sample in samples}) > 1
    shared = {**(header.get("task_args") or {}), **(header.get("metadata") or {})}
    places = [_place(path, sample, several) for sample in samples]
    values = [
        {**shared, "id": sample.get("id"), **(sample.get("metadata") or {})} for sample in samples
    ]
    languages = [
        answer_language(of_sample, LANGUAGE, config, place, name)
        for of_sample, place in zip(values, places, strict=True)
    ]
    run = RunFields(
        "inspect_ai",
        model=_model(header, str(path), config),
        task=task_name(name, languages, config),
        format="generate",
    )
    return [
        _answer(
            sample,
            run._replace(seed=str(sample.get("epoch", 1)) if several else None),
            _Context(place, of_sample, language, config),
        )
        for sample, place, of_sample, language in zip(
            samples, places, values, languages, strict=True
        )
    ]


class _Context(NamedTuple):
    """What is known of a sample beside itself: `values` are its metadata and those of its log."""

    place: str
    values: Fields
    language: AnswerLanguage
    config: ImportConfig


def _place(path: Path, sample: Fields, several: bool) -> str:
    epoch = f" epoch {sample.get('epoch', 1)}" if several else ""
    return f"{path} sample {sample.get('id')!r}{epoch}"


def _answer(sample: Fields, run: RunFields, context: _Context) -> ImportedAnswer:
    """The answer of one sample."""
    place, values, language, config = context
    item_id = fields.item_in(values, fields.text_of(sample.get("id"), place, "id"))
    passage_id = fields.passage_in(values, PASSAGE, config, place)
    problem = _problem(sample)
    if not problem:
        scorer, score = _score(sample, config.metric, place)
        value = score["value"]
        if config.missing is Missing.DROP and isinstance(value, float) and math.isnan(value):
            problem = "was not scored"
    if problem:
        if config.missing is Missing.REFUSE:
            raise DataError(f"{place} {problem}; set missing=drop to leave such samples out.")
        return ImportedAnswer(place, run, language.code, item_id, passage_id, None, {})
    fields.check_finite(value, place, f"score {scorer}", item_id, language.code)
    correct = fields.truth(
        VALUES.get(value, value) if isinstance(value, str) else value, place, "score"
    )
    columns = {**_columns(sample, score, correct), **_digests(sample, run.seed is not None)}
    return ImportedAnswer(
        place,
        run._replace(metric=scorer),
        language.code,
        item_id,
        passage_id,
        correct,
        columns,
        language.read_as,
    )


def _problem(sample: Fields) -> str:
    """Why a sample has no answer; empty if it has one."""
    if sample.get("error"):
        return f"failed: {sample['error'].get('message', '')[:200]!r}"
    if not sample.get("scores"):
        return "has no score (`inspect score` scores a log without scores)"
    return ""


def _model(header: Fields, place: str, config: ImportConfig) -> str | None:
    """The model, without an adapter; None for a log that names none.

    vLLM takes `vllm/BASE:ADAPTER`, where ADAPTER is the name, the path or PATH@REVISION.
    """
    model = fields.text_of(header.get("model"), place, "eval.model")
    base, _, adapter = model.partition(":") if model.startswith("vllm/") else (model, "", "")
    check_condition(
        config.condition,
        header.get("model_args") or {},
        place,
        others=[f"model {model}"] if adapter else [],
    )
    return None if model == NO_MODEL else base


def _score(sample: Fields, metric: str | None, place: str) -> tuple[str, Fields]:
    """The name and the score that `metric` names: a scorer, or SCORER.KEY of a dictionary.

    The value of the score is neither a dictionary nor a list.
    """
    scores = sample["scores"]
    single: dict[str, Fields] = {}
    for scorer, score in scores.items():
        value = score.get("value")
        if isinstance(value, dict):
            single |= {f"{scorer}.{key}": {**score, "value": value[key]} for key in value}
        elif not isinstance(value, list):
            single[scorer] = {**score, "value": value}
    if metric is None and len(single) == 1:
        return next(iter(single.items()))
    if not single:
        raise DataError(f"{place}: the scores {', '.join(scores)} are lists; expected one value.")
    if metric is None:
        raise DataError(f"{place}: set metric to one of the scorers {', '.join(single)}.")
    if metric not in single:
        ending = did_you_mean(metric, single)
        raise DataError(f"{place} has no score {metric!r}; it has {', '.join(single)}{ending}")
    return metric, single[metric]


def _digests(sample: Fields, several: bool) -> dict[str, Value]:
    """Digests of the question and of what the model was asked.

    Options may be in another order in each of several epochs.
    """
    digests = {
        DOCUMENT_DIGEST: fields.digest([sample.get(key) for key in ("input", "choices", "target")])
    }
    messages = sample.get("messages")
    if isinstance(messages, list) and messages and not several:
        asked = [
            [message.get("role"), message.get("content")]
            for message in takewhile(lambda message: message.get("role") != "assistant", messages)
        ]
        digests[PROMPT_DIGEST] = fields.digest(asked)
    return digests


def _columns(sample: Fields, score: Fields, correct: bool) -> dict[str, Value]:
    """The generated text and, for multiple choice, the gold answer and the chosen option."""
    columns: dict[str, Value] = {}
    text = (sample.get("output") or {}).get("completion")
    if isinstance(text, str):
        columns["text"] = fields.writable(text)
    letters = string.ascii_uppercase[: len(sample.get("choices") or ())]
    target, chosen = sample.get("target"), score.get("answer")
    if isinstance(target, list) and len(target) == 1:
        target = target[0]
    if not letters or target not in tuple(letters) or chosen not in ("", *letters):
        return columns
    answer = letters.index(target)
    prediction = letters.index(chosen) if chosen else -1
    if (prediction == answer) == correct:
        columns |= {"answer": answer, "prediction": prediction, "greedy": prediction}
        columns["valid"] = prediction >= 0
    return columns
