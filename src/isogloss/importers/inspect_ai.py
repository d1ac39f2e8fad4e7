"""Logs of inspect_ai as JSON (layout of inspect_ai 0.3.285).

`inspect log dump FILE.eval` prints such a log, and `--log-format=json` makes inspect write one.
"""

import string
from itertools import takewhile
from pathlib import Path

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.importers import fields
from isogloss.importers.fields import Fields, ImportedAnswer, RunFields, Value
from isogloss.importers.model_args import check_condition
from isogloss.predictions.table import DOCUMENT_DIGEST, PROMPT_DIGEST

LANGUAGE = ("language", "lang", "dialect")
PASSAGE = ("passage_id", "passage", "link")
NO_MODEL = "none/none"  # the solver chooses the models
VALUES = {"C": 1, "I": 0, "N": 0, "P": 0.5}  # correct, incorrect, no answer, partially correct


def read(path: Path, log: Fields, config: ImportConfig) -> list[ImportedAnswer]:
    """One answer per sample and epoch; with several epochs the epoch is the seed.

    The parameter `metric` names one of several scorers, or SCORER.KEY. Raises DataError for a log
    that is unfinished or has no samples, and for a sample that failed or has no score.
    """
    if log["status"] != "success" or log.get("invalidated"):
        status = "invalidated" if log["status"] == "success" else log["status"]
        raise DataError(f"{path} is not a finished evaluation: its status is {status!r}.")
    samples = log.get("samples")
    if not samples:
        raise DataError(f"{path} has no samples; export the whole log, not only its header.")
    header = log["eval"]
    name = fields.text_of(header.get("task"), str(path), "eval.task").rpartition("/")[2]
    model = _model(header, str(path), config)
    several = len({sample.get("epoch", 1) for sample in samples}) > 1
    shared = [*(header.get("task_args") or {}).items(), *(header.get("metadata") or {}).items()]
    answers = []
    for sample in samples:
        epoch = sample.get("epoch", 1)
        place = f"{path} sample {sample.get('id')!r}" + (f" epoch {epoch}" if several else "")
        values = {**dict(shared), "id": sample.get("id"), **(sample.get("metadata") or {})}
        if sample.get("error"):
            raise DataError(f"{place} failed: {sample['error'].get('message', '')[:200]!r}.")
        scorer, score = _score(sample, config.metric, place)
        value = score["value"]
        language = fields.language_in(values, LANGUAGE, config, place, name)
        item_id = fields.item_in(values, fields.text_of(sample.get("id"), place, "id"))
        fields.check_finite(value, place, f"score {scorer}", item_id, language)
        run = RunFields(
            "inspect_ai",
            model=model,
            seed=str(epoch) if several else None,
            task=fields.task_in(name),
            format="generate",
            metric=scorer,
        )
        correct = fields.truth(
            VALUES.get(value, value) if isinstance(value, str) else value, place, "score"
        )
        answers.append(
            ImportedAnswer(
                place,
                run,
                language,
                item_id,
                fields.passage_in(values, PASSAGE, config, place),
                correct,
                {**_columns(sample, score, correct), **_digests(sample, several)},
            )
        )
    return answers


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
    scores = sample.get("scores") or {}
    if not scores:
        raise DataError(f"{place} has no score.")
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
        raise DataError(f"{place} has no score {metric!r}; it has {', '.join(single)}.")
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
