"""Reading: rows of a request in, answers out, under one adapter on its base model.

This is the model that MLflow stores for an adapter (serving.py hands it over). A row is asked as
`evaluate` asks an item; one that cannot be asked gets an error, and no other row is the worse for
it.
"""

import string
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array

from isogloss.errors import DataError, IsoglossError, ModelError
from isogloss.inference.context_window import fit
from isogloss.inference.predict import predict
from isogloss.languages import language as known_language
from isogloss.models.adapters import attach
from isogloss.models.loading import load
from isogloss.models.locate import EMBEDDED, ModelLocation, locate
from isogloss.predictions.table import Prediction
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import as_shown
from isogloss.prompts.wording import languages as worded
from isogloss.tasks import Item
from isogloss.tasks.checks import FEWEST_OPTIONS

MOST_OPTIONS = len(string.ascii_uppercase)  # one letter each
# Bounds on memory, of what is prepared at once and of the questions that share a passage.
ROWS_AT_ONCE = 2048
SHARED = 16
# Of any type, because MLflow refuses a whole batch for one value of another type than it expects.
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(AnyType(), "passage"),
            ColSpec(AnyType(), "question"),
            ColSpec(AnyType(), "options"),
            ColSpec(AnyType(), "language", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.long, "choice"),
            ColSpec(DataType.string, "answer", required=False),
            ColSpec(Array(DataType.double), "probabilities"),
            ColSpec(DataType.boolean, "valid"),
            ColSpec(DataType.string, "error", required=False),
        ]
    ),
)
EXAMPLE = [
    {
        "passage": "The library opens on Monday. The museum opens on Friday.",
        "question": "When does the museum open?",
        "options": ["Sunday", "Friday", "Monday", "Tuesday"],
        "language": "eng_Latn",
    },
    {
        "passage": "تفتح المكتبة يوم الاثنين. يفتح المتحف يوم الجمعة.",
        "question": "متى تفتح المكتبة؟",
        "options": ["الأحد", "الجمعة", "الاثنين", "الثلاثاء"],
        "language": "arb_Arab",
    },
]


@dataclass(frozen=True)
class Answer:
    """A row of output.

    `choice` is an index into the row's options, -1 for none, and `answer` that option's text.
    `probabilities` are those of the options as the model's continuations, normalised over them.
    `valid` says whether the model's own answer is one of them. `error` says why a row was not
    asked; it has no probabilities then.
    """

    choice: int = -1
    answer: str | None = None
    probabilities: tuple[float, ...] = ()
    valid: bool = False
    error: str | None = None


