"""A fine-tuned adapter on its base model: rows of a request in, answers out.

A row is presented to the model exactly as `evaluate` presents an item. A row that cannot be
presented or answered gets an error message; the other rows are answered as without it.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from isogloss.errors import DataError, IsoglossError, ModelError
from isogloss.files import user_path
from isogloss.inference.context_window import prompt_lengths
from isogloss.inference.predict import predict, ranking_scores
from isogloss.models.adapters import attach
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import EMBEDDED, ModelLocation, locate
from isogloss.predictions.table import Prediction
from isogloss.prompts import answer_parser
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import as_shown
from isogloss.prompts.wording import languages as languages_with_wording
from isogloss.serving.rows import MOST_OPTIONS, Row, row_item
from isogloss.tasks import Item
from isogloss.types import FloatArray, Format, LanguageCode, PromptLanguage

logger = logging.getLogger(__name__)

# These bound memory: rows per call of the model, and questions that share one passage's tokens.
ROWS_PER_CALL = 2048
QUESTIONS_PER_PASSAGE = 16
MOST_ROWS = 10_000  # of a request
CHARACTERS_PER_TOKEN = 50  # more than any text has, of any language and tokenizer


@dataclass(frozen=True)
class Answer:
    """One row of output.

    `choice` is an index into the row's options, -1 for none; `answer` is that option's text. In
    `generate` format the choice is what was parsed from `text`, and there are no `probabilities`.
    Otherwise it is the most probable option: `probabilities` are the softmax of the scores that are
    ranked. `text` is what the model generated, None where it generates nothing. `valid` says
    whether the model's own answer is one of the options. `error` says why a row has no answer.
    """

    choice: int = -1
    answer: str | None = None
    probabilities: tuple[float, ...] = ()
    valid: bool = False
    text: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class AdapterModel:
    """A base model with one adapter attached, and how questions are presented to it.

    `language` is that of rows that name none; `window` the most tokens that a prompt may have;
    `own_texts` that of the task (see `Task`).
    """

    model: LanguageModel
    digest: str
    protocol: Protocol
    language: LanguageCode
    window: int
    lock: Lock
    own_texts: bool

    def answer(self, rows: Sequence[Row]) -> list[Answer]:
        """Answer the rows, in their order. Threads may call this concurrently."""
        # A server answers requests in threads, but scoring hooks into the one network.
        with self.lock:
            return self._answer(rows)

    def _answer(self, rows: Sequence[Row]) -> list[Answer]:
        answers = [Answer()] * len(rows)
        items: dict[int, Item] = {}
        for number, row in enumerate(rows):
            try:
                items[number] = self._item(number, row)
            except Exception as error:  # also what a chat template or a tokenizer raises
                answers[number] = Answer(error=reason(error))
        items = with_shared_passages(items)
        for numbers in batches(items):
            batch = [items[number] for number in numbers]
            for number, answer in zip(numbers, self._answer_items(batch), strict=True):
                answers[number] = in_words_of_row(answer, rows[number])
        return answers

    def _answer_items(self, items: Sequence[Item]) -> list[Answer]:
        """Answer items; those that fail together are answered by halves, until one fails alone."""
        try:
            with self.model.using(self.digest):
                predictions = predict(self.model, items, self.protocol, task="")
            return [
                answer_of(prediction, item, self.protocol)
                for prediction, item in zip(predictions, items, strict=True)
            ]
        except Exception as error:
            if len(items) == 1:
                return [Answer(error=reason(error))]
        middle = len(items) // 2
        return [*self._answer_items(items[:middle]), *self._answer_items(items[middle:])]

    def _item(self, number: int, row: Row) -> Item:
        """Return the item of a row as prompts show it; IsoglossError if it cannot be presented."""
        most_options = answer_parser.MOST_OPTIONS if self.protocol.generates else MOST_OPTIONS
        if number >= MOST_ROWS:
            raise DataError(f"a request has at most {MOST_ROWS:,} rows; send more requests.")
        item = row_item(number, row, self.language, most_options)
        n_characters = sum(map(len, (item.passage, item.question, *item.options)))
        if n_characters > CHARACTERS_PER_TOKEN * self.window:  # before all of it is tokenised
            raise DataError(
                f"passage, question and options have {n_characters:,} characters, more than the "
                f"model's context window of {self.window:,} tokens can hold."
            )
        worded = languages_with_wording()
        if self.protocol.prompt_language == PromptLanguage.TARGET and item.language not in worded:
            raise DataError(
                f"language {item.language!r} has no wording for prompts; expected one of "
                f"{', '.join(worded)}."
            )
        (item,) = as_shown([item], self.protocol.prompt_language, None, own_texts=self.own_texts)
        (length,) = prompt_lengths([item], self.model.tokenizer, self.protocol)
        if length > self.window:
            raise DataError(
                f"passage, question and options must fit the model's context window of "
                f"{self.window:,} tokens but are longer."
            )
        return item


def load_adapter_model(
    settings: Mapping[str, Any],  # Any: parsed JSON
    adapter: Path,
) -> AdapterModel:
    """Load the base model that `settings` name, at their revision, and attach the adapter.

    `settings` is the `model_config` that `registry.logging.log_adapter` stores; `adapter` the
    adapter's folder. Raises ModelError if the base is not found or is at another revision.
    """
    location = locate_base(settings["base_model"], settings["base_revision"])
    model = load(
        location,
        settings["base_dtype"],
        settings.get("base_attention", "auto"),
        settings.get("base_device_map", "none"),
    )
    return AdapterModel(
        model,
        attach(model, adapter),
        Protocol.from_dict(settings["protocol"]),
        settings["trained_language"],
        settings["window"],
        Lock(),
        settings["own_texts"],
    )


def locate_base(name: str, revision: str) -> ModelLocation:
    """Locate the base model that an adapter was trained on.

    A model of the Hub is located at that revision, even if newer ones exist. The revision of local
    files is their digest. Raises ModelError if the model is missing or at another revision.
    """
    local = name == EMBEDDED or user_path(name).exists()
    location = locate(name if local else f"{name}@{revision}")
    if location.revision != revision:
        raise ModelError(
            f"model {name!r} is at {location.revision}, but the adapter was trained on {revision}."
        )
    return location


def with_shared_passages(items: Mapping[int, Item]) -> dict[int, Item]:
    """Give items of one language and passage one passage_id, up to QUESTIONS_PER_PASSAGE of them.

    Items without a passage share nothing: their common tree of tokens would have no bound.
    """
    n_met: Counter[tuple[str, str]] = Counter()
    shared = {}
    for number, item in items.items():
        passage = item.language, item.passage
        group = n_met[passage] // QUESTIONS_PER_PASSAGE
        passage_id = f"{item.passage}/{group}" if item.passage.strip() else str(number)
        n_met[passage] += 1
        shared[number] = replace(item, passage_id=passage_id)
    return shared


def batches(items: Mapping[int, Item]) -> Iterator[list[int]]:
    """Yield the row numbers of each call of the model: rows of one language, in their order.

    `evaluate` calls the model per language, too. In bfloat16 rounding depends on what is computed
    together, so that only items batched in the same way have bitwise equal results.
    """
    by_language: dict[str, list[int]] = defaultdict(list)
    for number, item in items.items():
        by_language[item.language].append(number)
    for numbers in by_language.values():
        for start in range(0, len(numbers), ROWS_PER_CALL):
            yield numbers[start : start + ROWS_PER_CALL]


def answer_of(prediction: Prediction, item: Item, protocol: Protocol) -> Answer:
    """Return a prediction as an answer among its item's options; ModelError if scores are NaN."""
    choice = prediction.prediction
    scores_C = ranking_scores(
        item,
        protocol,
        np.array(prediction.choice_logprobs, dtype=np.float64),
        prediction.unconditional_logprobs,
    )
    if not np.isfinite(scores_C).all():
        raise ModelError(f"the model's scores of the options are not finite: {scores_C.tolist()}.")
    generates = protocol.format == Format.GENERATE
    return Answer(
        choice,
        item.options[choice] if choice >= 0 else None,
        () if generates else tuple(probabilities(scores_C).tolist()),
        prediction.valid,
        prediction.text,
    )


