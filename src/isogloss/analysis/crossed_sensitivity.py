"""What the effect of kinship rests on: without each branch of sources, and on other measures.

Shapes are suffixes: S sources, T targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isogloss.errors import ComparisonError
from isogloss.stats.crossed import ALPHA, CrossedEffect, crossed_effect
from isogloss.types import FloatArray, Measure, Verdict

MIN_RELATED_BRANCHES = 4  # of sources with relatives: 24 matchings, so that p can be below 0.05


@dataclass(frozen=True)
class EffectWithout:
    """The effect of kinship without the sources of one branch; its relatives stay targets."""

    branch: str
    sources: tuple[str, ...]
    effect: CrossedEffect

    @property
    def verdict(self) -> Verdict | None:
        """The verdict of the other sources; None where they are too few for one."""
        return verdict_on_kinship(self.effect)


def verdict_on_kinship(effect: CrossedEffect) -> Verdict | None:
    """The verdict; None with fewer than four branches with relatives, or too few matchings."""
    enough = effect.n_related_branches >= MIN_RELATED_BRANCHES and effect.lowest_p <= ALPHA
    return effect.verdict if enough else None


def effects_without(
    gain_ST: FloatArray,
    kin_ST: FloatArray,
    sources: Sequence[str],
    branches: Sequence[str],
    margin: float,
    seed: int,
) -> tuple[EffectWithout, ...]:
    """The effect without each branch of sources in turn, where the others still have one."""
    results = []
    for left_out in dict.fromkeys(branches):
        kept = [place for place, branch in enumerate(branches) if branch != left_out]
        try:
            effect = crossed_effect(
                gain_ST[kept], kin_ST[kept], [branches[place] for place in kept], margin, seed=seed
            )
        except ComparisonError:
            continue
        own = tuple(
            code for code, branch in zip(sources, branches, strict=True) if branch == left_out
        )
        results.append(EffectWithout(left_out, own, effect))
    return tuple(results)


def effects_on_measures(
    gains: Mapping[Measure, FloatArray], kin_ST: FloatArray, branches: Sequence[str], seed: int
) -> dict[Measure, CrossedEffect]:
    """The effect in log-odds of accuracy and in log-probability, in logits and nats.

    They have no margin. Ability is an analysis of its own (`CrossedComparison.ability`).
    """
    results: dict[Measure, CrossedEffect] = {}
    for measure, gain_ST in gains.items():
        if measure in (Measure.ACCURACY, Measure.ABILITY):
            continue
        try:
            results[measure] = crossed_effect(gain_ST, kin_ST, branches, seed=seed)
        except ComparisonError:
            continue
    return results