class AdapterModel(PythonModel):  # type: ignore[misc]
    """Answers multiple-choice questions on passages with one adapter on its base model."""

    def load_context(self, context: Any) -> None:
        """Load the base model by name and revision, and the adapter beside it.

        Raises ModelError if the base cannot be found or is at another revision.
        """
        settings = context.model_config
        self.language = settings["trained_language"]
        self.protocol = Protocol.from_dict(settings["protocol"])
        location = find_base(settings["base_model"], settings["base_revision"])
        self.model = load(
            location,
            settings["base_dtype"],
            settings.get("base_attention", "auto"),
            settings.get("base_device_map", "none"),
        )
        self.digest = attach(self.model, Path(context.artifacts["adapter"]))
        self.window = settings["window"]
        # A server answers requests in threads, and scoring hooks into the one network there is.
        self.lock = Lock()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Answers in the order of the rows, one column a field of Answer."""
        rows = model_input.to_dict("records")
        with self.lock:
            return table(self._answers(rows))

    def _answers(self, rows: list[Any]) -> list[Answer]:
        answers = [Answer()] * len(rows)
        items: dict[int, Item] = {}
        for number, row in enumerate(rows):
            try:
                items[number] = self._item(number, row)
            except IsoglossError as error:
                answers[number] = Answer(error=str(error))
        items = passages_shared(items)
        for numbers in batches(items):
            asked = [items[number] for number in numbers]
            with self.model.using(self.digest):
                predictions = predict(self.model, asked, self.protocol, task="")
            for number, prediction in zip(numbers, predictions, strict=True):
                answers[number] = answered(prediction, rows[number]["options"])
        return answers

    def _item(self, number: int, row: Mapping[str, Any]) -> Item:
        """A row as it is shown to the model; IsoglossError if it cannot be."""
        given = read_row(number, row, self.language)
        if self.protocol.prompt_language == "target" and given.language not in worded():
            raise DataError(
                f"language {given.language!r} has no wording for prompts; expected one of "
                f"{', '.join(worded())}."
            )
        (item,) = as_shown([given], self.protocol.prompt_language, None)
        try:
            fit([item], self.model.tokenizer, self.protocol, self.window, "refuse")
        except DataError:
            raise DataError(
                f"passage, question and options must fit the model's context window of "
                f"{self.window:,} tokens but are longer."
            ) from None
        return item


def find_base(name: str, revision: str) -> ModelLocation:
    """The base model that an adapter was trained on; ModelError if it is not there.

    From the Hub it is that revision, whatever has come since; the files of another model are
    compared with it.
    """
    local = name == EMBEDDED or Path(name).expanduser().exists()
    location = locate(name if local else f"{name}@{revision}")
    if location.revision != revision:
        raise ModelError(
            f"model {name!r} is at {location.revision}, but the adapter was trained on {revision}."
        )
    return location


def read_row(number: int, row: Mapping[str, Any], language: str) -> Item:
    """The item of a row, its texts as they stand, in `language` if it names none.

    Raises DataError, or ConfigError for the language, that names the field and what it must be.
    """
    code = row.get("language")
    return Item(
        item_id=str(number),
        passage_id=str(number),
        language=language if _absent(code) else known_language(_text("language", code)).code,
        passage=_text("passage", row.get("passage"), empty=True),
        question=_text("question", row.get("question")),
        options=_options(row.get("options")),
        answer=0,  # not known, and nothing that is answered depends on it
    )


def passages_shared(items: Mapping[int, Item]) -> dict[int, Item]:
    """Items by row, those of one language and passage with one passage_id, up to SHARED of them."""
    met: Counter[tuple[str, str]] = Counter()
    shared = {}
    for number, item in items.items():
        passage = item.language, item.passage
        # What has no passage in common could be a tree of any size.
        alike = f"{item.passage}/{met[passage] // SHARED}" if item.passage.strip() else str(number)
        met[passage] += 1
        shared[number] = replace(item, passage_id=alike)
    return shared


def batches(items: Mapping[int, Item]) -> Iterator[list[int]]:
    """Numbers of the rows that are put to the model at once: those of a language.

    So does `evaluate`, and in bfloat16, where rounding depends on what is computed together, the
    items of a language give the same numbers to the last bit.
    """
    by_language: dict[str, list[int]] = defaultdict(list)
    for number, item in items.items():
        by_language[item.language].append(number)
    for numbers in by_language.values():
        for start in range(0, len(numbers), ROWS_AT_ONCE):
            yield numbers[start : start + ROWS_AT_ONCE]


def answered(prediction: Prediction, options: Sequence[str]) -> Answer:
    """The answer that a prediction about these options is."""
    choice = prediction.prediction
    logprob_C = np.array(prediction.choice_logprobs)
    probability_C = np.exp(logprob_C - np.logaddexp.reduce(logprob_C))
    return Answer(
        choice,
        str(options[choice]) if choice >= 0 else None,
        tuple(probability_C.tolist()),
        prediction.valid,
    )


def table(answers: Sequence[Answer]) -> pd.DataFrame:
    """The answers with one column a field; what is absent is None, which JSON has as null."""
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


def _options(value: Any) -> tuple[str, ...]:
    expected = f"a list of {FEWEST_OPTIONS} to {MOST_OPTIONS} texts"
    if not isinstance(value, list | tuple | np.ndarray):
        raise DataError(f"options must be {expected} but is {_shown(value)}.")
    if not FEWEST_OPTIONS <= len(value) <= MOST_OPTIONS:
        raise DataError(f"options must be {expected} but has {len(value)}.")
    return tuple(_text(f"options[{place}]", option) for place, option in enumerate(value))


def _text(field: str, value: Any, *, empty: bool = False) -> str:
    """The value, if it is text; DataError if it is none, or has nothing in it unless `empty`."""
    expected = "text, empty where there is none," if empty else "text"
    if not isinstance(value, str) or not (empty or value.strip()):
        raise DataError(f"{field} must be {expected} but is {_shown(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{field} must be text but holds half of a surrogate pair.") from None
    return value


def _absent(value: Any) -> bool:
    """Whether a row has no such value: pandas puts NaN where JSON had null or no key."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _shown(value: Any) -> str:
    if _absent(value):
        return "missing"
    if isinstance(value, str) and not value.strip():
        return "empty"
    return f"{value!r:.60}"
