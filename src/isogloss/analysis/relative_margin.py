"""An equivalence margin that is a percentage of the mean gain."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.crossed_targets import CrossedTargets
from isogloss.analysis.passage_shares import passage_shares
from isogloss.errors import ConfigError
from isogloss.stats.margins import ACCEPTED, is_percentage, share_of_gain
from isogloss.stats.permutation import ALPHA
from isogloss.stats.two_way import TwoWayMean, two_way_mean
from isogloss.types import Group

NO_MARGIN = 1e-9  # nothing is equal to within it


@dataclass(frozen=True)
class RelativeMargin:
    """A margin of a `share` of the mean `gain`.

    The gain is the mean over languages, over the `sources` of the study (none where nothing is
    tuned) and over models, whatever is related to what.
    """

    share: float
    gain: TwoWayMean
    sources: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the mean gain differs from zero; otherwise there is nothing to be relative to."""
        return self.gain.p <= ALPHA

    @property
    def value(self) -> float:
        """The margin as a fraction of accuracy; `NO_MARGIN` where the gain may be zero."""
        return max(self.share * abs(self.gain.estimate), NO_MARGIN) if self.differs else NO_MARGIN


def margin_share(margin: float | str) -> float | None:
    """The share of the mean gain of a margin such as `20%`; None for a fraction of accuracy.

    ConfigError for a margin that is neither.
    """
    if is_percentage(margin):
        try:
            return share_of_gain(str(margin))
        except ValueError as error:
            raise ConfigError(f"`margin`: {error}.") from error
    if isinstance(margin, str):
        raise ConfigError(f"`margin` must be {ACCEPTED}, but got {margin!r}.")
    if margin >= 1:
        raise ConfigError(
            f"`margin` must be below 1 (a fraction: 0.03 is three points) but got {margin}."
        )
    return None


def relative_margin(study: AlignedStudy, share: float) -> RelativeMargin:
    """The margin of a share of the mean gain of a study.

    Each source counts once, with the models that have both conditions for it. Languages are those
    of the contrast or, with several sources, all but the sources and their varieties.
    """
    models = {source: _models(study, source) for source in _sources(study)}
    sources = tuple(source for source, own in models.items() if own)
    languages = _without(study, sources) if len(sources) > 1 else study
    shares = [
        passage_shares(replace(languages, spec=replace(study.spec, source=source)), models[source])
        for source in sources
    ] or [passage_shares(study, study.models)]
    gain_PT = np.mean([own.scores["gain"] for own in shares], axis=0)
    return RelativeMargin(share, two_way_mean(gain_PT, shares[0].weight), sources)


def _sources(study: AlignedStudy) -> list[str]:
    return sorted({run.source for run in study.scores.runs} - {""})


def _models(study: AlignedStudy, source: str) -> list[str]:
    """The models with runs of both conditions for a source; none if neither is of the source."""
    conditions = (study.spec.condition, study.spec.against)
    tuned = any(condition.tuned for condition in conditions)
    return [
        model
        for model in study.models
        if tuned and all(study.runs_matching(model, each, source) for each in conditions)
    ]


def _without(study: AlignedStudy, sources: Sequence[str]) -> AlignedStudy:
    """The study with every language in the contrast but the sources and their varieties."""
    left_out = CrossedTargets.of(study, sources).left_out
    groups = (
        Group.SOURCE if code in left_out else Group.CONTROL for code in study.scores.languages
    )
    return replace(study, groups=tuple(groups))
