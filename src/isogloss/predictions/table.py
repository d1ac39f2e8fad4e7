"""Predictions: one row an item, and what is measured from them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd


@dataclass(frozen=True)
class Prediction:
    """What a model made of one item; a row of predictions.parquet.

    Choices are indices of options, in the order in which they were shown. `forced` is the likeliest
    choice, whatever the model would have said; `greedy` is the choice that it says, by greedy
    decoding or in generated text, and -1 if that is none of them. `prediction`, which `correct` is
    about, is `greedy` in `generate` format and `forced` in the others; `valid` says whether there
    is a `greedy` one.

    `choice_logprobs` are the log-likelihoods (nats, summed over tokens) of the choices as
    continuations of the prompt, after the reasoning if there was any; `unconditional_logprobs`
    those of the options without passage and question, None where they were not asked for.
    `gold_logprob` is that of the gold choice, normalised over the choices. `format_mass` is the
    next-token probability of all choice letters together; None where the format has no letters.
    `text` is what was generated; None where nothing was. `tokens` counts the passage (the question,
    where there is no passage), `words` its words between spaces, `prompt_tokens` all that the model
    read. `shortened` says that the passage was cut to fit.
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


def frame(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """The predictions as a table with one column a field."""
    return pd.DataFrame([asdict(prediction) for prediction in predictions])
