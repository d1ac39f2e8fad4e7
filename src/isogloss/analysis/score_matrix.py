"""Scores: the correctness of several runs on the same items, as arrays.

Shapes are suffixes: K runs, N rows (an item in a language), L languages, P passages.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.predictions.table import DOCUMENT_DIGEST, PROMPT_DIGEST, REQUIRED_COLUMNS
from isogloss.stats.item_response import fit_abilities
from isogloss.types import Condition, FloatArray

# Columns of predictions.parquet that a comparison reads.
OPTIONAL = ("answer", "valid", "greedy", "forced", "gold_logprob", "tokens", "words")
COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL, "choice_logprobs", DOCUMENT_DIGEST, PROMPT_DIGEST)


class RunKey(NamedTuple):
    """Identifies one table of predictions.

    `source` is empty without an adapter. `seed`, that of training or of sampling, separates
    replicates; it is empty where unknown.
    """

    model: str
    condition: Condition
    source: str = ""
    seed: str = ""

    def __str__(self) -> str:
        """The name in messages and reports: `m, tuned on arb_Arab, seed 0`."""
        source = f" on {self.source}" if self.source else ""
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{self.model}, {self.condition}{source}{seed}"


class RunAbilities(NamedTuple):
    """Ability of each run in each language, [K, L], in logits; and what each answer adds, [K, N].

    See `stats.item_response`.
    """

    ability: FloatArray
    influence: FloatArray


@dataclass(frozen=True)
class Scores:
    """Scores of K runs on N rows, ordered by language and item.

    `row_language`, `row_passage` and `row_item` are indices into `languages` and into the passages
    and items, which all languages share. Score arrays are [K, N] and None where a run did not
    record them: `valid` is whether the answer was one of the choices, `free` whether the answer as
    given was right, `forced` whether the likeliest choice was right. `fertility`, [L], is the mean
    over runs of tokens per word, or per item (`per_word` false) where a language is written without
    spaces. `chance` is the accuracy of guessing, None where items have no choices.
    """

    task: str
    format: str
    runs: tuple[RunKey, ...]
    languages: tuple[str, ...]
    row_language: npt.NDArray[np.intp]
    row_passage: npt.NDArray[np.intp]
    row_item: npt.NDArray[np.intp]
    correct: FloatArray
    valid: FloatArray | None
    free: FloatArray | None
    forced: FloatArray | None
    gold_logprob: FloatArray | None
    fertility: FloatArray | None
    per_word: bool
    chance: float | None

    @cached_property
    def slices(self) -> list[slice]:
        """The rows of each language."""
        ends = np.searchsorted(self.row_language, np.arange(len(self.languages) + 1))
        return [slice(int(start), int(end)) for start, end in pairwise(ends)]

    @cached_property
    def counts(self) -> FloatArray:
        """Number of items of each passage in each language, [P, L]."""
        return self.by_passage(np.ones(len(self.row_language)))

    @cached_property
    def accuracy(self) -> FloatArray:
        """Accuracy of each run in each language, [K, L]."""
        return np.stack([self.correct[:, rows].mean(axis=1) for rows in self.slices], axis=1)

    @cached_property
    def abilities(self) -> RunAbilities:
        """Abilities from the answers of each model, whose runs and languages share its items.

        Guessing is the accuracy of chance, zero where that is unknown.
        """
        n_languages, n_items = len(self.languages), int(self.row_item.max()) + 1
        ability_KL = np.empty((len(self.runs), n_languages))
        influence_KN = np.empty_like(self.correct)
        for model in dict.fromkeys(run.model for run in self.runs):
            own = [place for place, run in enumerate(self.runs) if run.model == model]
            correct_KLI = np.full((len(own), n_languages, n_items), np.nan)
            correct_KLI[:, self.row_language, self.row_item] = self.correct[own]
            fit = fit_abilities(correct_KLI.reshape(-1, n_items), self.chance or 0.0)
            ability_KL[own] = fit.ability.reshape(len(own), n_languages)
            influence_KLI = fit.influence.reshape(correct_KLI.shape)
            influence_KN[own] = influence_KLI[:, self.row_language, self.row_item]
        return RunAbilities(ability_KL, influence_KN)

    def by_passage(self, value_N: npt.ArrayLike) -> FloatArray:
        """Sums of `value_N` over the items of each passage in each language, [P, L]."""
        n_passages, n_languages = int(self.row_passage.max()) + 1, len(self.languages)
        index_N = self.row_passage * n_languages + self.row_language
        sums: FloatArray = np.bincount(
            index_N, np.asarray(value_N, dtype=np.float64), n_passages * n_languages
        ).astype(np.float64)
        return sums.reshape(n_passages, n_languages)


def first_few(names: Iterable[object]) -> str:
    """The first three names, and how many more there are."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(texts[:3]) + more
