"""Paired gains of one condition against another, by language, and their relatedness contrasts.

Shapes are suffixes: K runs, N rows, L languages, T languages in the contrast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy, RunWeights
from isogloss.analysis.score_matrix import Scores
from isogloss.languages import language
from isogloss.stats.contrasts import Contrast, relatedness_contrast
from isogloss.stats.decomposition import GainParts, split_gain
from isogloss.stats.paired import holm, paired_gain
from isogloss.types import Condition, FloatArray, Group, Measure

GROUPS = tuple(Group)  # in the order of tables and figures


@dataclass(frozen=True)
class LanguageGain:
    """One target language: accuracies, the paired gain and its 95% interval, as fractions.

    `mcnemar_low` to `mcnemar_high` is the interval that takes items as independent, `mcnemar_p`
    McNemar's exact p where one run is compared with one; `p` the one to read (see `paired_gain`);
    `holm_p` that p adjusted over languages. `before_valid` and `after_valid` are shares of valid
    answers, None where validity was not recorded. `log_odds_gain` is in logits, `gold_logprob_gain`
    in nats, None where not recorded. `free_gain` is the gain of answers as given, where invalid
    ones are wrong, and the sum of `format_part` and `comprehension_part` (see
    `stats.decomposition`); None where forced or free answers were not recorded.
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
    mcnemar_low: float
    mcnemar_high: float
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
    """Means over the languages of a group, or over all; each language counts once."""

    languages: int
    before: float
    after: float
    gain: float


@dataclass(frozen=True)
class ConditionGains:
    """One condition against another: of one model, or of the mean over models.

    `languages` are ordered by group (source, variety, related, control), largest gain first.
    `mean` is over all languages. Of the contrasts only `accuracy`, which verdicts rest on, has a
    margin; `gold_logprob` is absent where it was not recorded. `seeds` are the replicates of the
    compared condition; `contrast_by_seed` is the accuracy contrast of each, empty with one seed or
    several models.
    """

    label: str
    condition: Condition
    languages: tuple[LanguageGain, ...]
    mean: GroupMean
    group_means: Mapping[Group, GroupMean]
    contrasts: Mapping[Measure, Contrast]
    seeds: tuple[str, ...]
    contrast_by_seed: tuple[float, ...]

    def members(self, group: Group) -> list[LanguageGain]:
        """The languages of a group, largest gain first."""
        return [row for row in self.languages if row.group == group]

    @property
    def gain_by_code(self) -> dict[str, float]:
        """The gain of each language."""
        return {row.code: row.gain for row in self.languages}


def condition_gains(
    study: AlignedStudy, models: Sequence[str], condition: Condition
) -> ConditionGains:
    """Gains of a condition against the reference of the study, averaged over `models`."""
    spec, related_T = study.spec, study.related
    weights = study.run_weights(models, condition)
    by_measure = gains_by_measure(study.scores, weights)
    contrasts = {
        measure: relatedness_contrast(
            study.in_contrast(gain_L),
            related_T,
            spec.margin if measure == Measure.ACCURACY else None,
            seed=spec.seed,
        )
        for measure, gain_L in by_measure.items()
    }
    run_of_seed = {
        study.scores.runs[run].seed: run
        for model in models
        for run in study.runs_matching(model, condition)
    }
    contrast_by_seed = []
    if len(models) == 1 and len(run_of_seed) > 1:
        accuracy_KL = study.scores.accuracy
        for _, run in sorted(run_of_seed.items()):
            gain_T = study.in_contrast(accuracy_KL[run] - weights.before @ accuracy_KL)
            contrast_by_seed.append(float(gain_T[related_T].mean() - gain_T[~related_T].mean()))
    rows = language_gains(study.scores, weights, study.groups, by_measure)
    return ConditionGains(
        label=models_label(models),
        condition=condition,
        languages=rows,
        mean=_mean(rows),
        group_means=_group_means(rows),
        contrasts=contrasts,
        seeds=tuple(sorted(run_of_seed)),
        contrast_by_seed=tuple(contrast_by_seed),
    )


def models_label(models: Sequence[str]) -> str:
    """The name of gains averaged over models."""
    return models[0] if len(models) == 1 else f"mean of {len(models)} models"


def gains_by_measure(scores: Scores, weights: RunWeights) -> dict[Measure, FloatArray]:
    """The gain of each language, [L], by measure: fractions, logits and nats.

    Log-odds are those of (correct + 0.5) / (items + 1), which is finite where no or all answers are
    correct (Haldane 1956; Anscombe 1956), and are averaged over runs after the transform, as
    abilities are (`stats.item_response`).
    """
    accuracy_KL = scores.accuracy
    n_L = np.array([rows.stop - rows.start for rows in scores.slices])
    shrunk_KL = (accuracy_KL * n_L + 0.5) / (n_L + 1)
    by_measure = {
        Measure.ACCURACY: weights.change(accuracy_KL),
        Measure.LOG_ODDS: weights.change(np.log(shrunk_KL / (1 - shrunk_KL))),
        Measure.ABILITY: weights.change(scores.abilities.ability),
    }
    if scores.gold_logprob is not None:
        change_N = weights.change(scores.gold_logprob)
        by_measure[Measure.GOLD_LOGPROB] = np.array(
            [change_N[rows].mean() for rows in scores.slices]
        )
    return by_measure


