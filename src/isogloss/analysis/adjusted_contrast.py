"""The relatedness contrast at equal baseline, script and tokens.

Shapes are suffixes: T languages in the contrast (related and control).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.analysis.gains import (
    ComparisonSpec,
    gains_by_measure,
    in_contrast,
    related_in_contrast,
    run_weights,
)
from isogloss.analysis.passage_shares import passage_shares
from isogloss.analysis.score_matrix import Scores
from isogloss.errors import ComparisonError
from isogloss.languages import language
from isogloss.stats.adjusted import (
    AdjustedContrast,
    freedman_lane,
    shared_noise,
    without_shared_noise,
)
from isogloss.types import FloatArray, Group


@dataclass(frozen=True)
class Adjustment:
    """The contrast with covariates held equal; `estimate` is None where that cannot be done."""

    covariates: tuple[str, ...]
    contrast: AdjustedContrast | None
    problem: str = ""


def adjustments(
    scores: Scores, models: Sequence[str], groups: Sequence[Group], spec: ComparisonSpec
) -> tuple[Adjustment, ...]:
    """The contrast adjusted for baseline, script and tokens, each alone and all together.

    Script is whether it is the source's, tokens are the logarithm of tokens a word.
    """
    sides = run_weights(scores, models, spec)
    tested, related_T = in_contrast(groups), related_in_contrast(groups)
    gain_T = gains_by_measure(scores, sides)["accuracy"][tested]
    base_T = (sides.before @ scores.accuracy)[tested]
    codes = np.array(scores.languages)[tested]
    script = language(spec.source).script
    known: dict[str, FloatArray] = {
        "baseline": base_T,
        "script": np.array([float(language(code).script == script) for code in codes]),
    }
    if scores.fertility is not None:
        name = "tokens per word" if scores.per_word else "tokens per item"
        known[name] = np.log(scores.fertility[tested])
    shares = passage_shares(scores, models, tested, spec)
    noise = shared_noise(shares.values["before"], shares.values["gain"], shares.weight)
    found: list[Adjustment] = []
    for names in (*((name,) for name in known), ()):
        if not names:  # all that can be adjusted for
            names = tuple(each.covariates[0] for each in found if each.contrast is not None)
            if len(names) < 2:
                break
        covariates = {name: known[name] for name in names}
        try:
            y_T = gain_T
            if "baseline" in names:
                rest = [known[name] for name in names if name != "baseline"]
                y_T, covariates["baseline"] = without_shared_noise(
                    gain_T, base_T, np.column_stack([related_T, *rest]), *noise
                )
            contrast = freedman_lane(y_T, related_T, covariates, seed=spec.seed)
            found.append(Adjustment(names, contrast))
        except ComparisonError as error:
            found.append(Adjustment(names, None, str(error)))
    return tuple(found)
