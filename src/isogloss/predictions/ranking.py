"""The scores of options that decide which of them is the answer.

Shapes are suffixes: C options.
"""

from collections.abc import Sequence

import numpy as np

from isogloss.types import FloatArray


def normalised_scores(
    loglikelihood_C: FloatArray,
    *,
    options: Sequence[str],
    unconditional_C: Sequence[float] | None,
) -> FloatArray:
    """Log-likelihoods, normalised; the first maximum is the choice.

    Those without passage and question are subtracted, where they are given; else each is divided by
    the number of characters of its option.
    """
    if unconditional_C is not None:
        return loglikelihood_C - np.asarray(unconditional_C, dtype=np.float64)
    return loglikelihood_C / np.array([len(option) for option in options], dtype=np.float64)