def language_gains(
    scores: Scores,
    weights: RunWeights,
    groups: Sequence[Group],
    by_measure: Mapping[Measure, FloatArray],
) -> tuple[LanguageGain, ...]:
    """One row per language, ordered by group and then by gain."""
    before_N, after_N = (weight_K @ scores.correct for weight_K in weights)
    single = all(np.count_nonzero(weight_K) == 1 for weight_K in weights)
    paired = [
        paired_gain(before_N[rows], after_N[rows], scores.row_passage[rows], single=single)
        for rows in scores.slices
    ]
    holm_p_L = holm([gain.p for gain in paired])
    parts_L = _parts(scores, weights)
    valid_before_L, valid_after_L = (_valid_shares(scores, weight_K) for weight_K in weights)
    logprob_L = by_measure.get(Measure.GOLD_LOGPROB)
    table = []
    for place, (code, rows) in enumerate(zip(scores.languages, scores.slices, strict=True)):
        entry, gain, parts = language(code), paired[place], parts_L[place]
        table.append(
            LanguageGain(
                code=code,
                name=entry.name,
                family=entry.family,
                branch=entry.branch,
                script=entry.script,
                group=groups[place],
                n=rows.stop - rows.start,
                passages=len(np.unique(scores.row_passage[rows])),
                before=gain.before,
                after=gain.after,
                gain=gain.gain,
                se=gain.se,
                low=gain.interval.low,
                high=gain.interval.high,
                mcnemar_low=gain.mcnemar_interval.low,
                mcnemar_high=gain.mcnemar_interval.high,
                mcnemar_p=gain.mcnemar_p,
                p=gain.p,
                holm_p=float(holm_p_L[place]),
                before_valid=valid_before_L[place],
                after_valid=valid_after_L[place],
                log_odds_gain=float(by_measure[Measure.LOG_ODDS][place]),
                gold_logprob_gain=None if logprob_L is None else float(logprob_L[place]),
                free_gain=parts and parts.total,
                free_gain_se=parts and parts.total_se,
                format_part=parts and parts.format,
                format_part_se=parts and parts.format_se,
                comprehension_part=parts and parts.comprehension,
                comprehension_part_se=parts and parts.comprehension_se,
            )
        )
    return tuple(sorted(table, key=lambda row: (GROUPS.index(row.group), -row.gain, row.code)))


def _parts(scores: Scores, weights: RunWeights) -> list[GainParts] | list[None]:
    """Format and comprehension part of each language's gain; None where not recorded."""
    if scores.free is None or scores.forced is None:
        return [None] * len(scores.languages)
    free = [weight_K @ scores.free for weight_K in weights]
    forced = [weight_K @ scores.forced for weight_K in weights]
    return [
        split_gain(
            before_free_I=free[0][rows],
            before_forced_I=forced[0][rows],
            after_free_I=free[1][rows],
            after_forced_I=forced[1][rows],
            cluster_I=scores.row_passage[rows],
        )
        for rows in scores.slices
    ]


def _valid_shares(scores: Scores, weight_K: FloatArray) -> list[float] | list[None]:
    """Share of valid answers in each language; None where validity was not recorded."""
    if scores.valid is None:
        return [None] * len(scores.languages)
    valid_N = weight_K @ scores.valid
    return [float(valid_N[rows].mean()) for rows in scores.slices]


def _mean(rows: Sequence[LanguageGain]) -> GroupMean:
    return GroupMean(
        languages=len(rows),
        before=float(np.mean([row.before for row in rows])),
        after=float(np.mean([row.after for row in rows])),
        gain=float(np.mean([row.gain for row in rows])),
    )


def _group_means(rows: Sequence[LanguageGain]) -> dict[Group, GroupMean]:
    members = {group: [row for row in rows if row.group == group] for group in GROUPS}
    return {group: _mean(rows) for group, rows in members.items() if rows}


def gain_parts(row: LanguageGain) -> dict[str, float]:
    """The parts of a gain by metric name; empty where they were not recorded."""
    parts = {
        "gain_free": row.free_gain,
        "gain_format": row.format_part,
        "gain_comprehension": row.comprehension_part,
    }
    return {name: value for name, value in parts.items() if value is not None}


def mean_gain_parts(rows: Sequence[LanguageGain]) -> dict[str, float]:
    """Means of `gain_parts` over the languages that have them; empty where none has."""
    with_parts = [parts for row in rows if (parts := gain_parts(row))]
    if not with_parts:
        return {}
    return {name: float(np.mean([parts[name] for parts in with_parts])) for name in with_parts[0]}
