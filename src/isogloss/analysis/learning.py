"""Whether anything was learnt: without that there is nothing that languages could share or lack."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.crossed import CrossedComparison
from isogloss.analysis.passage_shares import PassageShares, passage_shares
from isogloss.stats.margins import LARGEST_MARGIN
from isogloss.stats.permutation import ALPHA
from isogloss.stats.two_way import TwoWayMean, two_way_mean
from isogloss.types import Condition, FloatArray, Group


class Obstacle(StrEnum):
    """Why there is nothing to compare."""

    AT_CHANCE = "accuracy is not above chance"
    TOO_FEW_ITEMS = "too few items to tell accuracy from chance"
    EVERYONE_RIGHT = "almost everything was right before and after"
    NO_GAIN = "the mean gain does not differ from zero"
    LARGE_MARGIN = "the margin is not small beside the mean gain"
    FEW_SOURCES = "something was learnt from too few sources"  # to call their gains equal


@dataclass(frozen=True)
class Learning:
    """Means over languages: accuracy before and after, and the gain.

    Languages and passages are taken as samples; the models or the source (`label`) are not.
    """

    label: str
    before: TwoWayMean
    after: TwoWayMean
    gain: TwoWayMean

    def obstacle(self, chance: float | None, margin: float, tests: int = 1) -> Obstacle | None:
        """Why nothing can be said of this gain, if so; see `Obstacle`.

        Accuracy is at chance if neither mean is above it at 2.5%; if one of them exceeds it by more
        than the margin all the same, items are too few. Almost everything was right if both leave
        less room than the margin; p of the gain is multiplied by `tests`. The margin is judged
        last, since it matters to claims of equality alone.
        """
        means = (self.before, self.after)
        if chance is not None and all(mean.p_beyond(chance) > ALPHA / 2 for mean in means):
            seen = any(mean.estimate - chance > margin for mean in means)
            return Obstacle.TOO_FEW_ITEMS if seen else Obstacle.AT_CHANCE
        if all(1 - mean.estimate < margin for mean in means):
            return Obstacle.EVERYONE_RIGHT
        if tests * self.gain.p > ALPHA:
            return Obstacle.NO_GAIN
        if margin > LARGEST_MARGIN * abs(self.gain.estimate):
            return Obstacle.LARGE_MARGIN
        return None


@dataclass(frozen=True)
class Grounds:
    """Why there is nothing to compare: the obstacle, and the gain that it was found in.

    That gain is one of `tests`, of sources or models, that were asked at once; `affected` of them
    have the obstacle (`FEW_SOURCES`: taught nothing).
    """

    obstacle: Obstacle
    learnt: Learning
    tests: int = 1
    affected: int = 1


def learning(
    study: AlignedStudy,
    models: Sequence[str],
    label: str,
    condition: Condition | None = None,
) -> Learning:
    """What models learnt in a condition, by default that of the study, on average."""
    against = None if condition is None else Condition.BASE
    shares = passage_shares(study, models, condition, against)
    return Learning(
        label,
        before=_mean(shares, shares.scores["before"]),
        after=_mean(shares, shares.scores["before"] + shares.scores["gain"]),
        gain=_mean(shares, shares.scores["gain"]),
    )


def source_learning(study: AlignedStudy, crossed: CrossedComparison) -> tuple[Learning, ...]:
    """What was learnt from each source of a crossed design, over its targets and models."""
    targets = replace(
        study,
        groups=tuple(
            Group.SOURCE if code in crossed.left_out else Group.CONTROL
            for code in study.scores.languages
        ),
    )
    return tuple(
        learning(
            replace(targets, spec=replace(study.spec, source=source.code)),
            crossed.averaged_models,
            source.name,
        )
        for source in crossed.sources
    )


def _mean(shares: PassageShares, value_PT: FloatArray) -> TwoWayMean:
    return two_way_mean(value_PT, shares.weight)
