"""Format against comprehension: the gain of answers as given, split into two parts.

The answer as given (`free`: greedy or generated, wrong if it is no valid choice) can differ from
the likeliest choice (`forced`). Fine-tuning can raise free accuracy by teaching the format alone.
For each item

    free = forced + (free - forced),

so the gain in free accuracy is exactly the gain in forced accuracy (the comprehension part) plus
the change in the shortfall of free answers (the format part). Where every valid answer is the
forced one, as when a letter is answered directly, the format part counts answers that the model
knew but did not give. In generated text, the answer and the scores may choose differently, and the
format part includes that disagreement. Unlike a split by accuracy among valid answers, this one is
defined where no answer of the base is valid.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.stats.paired import clustered_standard_error


class GainParts(NamedTuple):
    """Gain in free accuracy and its two parts, as fractions, with standard errors by passage.

    `total` is exactly `format` + `comprehension`. Standard errors do not add, because both parts
    use the same items.
    """

    total: float
    total_se: float
    format: float
    format_se: float
    comprehension: float
    comprehension_se: float


def split_gain(
    before_free_I: npt.ArrayLike,
    before_forced_I: npt.ArrayLike,
    after_free_I: npt.ArrayLike,
    after_forced_I: npt.ArrayLike,
    cluster_I: npt.ArrayLike,
) -> GainParts:
    """Split the gain of one language into format and comprehension.

    All arrays are [I], the same items in the same order; scores are correctness, or its mean over
    runs. Standard errors are those of `paired.clustered_standard_error`, NaN with one cluster.
    """
    before_free, before_forced, after_free, after_forced = (
        np.asarray(values, dtype=np.float64)
        for values in (before_free_I, before_forced_I, after_free_I, after_forced_I)
    )
    total_I = after_free - before_free
    comprehension_I = after_forced - before_forced
    format_I = total_I - comprehension_I
    return GainParts(
        total=float(total_I.mean()),
        total_se=clustered_standard_error(total_I, cluster_I),
        format=float(format_I.mean()),
        format_se=clustered_standard_error(format_I, cluster_I),
        comprehension=float(comprehension_I.mean()),
        comprehension_se=clustered_standard_error(comprehension_I, cluster_I),
    )
