"""Gains: two sides of a comparison, language by language, and the contrasts between groups.

A side is a set of weights over runs that sum to 1: one run, the mean of its seeds, or the mean of
several models. Shapes are suffixes: K runs, N rows, L languages, P passages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.analysis.score_matrix import Scores
from isogloss.errors import ComparisonError
from isogloss.languages import group, language
from isogloss.stats.contrasts import Contrast, relatedness_contrast
from isogloss.stats.decomposition import split_gain
from isogloss.stats.paired import holm, paired_gain
from isogloss.types import FloatArray, Group

GROUPS = tuple(Group)


@dataclass(frozen=True)
class LanguageGain:
    """One target language: accuracies, the paired gain and its 95% interval, as fractions.

    `mcnemar_p` is McNemar's exact p where one run is held against one, `p` the larger of it and the
    clustered t's, `holm_p` that p adjusted over the languages. `before_valid` and `after_valid` are
    shares of valid answers, None where validity was not measured; `log_odds_gain` is in logits,
    `gold_logprob_gain` in nats, None where not recorded. `free_gain` is that of answers as given,
    invalid ones being wrong, and the sum of `format_part` and `comprehension_part` (see
    `decomposition`); None where forced and free answers are not known.
    """

    code: str
    name: str
    family: str
    branch: str
    script: str
    group: Group
    n: int
    passages: int
    before: float
    after: float
    gain: float
    se: float
    low: float
    high: float
    mcnemar_p: float
    p: float
    holm_p: float
    before_valid: float | None
    after_valid: float | None
    log_odds_gain: float
    gold_logprob_gain: float | None
    free_gain: float | None
    free_gain_se: float | None
    format_part: float | None
    format_part_se: float | None
    comprehension_part: float | None
    comprehension_part_se: float | None


@dataclass(frozen=True)
class GroupMean:
    """Means over the languages of a group (or over all), each language counting once."""

    languages: int
    before: float
    after: float
    gain: float


@dataclass(frozen=True)
class ConditionGains:
    """One condition against another: of one model, or of the mean over models.

    `languages` are ordered by group (source, variety, related, control), largest gain first;
    `mean` is over all languages. `contrasts` are by measure: `accuracy`, which verdicts
    rest on, `log_odds`, and `gold_logprob` where it was recorded; only `accuracy` has a margin.
    `seeds` are the replicates of the judged condition, `contrast_by_seed` the
    accuracy contrast of each, where there are several.
    """

    label: str
    condition: str
    languages: tuple[LanguageGain, ...]
    mean: GroupMean
    group_means: Mapping[Group, GroupMean]
    contrasts: Mapping[str, Contrast]
    seeds: tuple[str, ...]
    contrast_by_seed: tuple[float, ...]

    def members(self, group: str) -> list[LanguageGain]:
        """The languages of a group, largest gain first."""
        return [row for row in self.languages if row.group == group]

    @property
    def gain_by_code(self) -> dict[str, float]:
        """The gain of each language."""
        return {row.code: row.gain for row in self.languages}


@dataclass(frozen=True)
class ComparisonSpec:
    """What is asked of the scores: which condition against which, for what source and kin.

    `margin` is the equivalence margin as a fraction, `seed` that of Monte Carlo relabelling.
    """

    source: str
    branch: str | None = None
    condition: str = "tuned"
    against: str = "base"
    margin: float = 0.03
    seed: int = 0


class RunWeights(NamedTuple):
    """Weights over runs, [K] each: what is judged (`after`) and what it is held against."""

    before: FloatArray
    after: FloatArray

    def change(self, values: FloatArray) -> FloatArray:
        """After minus before of values whose first axis is that of runs."""
        changed: FloatArray = np.tensordot(self.after - self.before, values, axes=1)
        return changed


def condition_gains(
    scores: Scores,
    models: Sequence[str],
    groups: Sequence[Group],
    spec: ComparisonSpec,
    condition: str | None = None,
) -> ConditionGains:
    """Gains of one condition against another, on average over models; `groups` of each language.

    `condition` takes the place of the spec's own. ComparisonError with fewer than two related
    or two control languages.
    """
    condition = condition or spec.condition
    sides = run_weights(scores, models, spec, condition)
    by_measure = gains_by_measure(scores, sides)
    tested, related = in_contrast(groups), related_in_contrast(groups)
    contrasts = {
        name: relatedness_contrast(
            gain_L[tested],
            related,
            spec.margin if name == "accuracy" else None,
            seed=spec.seed,
        )
        for name, gain_L in by_measure.items()
    }
    replicates = {
        scores.runs[at].seed: at
        for model in models
        for at in runs_matching(scores, model, condition, spec.source)
    }
    by_seed = []
    if len(models) == 1 and len(replicates) > 1:
        share_KL = scores.accuracy
        for _, at in sorted(replicates.items()):
            gain_T = (share_KL[at] - sides.before @ share_KL)[tested]
            by_seed.append(float(gain_T[related].mean() - gain_T[~related].mean()))
    rows = language_gains(scores, sides, groups, by_measure)
    return ConditionGains(
        label=models_label(models),
        condition=condition,
        languages=rows,
        mean=_mean(rows),
        group_means=_group_means(rows),
        contrasts=contrasts,
        seeds=tuple(sorted(replicates)),
        contrast_by_seed=tuple(by_seed),
    )


def models_label(models: Sequence[str]) -> str:
    """What gains on average over models are called."""
    return models[0] if len(models) == 1 else f"mean of {len(models)} models"


def language_groups(languages: Sequence[str], spec: ComparisonSpec) -> list[Group]:
    """The group of each language; ComparisonError if there are too few for a contrast."""
    found = [group(code, spec.source, spec.branch) for code in languages]
    n_related, n_control = found.count(Group.RELATED), found.count(Group.CONTROL)
    if min(n_related, n_control) < 2:
        source = language(spec.source)
        raise ComparisonError(
            f"a relatedness contrast needs at least 2 related and 2 control languages, but of the "
            f"{len(found)} that all runs have {n_related} are related to {source.name} "
            f"({spec.branch or source.branch}) and {n_control} are controls; choose other "
            f"runs, source or branch."
        )
    return found


def in_contrast(groups: Sequence[Group]) -> npt.NDArray[np.bool_]:
    """Which languages are in the contrast, [L]: related and control ones."""
    return np.array([where in (Group.RELATED, Group.CONTROL) for where in groups])


def related_in_contrast(groups: Sequence[Group]) -> npt.NDArray[np.bool_]:
    """Which of the languages in the contrast are related, [T]."""
    return np.array([where == Group.RELATED for where in groups])[in_contrast(groups)]


def runs_matching(scores: Scores, model: str, condition: str, source: str) -> list[int]:
    """Places of the runs of a model in a condition, with an adapter of that source if with one."""
    return [
        at
        for at, run in enumerate(scores.runs)
        if (run.model, run.condition) == (model, condition) and run.source in ("", source)
    ]


def run_weights(
    scores: Scores, models: Sequence[str], spec: ComparisonSpec, condition: str | None = None
) -> RunWeights:
    """The two sides of a spec, or of another condition than its own, over some models.

    Each model counts once, whatever the number of its seeds.
    """
    weights = []
    for name in (spec.against, condition or spec.condition):
        weight_K = np.zeros(len(scores.runs))
        for model in models:
            runs = runs_matching(scores, model, name, spec.source)
            weight_K[runs] = 1 / len(runs) / len(models)
        weights.append(weight_K)
    return RunWeights(*weights)


def gains_by_measure(scores: Scores, sides: RunWeights) -> dict[str, FloatArray]:
    """The gain of each language, [L], by measure: fractions, logits and nats.

    Log-odds are of (right + 0.5) / (items + 1), which is finite where none or all are right
    (Haldane, Anscombe), and are averaged over runs after the transform.
    """
    share_KL = scores.accuracy
    n_L = np.array([rows.stop - rows.start for rows in scores.slices])
    kept_KL = (share_KL * n_L + 0.5) / (n_L + 1)
    measured = {
        "accuracy": sides.change(share_KL),
        "log_odds": sides.change(np.log(kept_KL / (1 - kept_KL))),
    }
    if scores.gold_logprob is not None:
        change_N = sides.change(scores.gold_logprob)
        measured["gold_logprob"] = np.array([change_N[rows].mean() for rows in scores.slices])
    return measured


def language_gains(
    scores: Scores, sides: RunWeights, groups: Sequence[Group], by_measure: Mapping[str, FloatArray]
) -> tuple[LanguageGain, ...]:
    """One row a language, ordered by group and then by gain."""
    before_N, after_N = sides.before @ scores.correct, sides.after @ scores.correct
    single = all(np.count_nonzero(side) == 1 for side in (sides.before, sides.after))
    found = [
        paired_gain(before_N[rows], after_N[rows], scores.row_passage[rows], single=single)
        for rows in scores.slices
    ]
    adjusted = holm([gain.p for gain in found])
    free = forced = valid = None
    if scores.free is not None and scores.forced is not None:
        free = [side @ scores.free for side in (sides.before, sides.after)]
        forced = [side @ scores.forced for side in (sides.before, sides.after)]
    if scores.valid is not None:
        valid = [side @ scores.valid for side in (sides.before, sides.after)]
    table = []
    for at, (code, rows, gain) in enumerate(
        zip(scores.languages, scores.slices, found, strict=True)
    ):
        known = language(code)
        parts = None
        if free and forced:
            parts = split_gain(
                free[0][rows], forced[0][rows], free[1][rows], forced[1][rows],
                scores.row_passage[rows],
            )  # fmt: skip
        table.append(
            LanguageGain(
                code=code,
                name=known.name,
                family=known.family,
                branch=known.branch,
                script=known.script,
                group=groups[at],
                n=rows.stop - rows.start,
                passages=len(np.unique(scores.row_passage[rows])),
                before=gain.before,
                after=gain.after,
                gain=gain.gain,
                se=gain.se,
                low=gain.interval.low,
                high=gain.interval.high,
                mcnemar_p=gain.mcnemar_p,
                p=gain.p,
                holm_p=float(adjusted[at]),
                before_valid=float(valid[0][rows].mean()) if valid else None,
                after_valid=float(valid[1][rows].mean()) if valid else None,
                log_odds_gain=float(by_measure["log_odds"][at]),
                gold_logprob_gain=(
                    float(by_measure["gold_logprob"][at]) if "gold_logprob" in by_measure else None
                ),
                free_gain=parts and parts.total,
                free_gain_se=parts and parts.total_se,
                format_part=parts and parts.format,
                format_part_se=parts and parts.format_se,
                comprehension_part=parts and parts.comprehension,
                comprehension_part_se=parts and parts.comprehension_se,
            )
        )
    return tuple(sorted(table, key=lambda row: (GROUPS.index(row.group), -row.gain, row.code)))


def _mean(rows: Sequence[LanguageGain]) -> GroupMean:
    return GroupMean(
        languages=len(rows),
        before=float(np.mean([row.before for row in rows])),
        after=float(np.mean([row.after for row in rows])),
        gain=float(np.mean([row.gain for row in rows])),
    )


def _group_means(rows: Sequence[LanguageGain]) -> dict[Group, GroupMean]:
    by_group = {group: [row for row in rows if row.group == group] for group in GROUPS}
    return {group: _mean(members) for group, members in by_group.items() if members}


def mean_gain_parts(rows: Sequence[LanguageGain]) -> dict[str, float]:
    """Means over languages of `gain_free`, `gain_format` and `gain_comprehension`, if known."""
    parts = [named for row in rows if (named := gain_parts(row))]
    if not parts:
        return {}
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}


def gain_parts(row: LanguageGain) -> dict[str, float]:
    """Names and values of a gain's parts; empty where they are not known."""
    named = {
        "gain_free": row.free_gain,
        "gain_format": row.format_part,
        "gain_comprehension": row.comprehension_part,
    }
    return {name: value for name, value in named.items() if value is not None}