def probabilities(scores_C: FloatArray) -> FloatArray:
    """Return the softmax [C] of scores; its first maximum is theirs.

    Rounding may make two probabilities equal that the scores distinguish, hence the last step.
    """
    probability_C: FloatArray = np.exp(scores_C - np.logaddexp.reduce(scores_C))
    best = int(scores_C.argmax())
    if int(probability_C.argmax()) != best:
        probability_C[best] = np.nextafter(probability_C.max(), 1)
    return probability_C


def in_words_of_row(answer: Answer, row: Row) -> Answer:
    """Return the answer with the row's own text of the option, which prompts may translate."""
    return (
        replace(answer, answer=str(row["options"][answer.choice])) if answer.choice >= 0 else answer
    )


def reason(error: Exception) -> str:
    """Return in one sentence why a row has no answer; an unexpected error is logged in full."""
    if isinstance(error, IsoglossError):
        return str(error)
    logger.error("a row has no answer", exc_info=error)
    summary = " ".join(str(error).split())
    return f"the model cannot answer this row ({type(error).__name__}: {summary:.200})."


def answer_table(answers: Sequence[Answer]) -> pd.DataFrame:
    """Return the answers as a table, one column per field; absent values are None (JSON null)."""
    return pd.DataFrame(
        {
            "choice": pd.Series([answer.choice for answer in answers], dtype="int64"),
            "answer": pd.Series([answer.answer for answer in answers], dtype=object),
            "probabilities": pd.Series(
                [list(answer.probabilities) for answer in answers], dtype=object
            ),
            "valid": pd.Series([answer.valid for answer in answers], dtype=bool),
            "text": pd.Series([answer.text for answer in answers], dtype=object),
            "error": pd.Series([answer.error for answer in answers], dtype=object),
        }
    )
