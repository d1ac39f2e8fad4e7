"""Whether anything was learnt: without that there is nothing that languages could share or lack."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.passage_shares import PassageShares, passage_shares
from isogloss.stats.permutation import ALPHA
from isogloss.stats.two_way import TwoWayMean, two_way_mean
from isogloss.types import Condition, FloatArray

LARGEST_MARGIN = 0.5  # of the mean gain: equal to within more than this says little


class Obstacle(StrEnum):
    """Why there is nothing to compare."""

    AT_CHANCE = "accuracy is not above chance"
    EVERYONE_RIGHT = "almost everything was right before and after"
    NO_GAIN = "the mean gain does not differ from zero"
    LARGE_MARGIN = "the margin is not small beside the mean gain"


@dataclass(frozen=True)
class Learning:
    """Means over the languages in the contrast: accuracy before and after, and the gain.

    Languages and passages are taken as samples; models (`label`) are not.
    """

    label: str
    before: TwoWayMean
    after: TwoWayMean
    gain: TwoWayMean

    def obstacle(self, chance: float | None, margin: float, tests: int = 1) -> Obstacle | None:
        """Why nothing can be said of this gain, if so; see `Obstacle`.

        Accuracy is at chance if neither mean is above it at 2.5%; almost everything was right if
        both leave less room than the margin; p of the gain is multiplied by `tests`. The margin
        is judged last, since it matters to claims of equality alone.
        """
        means = (self.before, self.after)
        if chance is not None and all(mean.p_beyond(chance) > ALPHA / 2 for mean in means):
            return Obstacle.AT_CHANCE
        if all(1 - mean.estimate < margin for mean in means):
            return Obstacle.EVERYONE_RIGHT
        if tests * self.gain.p > ALPHA:
            return Obstacle.NO_GAIN
        if margin > LARGEST_MARGIN * abs(self.gain.estimate):
            return Obstacle.LARGE_MARGIN
        return None


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


def source_learning(study: AlignedStudy) -> tuple[Learning, ...]:
    """What was learnt from each source, over the languages in the contrast of the first."""
    condition = study.spec.condition
    of_source = []
    for source in sorted({run.source for run in study.scores.runs} - {""}):
        models = [model for model in study.models if study.runs_matching(model, condition, source)]
        if models:
            own = replace(study, spec=replace(study.spec, source=source))
            of_source.append(learning(own, models, source))
    return tuple(of_source)


def _mean(shares: PassageShares, value_PT: FloatArray) -> TwoWayMean:
    return two_way_mean(value_PT, shares.weight)
