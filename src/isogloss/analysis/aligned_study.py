"""What a comparison asks, the aligned scores it asks it of, and weights that average over runs.

Shapes are suffixes: K runs, L languages, T languages in the contrast (related and control), where
varieties of one language are one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from isogloss.analysis.score_matrix import Scores
from isogloss.errors import ComparisonError
from isogloss.languages import group, language, source_branch, source_name
from isogloss.types import BoolArray, Condition, FloatArray, Group


@dataclass(frozen=True)
class ComparisonSpec:
    """Which condition is compared with which, for what source and branch.

    `branch` defines the related languages (None: the source's own branch), `margin` is the
    equivalence margin as a fraction, `seed` that of Monte Carlo permutations.
    """

    source: str
    branch: str | None = None
    condition: Condition = Condition.TUNED
    against: Condition = Condition.BASE
    margin: float = 0.03
    seed: int = 0


@dataclass(frozen=True)
class AlignedStudy:
    """Scores of several models, the group of each language [L], and what to compare."""

    scores: Scores
    models: tuple[str, ...]
    groups: tuple[Group, ...]
    spec: ComparisonSpec

    @cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Places in `scores.languages` of the varieties of each language in the contrast, [T]."""
        return tuple(
            places
            for places in varieties_together(self.scores.languages, self.groups)
            if self.groups[places[0]] in (Group.RELATED, Group.CONTROL)
        )

    @cached_property
    def related(self) -> BoolArray:
        """Which of the languages in the contrast are related, [T]."""
        return np.array([self.groups[places[0]] == Group.RELATED for places in self.members])

    @cached_property
    def codes(self) -> list[str]:
        """Codes of the languages in the contrast, [T]; see `head`."""
        return [head([self.scores.languages[place] for place in places]) for places in self.members]

    def in_contrast(self, value_XL: FloatArray) -> FloatArray:
        """The mean over the varieties of each language in the contrast, [..., T] of [..., L].

        Varieties and scripts of one language are not independent of each other, so they count once.
        """
        means = [value_XL[..., list(places)].mean(axis=-1) for places in self.members]
        return np.stack(means, axis=-1)

    def runs_matching(
        self, model: str, condition: Condition, source: str | None = None
    ) -> list[int]:
        """Indices of a model's runs in a condition; those with an adapter must be of the source.

        `source` replaces the source of the spec.
        """
        sources = ("", source or self.spec.source)
        return [
            index
            for index, run in enumerate(self.scores.runs)
            if (run.model, run.condition) == (model, condition) and run.source in sources
        ]

    def mean_weights(
        self, models: Sequence[str], condition: Condition, source: str | None = None
    ) -> FloatArray:
        """Weights over runs, [K], of the mean over models; a model's seeds share its weight."""
        weight_K = np.zeros(len(self.scores.runs))
        for model in models:
            runs = self.runs_matching(model, condition, source)
            weight_K[runs] = 1 / len(runs) / len(models)
        return weight_K

    def run_weights(
        self,
        models: Sequence[str] | None = None,
        condition: Condition | None = None,
        against: Condition | None = None,
    ) -> "RunWeights":
        """Weights before and after; models and conditions are those of the study by default."""
        models = self.models if models is None else models
        return RunWeights(
            before=self.mean_weights(models, against or self.spec.against),
            after=self.mean_weights(models, condition or self.spec.condition),
        )


class RunWeights(NamedTuple):
    """Weights over runs, [K] each, that sum to 1: of the reference and of the compared condition.

    They average over the seeds of a model, or over models.
    """

    before: FloatArray
    after: FloatArray

    def change(self, values: FloatArray) -> FloatArray:
        """After minus before, of values whose first axis is that of runs."""
        changed: FloatArray = np.tensordot(self.after - self.before, values, axes=1)
        return changed


def varieties_together(
    codes: Sequence[str], groups: Sequence[Group]
) -> tuple[tuple[int, ...], ...]:
    """Places of `codes`: those of varieties and scripts of one language, in one group, together."""
    together: dict[tuple[str, Group], list[int]] = {}
    for place, (code, own) in enumerate(zip(codes, groups, strict=True)):
        together.setdefault((language(code).variety_of or code, own), []).append(place)
    return tuple(map(tuple, together.values()))


def head(codes: Sequence[str]) -> str:
    """The code that stands for varieties of one language: the standard variety, or the first."""
    return next((code for code in codes if language(code).variety_of is None), codes[0])


def language_groups(languages: Sequence[str], spec: ComparisonSpec) -> tuple[Group, ...]:
    """The group of each language; ComparisonError with fewer than 2 related or 2 controls."""
    groups = tuple(group(code, spec.source, spec.branch) for code in languages)
    counted = [groups[places[0]] for places in varieties_together(languages, groups)]
    n_related, n_control = counted.count(Group.RELATED), counted.count(Group.CONTROL)
    if min(n_related, n_control) < 2:
        name, branch = source_name(spec.source), spec.branch or source_branch(spec.source)
        raise ComparisonError(
            f"a relatedness contrast needs at least 2 related and 2 control languages, but of the "
            f"{len(counted)} languages that all runs have {n_related} are related to {name} "
            f"({branch}) and {n_control} are controls; choose other "
            f"runs, source or branch."
        )
    return groups
