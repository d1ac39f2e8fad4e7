"""The relatedness contrast at equal baseline, script, tokens and amount of pre-training text.

Shapes are suffixes: L languages, T languages in the contrast (related and control).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.gains import gains_by_measure
from isogloss.analysis.passage_shares import passage_shares
from isogloss.errors import ComparisonError, ConfigError
from isogloss.languages import language, source_languages
from isogloss.languages.pretraining_text import pretraining_words
from isogloss.stats.adjusted import (
    AdjustedContrast,
    freedman_lane,
    shared_noise,
    without_shared_noise,
)
from isogloss.types import BoolArray, FloatArray, Measure

Covariates = Mapping[str, Mapping[str, float]]  # name of the covariate -> code -> value


class Covariate(StrEnum):
    """What is held equal between related and control languages.

    `CURVED_BASELINE` is the baseline and its square.
    """

    BASELINE = "baseline"
    CURVED_BASELINE = "curved baseline"
    SCRIPT = "script"
    TOKENS_PER_WORD = "tokens per word"
    TOKENS_PER_ITEM = "tokens per item"
    PRETRAINING_TEXT = "pre-training text"


FEWEST = 2  # related and control languages with values
OVERLAP = 0.5  # share of a group within the range of the other, below which adjusting extrapolates
SHARED_METRIC = (
    "the covariate {0!r} would share a metric with {1!r}, which the comparison has too; choose "
    "another name."
)
BASELINES = (Covariate.BASELINE, Covariate.CURVED_BASELINE)
# Adjusted for together in a contrast of their own, before everything is.
FIRST = (
    Covariate.BASELINE,
    Covariate.SCRIPT,
    Covariate.TOKENS_PER_WORD,
    Covariate.TOKENS_PER_ITEM,
)


@dataclass(frozen=True)
class Adjustment:
    """The contrast with covariates held equal: those of `Covariate`, or of the user's file.

    `left_out` are languages without a value. Where the contrast cannot be estimated, it is None and
    `problem` says why. `extrapolates` says that the groups hardly overlap in the covariates, so
    that a contrast at equal values speaks of languages that there are not.
    """

    covariates: tuple[str, ...]
    contrast: AdjustedContrast | None
    problem: str = ""
    left_out: tuple[str, ...] = ()
    extrapolates: bool = False


def adjustments(study: AlignedStudy, own: Covariates | None = None) -> tuple[Adjustment, ...]:
    """The contrast adjusted for each covariate alone, and for several together.

    Covariates are the baseline accuracy, as a straight line and with its square; whether the script
    is that of the source; the logarithm of tokens per word (or per item), where tokens were
    recorded; the logarithm of the number of words of the language in public pre-training corpora;
    and the user's `own`, by name and language code. Then come, as far as each of them alone can be
    adjusted for, the baseline, script and tokens together, and everything together.

    Raises ConfigError for `own` values with the name of another covariate, for an unknown language,
    or that are not finite.
    """
    _check(own or {})
    values = _covariates(study, own or {})
    results = [_adjust(study, values, (covariate,)) for covariate in values]
    usable = [adjustment.covariates[0] for adjustment in results if adjustment.contrast is not None]
    straight = Covariate.BASELINE if Covariate.CURVED_BASELINE in usable else None
    together = (
        tuple(name for name in usable if name in FIRST),
        tuple(name for name in usable if name != straight),
    )
    joint = [covariates for covariates in dict.fromkeys(together) if len(covariates) > 1]
    return (*results, *(_adjust(study, values, covariates) for covariates in joint))


def metric_name(covariates: Iterable[str]) -> str:
    """The name of the metric of an adjustment; that of its p ends in `_p`."""
    return "adjusted/" + "_and_".join(covariates).replace(" ", "_")


def shared_metric(own: Sequence[str]) -> tuple[str, str] | None:
    """The first of the user's covariates whose metrics would be those of others, and these.

    A name can be that of another covariate, of its p, or of several together. Case is ignored.
    """
    for place, name in enumerate(own):
        others = [*Covariate, *own[:place], *own[place + 1 :]]
        by_metric = {_stem(other): other for other in others}
        stem = _stem(name)
        for possible in (stem, stem.removesuffix("_p")):
            parts = possible.split("_and_")
            if all(part in by_metric for part in parts):
                return name, " and ".join(by_metric[part] for part in parts)
    return None


def _stem(name: str) -> str:
    return name.replace(" ", "_").casefold()


def _check(own: Covariates) -> None:
    if shared := shared_metric(list(own)):
        raise ConfigError(SHARED_METRIC.format(*shared))
    for name, by_code in own.items():
        for code, value in by_code.items():
            language(code)
            if not math.isfinite(value):
                raise ConfigError(f"{name} of {code} must be a finite number but is {value}.")


def _covariates(study: AlignedStudy, own: Covariates) -> dict[str, FloatArray]:
    """Values of each covariate, [T]; NaN where a language has none."""
    scores = study.scores
    scripts = {row.script for row in source_languages(study.spec.source)}
    baseline_T = study.in_contrast(study.run_weights().before @ scores.accuracy)
    values: dict[str, FloatArray] = {
        Covariate.BASELINE: baseline_T,
        Covariate.CURVED_BASELINE: baseline_T,
        Covariate.SCRIPT: study.in_contrast(
            np.array([float(language(code).script in scripts) for code in scores.languages])
        ),
    }
    if scores.fertility is not None:
        covariate = Covariate.TOKENS_PER_WORD if scores.per_word else Covariate.TOKENS_PER_ITEM
        values[covariate] = study.in_contrast(np.log(scores.fertility))
    words = {code: pretraining_words(code) for code in scores.languages}
    values[Covariate.PRETRAINING_TEXT] = _known_means(
        study, {code: math.log(number) for code, number in words.items() if number}
    )
    return values | {name: _known_means(study, by_code) for name, by_code in own.items()}


def _known_means(study: AlignedStudy, by_code: Mapping[str, float]) -> FloatArray:
    """The mean over the varieties of a language that have a value, [T]; NaN where none has."""
    means = []
    for places in study.members:
        codes = [study.scores.languages[place] for place in places]
        known = [by_code[code] for code in codes if code in by_code]
        means.append(float(np.mean(known)) if known else math.nan)
    return np.array(means)


def _adjust(
    study: AlignedStudy, values: Mapping[str, FloatArray], covariates: tuple[str, ...]
) -> Adjustment:
    known_T = np.all([np.isfinite(values[name]) for name in covariates], axis=0)
    left_out = tuple(np.array(study.codes)[~known_T].tolist())
    try:
        contrast = _estimate(study, values, covariates, known_T)
    except ComparisonError as error:
        return Adjustment(covariates, None, str(error), left_out)
    columns = [values[name][known_T] for name in covariates]
    return Adjustment(
        covariates,
        contrast,
        left_out=left_out,
        extrapolates=not groups_overlap(study.related[known_T], columns),
    )


def groups_overlap(related_T: BoolArray, covariates: Sequence[FloatArray]) -> bool:
    """Whether half of one group's languages are, in their covariates [T], in the other's range.

    Several covariates are compared in the combination that separates the groups best: the fit of
    group membership on them, a linear propensity score.
    """
    design = np.column_stack([np.ones(len(related_T)), *covariates])
    coefficients, *_ = np.linalg.lstsq(design, related_T.astype(float), rcond=None)
    score_T = np.round(design @ coefficients, 9)  # equal covariates, equal scores
    groups = score_T[related_T], score_T[~related_T]
    return any(
        float(np.mean((inner >= outer.min()) & (inner <= outer.max()))) >= OVERLAP
        for inner, outer in (groups, groups[::-1])
    )


def _estimate(
    study: AlignedStudy,
    values: Mapping[str, FloatArray],
    covariates: tuple[str, ...],
    known_T: BoolArray,
) -> AdjustedContrast:
    """The contrast of the languages with all values."""
    related_T = study.related[known_T]
    if min(related_T.sum(), (~related_T).sum()) < FEWEST:
        raise ComparisonError(
            f"too few of these languages have a value of {' and '.join(covariates)}."
        )
    gain_L = gains_by_measure(study.scores, study.run_weights())[Measure.ACCURACY]
    gain_T = study.in_contrast(gain_L)[known_T]
    design = {str(name): values[name][known_T] for name in covariates}
    baselines = [name for name in covariates if name in BASELINES]
    if baselines:
        (name,) = baselines
        others = [design[other] for other in covariates if other != name]
        shares = passage_shares(study, study.models)
        noise = shared_noise(
            shares.scores["before"][:, known_T],
            shares.scores["gain"][:, known_T],
            shares.weight[:, known_T],
        )
        gain_T, baseline_T = without_shared_noise(
            gain_T, design[name], np.column_stack([related_T, *others]), *noise
        )
        design[name] = baseline_T
        if name == Covariate.CURVED_BASELINE:
            design[f"{name}, squared"] = (baseline_T - baseline_T.mean()) ** 2
    return freedman_lane(gain_T, related_T, design, seed=study.spec.seed)
