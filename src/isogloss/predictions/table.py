"""Predictions: one row per item, as in predictions.parquet."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import pandas as pd


@dataclass(frozen=True)
class Prediction:
    """A model's answer to one item; a row of predictions.parquet.

    Choices are indices of options in the order in which they were shown. `forced` is the most
    likely choice. `greedy` is the model's own answer, by greedy decoding or in generated text, and
    -1 if that is not a choice; `valid` says whether it is one. `prediction` is `greedy` in
    `generate` format and `forced` in the others; `correct` compares it with `answer`.

    `choice_logprobs` are the log-likelihoods (nats, summed over tokens) of the choices as
    continuations of the prompt, after the reasoning if there is any. `unconditional_logprobs` are
    those of the options without passage and question, None unless the normalisation needs them.
    `gold_logprob` is that of the correct choice, normalised over the choices. `format_mass` is the
    total next-token probability of the choice letters, None in a format without letters. `text` is
    the generated text, None in a format without it.

    `bounded` says that an inference server left out a choice that is not among its most likely
    tokens; `choice_logprobs` then has the highest value that it can have.

    `tokens` and `words` count the passage, or the question of an item without a passage;
    `prompt_tokens` counts the whole prompt. `shortened` says whether the passage was cut to fit.
    """

    task: str
    language: str
    format: str
    item_id: str
    passage_id: str
    answer: int
    prediction: int
    correct: bool
    valid: bool
    forced: int
    greedy: int
    choice_logprobs: list[float]
    unconditional_logprobs: list[float] | None
    gold_logprob: float
    format_mass: float | None
    text: str | None
    tokens: int
    words: int
    prompt_tokens: int
    shortened: bool
    bounded: bool = False


BOUNDED = "bounded"  # a column of predictions from servers alone
COLUMNS = tuple(field.name for field in fields(Prediction) if field.name != BOUNDED)
OF_SCORES = ("forced", "choice_logprobs", "unconditional_logprobs", "gold_logprob", "format_mass")
# Imported predictions may lack all others.
REQUIRED_COLUMNS = ("task", "format", "language", "item_id", "passage_id", "correct")
# Of imported predictions alone: what was asked, as short hashes.
DOCUMENT_DIGEST, PROMPT_DIGEST = "document_digest", "prompt_digest"


def frame(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Return the predictions as a table with one column per field.

    Without `bounded` where nothing is, as in process, and without OF_SCORES where no prediction has
    log-likelihoods, as from a server that tells none.
    """
    table = pd.DataFrame([asdict(prediction) for prediction in predictions])
    absent = [] if any(prediction.bounded for prediction in predictions) else [BOUNDED]
    if not any(prediction.choice_logprobs for prediction in predictions):
        absent += OF_SCORES
    return table.drop(columns=absent, errors="ignore")
