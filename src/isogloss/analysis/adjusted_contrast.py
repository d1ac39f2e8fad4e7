"""The relatedness contrast at equal baseline, script and tokens.

Shapes are suffixes: T languages in the contrast (related and control).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.gains import gains_by_measure
from isogloss.analysis.passage_shares import passage_shares
from isogloss.errors import ComparisonError
from isogloss.languages import language, source_languages
from isogloss.stats.adjusted import (
    AdjustedContrast,
    freedman_lane,
    shared_noise,
    without_shared_noise,
)
from isogloss.types import FloatArray, Measure


class Covariate(StrEnum):
    """What is held equal between related and control languages."""

    BASELINE = "baseline"
    SCRIPT = "script"
    TOKENS_PER_WORD = "tokens per word"
    TOKENS_PER_ITEM = "tokens per item"


@dataclass(frozen=True)
class Adjustment:
    """The contrast with covariates held equal.

    Where it cannot be estimated, `contrast` is None and `problem` says why.
    """

    covariates: tuple[Covariate, ...]
    contrast: AdjustedContrast | None
    problem: str = ""


def adjustments(study: AlignedStudy) -> tuple[Adjustment, ...]:
    """The contrast adjusted for each covariate alone, and for all that can be adjusted for.

    Covariates are the baseline accuracy, whether the script is that of the source, and the
    logarithm of tokens per word (or per item), where tokens were recorded.
    """
    values = _covariates(study)
    results = [_adjust(study, values, (covariate,)) for covariate in values]
    usable = tuple(
        adjustment.covariates[0] for adjustment in results if adjustment.contrast is not None
    )
    if len(usable) > 1:
        results.append(_adjust(study, values, usable))
    return tuple(results)


def _covariates(study: AlignedStudy) -> dict[Covariate, FloatArray]:
    """Values of each covariate, [T]."""
    scores = study.scores
    scripts = {row.script for row in source_languages(study.spec.source)}
    baseline_L = study.run_weights().before @ scores.accuracy
    values: dict[Covariate, FloatArray] = {
        Covariate.BASELINE: study.in_contrast(baseline_L),
        Covariate.SCRIPT: study.in_contrast(
            np.array([float(language(code).script in scripts) for code in scores.languages])
        ),
    }
    if scores.fertility is not None:
        covariate = Covariate.TOKENS_PER_WORD if scores.per_word else Covariate.TOKENS_PER_ITEM
        values[covariate] = study.in_contrast(np.log(scores.fertility))
    return values


def _adjust(
    study: AlignedStudy, values: dict[Covariate, FloatArray], covariates: tuple[Covariate, ...]
) -> Adjustment:
    gain_L = gains_by_measure(study.scores, study.run_weights())[Measure.ACCURACY]
    gain_T = study.in_contrast(gain_L)
    design = {covariate.value: values[covariate] for covariate in covariates}
    try:
        if Covariate.BASELINE in covariates:
            others = [values[name] for name in covariates if name != Covariate.BASELINE]
            shares = passage_shares(study, study.models)
            noise = shared_noise(shares.scores["before"], shares.scores["gain"], shares.weight)
            gain_T, design[Covariate.BASELINE.value] = without_shared_noise(
                gain_T,
                values[Covariate.BASELINE],
                np.column_stack([study.related, *others]),
                *noise,
            )
        contrast = freedman_lane(gain_T, study.related, design, seed=study.spec.seed)
    except ComparisonError as error:
        return Adjustment(covariates, None, str(error))
    return Adjustment(covariates, contrast)
