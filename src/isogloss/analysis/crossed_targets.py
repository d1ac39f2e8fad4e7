"""The targets of a crossed design: which languages they are, their gains and their kinship.

Shapes are suffixes: S sources, T targets, L languages.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy, RunWeights, head, varieties_together
from isogloss.analysis.gains import gains_by_measure
from isogloss.languages import group
from isogloss.types import FloatArray, Group, Measure


@dataclass(frozen=True)
class CrossedCell:
    """The gain of one target from one source, averaged over seeds, and over models or of one."""

    source: str
    target: str
    gain: float
    related: bool


@dataclass(frozen=True)
class CrossedTargets:
    """Targets of a crossed design: places in `languages` of the varieties of each, [T]."""

    languages: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    codes: tuple[str, ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, study: AlignedStudy, sources: Sequence[str]) -> "CrossedTargets":
        """The languages of a study but the sources and their varieties."""
        languages = study.scores.languages
        own = [
            any(group(code, source) in (Group.SOURCE, Group.VARIETY) for source in sources)
            for code in languages
        ]
        groups = [Group.SOURCE if left_out else Group.CONTROL for left_out in own]
        members = tuple(
            places
            for places in varieties_together(languages, groups)
            if groups[places[0]] == Group.CONTROL
        )
        return cls(
            languages,
            members,
            tuple(head([languages[place] for place in places]) for places in members),
            tuple(code for code, left_out in zip(languages, own, strict=True) if left_out),
        )

    def mean(self, value_L: FloatArray) -> FloatArray:
        """Means over the varieties of each target, [T]."""
        return np.array([value_L[list(places)].mean() for places in self.members])

    def dyads(self, sources: Sequence[str], value: Callable[[str, str], float]) -> FloatArray:
        """A value of each source and target, [S, T]."""
        return np.stack(
            [
                self.mean(np.array([float(value(source, code)) for code in self.languages]))
                for source in sources
            ]
        )

    def gains(
        self,
        study: AlignedStudy,
        models: Sequence[str],
        sources: Sequence[str],
        value_KL: FloatArray | None = None,
    ) -> FloatArray:
        """Gains averaged over the seeds of each model and over models, [S, T].

        They are changes of `value_KL`, the value of each run in each language: by default accuracy.
        """
        values = study.scores.accuracy if value_KL is None else value_KL
        return np.stack(
            [self.mean(_weights(study, models, source).change(values)) for source in sources]
        )

    def gains_by_measure(
        self, study: AlignedStudy, models: Sequence[str], sources: Sequence[str]
    ) -> dict[Measure, FloatArray]:
        """Gains averaged over the seeds of each model and over models, [S, T] of each measure."""
        by_source = [
            gains_by_measure(study.scores, _weights(study, models, source)) for source in sources
        ]
        return {
            measure: np.stack([self.mean(gains[measure]) for gains in by_source])
            for measure in by_source[0]
        }

    def cells(
        self, sources: Sequence[str], gain_ST: FloatArray, kin_ST: FloatArray
    ) -> tuple[CrossedCell, ...]:
        """The cells of a table of gains, source by source."""
        return tuple(
            CrossedCell(source, target, float(gain_ST[row, column]), bool(kin_ST[row, column]))
            for row, source in enumerate(sources)
            for column, target in enumerate(self.codes)
        )

    def kinship(self, study: AlignedStudy, sources: Sequence[str]) -> FloatArray:
        """1 where a target is related to a source, else 0, [S, T].

        The branch of the spec defines the relatives of the source of the spec alone.
        """

        def related(source: str, code: str) -> float:
            branch = study.spec.branch if source == study.spec.source else None
            return float(group(code, source, branch) == Group.RELATED)

        # Varieties of one language are of one branch.
        return np.array([[related(source, code) for code in self.codes] for source in sources])


def _weights(study: AlignedStudy, models: Sequence[str], source: str) -> RunWeights:
    return RunWeights(
        before=study.mean_weights(models, study.spec.against, source),
        after=study.mean_weights(models, study.spec.condition, source),
    )
