"""A fine-tuned adapter on its base model: rows of a request in, answers out.

A row is presented to the model exactly as `evaluate` presents an item. A row that cannot be
presented gets an error message; the other rows are answered as they would be without it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from isogloss.errors import DataError, IsoglossError, ModelError
from isogloss.inference.context_window import prompt_lengths
from isogloss.inference.predict import predict
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
from isogloss.types import LanguageCode, PromptLanguage

# These bound memory: rows per call of the model, and questions that share one passage's tokens.
ROWS_PER_CALL = 2048
QUESTIONS_PER_PASSAGE = 16


@dataclass(frozen=True)
class Answer:
    """One row of output.

    `choice` is an index into the row's options, -1 for none; `answer` is that option's text.
    `probabilities` are those of the options as continuations of the prompt, normalised over the
    options. `valid` says whether the model's own answer is one of the options. `error` says why a
    row was not presented to the model; its `probabilities` are empty then.
    """

    choice: int = -1
    answer: str | None = None
    probabilities: tuple[float, ...] = ()
    valid: bool = False
    error: str | None = None


@dataclass(frozen=True)
class AdapterModel:
    """A base model with one adapter attached, and how questions are presented to it.

    `language` is that of rows that name none; `window` the most tokens that a prompt may have.
    """

    model: LanguageModel
    digest: str
    protocol: Protocol
    language: LanguageCode
    window: int
    lock: Lock

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
            except IsoglossError as error:
                answers[number] = Answer(error=str(error))
        items = with_shared_passages(items)
        for numbers in batches(items):
            with self.model.using(self.digest):
                batch = [items[number] for number in numbers]
                predictions = predict(self.model, batch, self.protocol, task="")
            for number, prediction in zip(numbers, predictions, strict=True):
                answers[number] = answer_of(prediction, rows[number]["options"])
        return answers

    def _item(self, number: int, row: Row) -> Item:
        """Return the item of a row as prompts show it; IsoglossError if it cannot be presented."""
        most_options = answer_parser.MOST_OPTIONS if self.protocol.generates else MOST_OPTIONS
        item = row_item(number, row, self.language, most_options)
        worded = languages_with_wording()
        if self.protocol.prompt_language == PromptLanguage.TARGET and item.language not in worded:
            raise DataError(
                f"language {item.language!r} has no wording for prompts; expected one of "
                f"{', '.join(worded)}."
            )
        (item,) = as_shown([item], self.protocol.prompt_language, None)
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
    )


def locate_base(name: str, revision: str) -> ModelLocation:
    """Locate the base model that an adapter was trained on.

    A model of the Hub is located at that revision, even if newer ones exist. The revision of local
    files is their digest. Raises ModelError if the model is missing or at another revision.
    """
    local = name == EMBEDDED or Path(name).expanduser().exists()
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


def answer_of(prediction: Prediction, options: Sequence[str]) -> Answer:
    """Return a prediction as an answer among these options."""
    choice = prediction.prediction
    logprob_C = np.array(prediction.choice_logprobs)
    probability_C = np.exp(logprob_C - np.logaddexp.reduce(logprob_C))
    return Answer(
        choice,
        str(options[choice]) if choice >= 0 else None,
        tuple(probability_C.tolist()),
        prediction.valid,
    )


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
            "error": pd.Series([answer.error for answer in answers], dtype=object),
        }
    )
