"""Format against comprehension: a gain in answers as given, split into its two parts.

An answer as given (`free`: greedy or generated, wrong if it is no choice at all) differs from the
choice that the model is forced to (`forced`). Fine-tuning can raise the first by teaching the
format alone. Item by item,

    free = forced + (free - forced),

so the gain in free accuracy is exactly the gain in forced accuracy (the comprehension part) plus
the change in how far free answers fall short of forced ones (the format part). Where a valid answer
is the forced one, as of a letter answered directly, that is answers that were known and not given;
where text and score may choose differently, as in generated text, it holds their disagreement too.
Unlike a split by accuracy among valid answers it is defined where no answer of the base is valid.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.stats.paired import clustered_standard_error


class GainParts(NamedTuple):
    """Gain in free accuracy and its two parts, as fractions, with standard errors by passage.

    `total` is `format` + `comprehension` exactly; the standard errors do not add, as both parts
    are of the same items.
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
    """Split the gain of one language, from the correctness of free and forced answers.

    All arrays have shape [I], the same items in the same order; correctness is boolean. Standard
    errors are those of `paired.clustered_standard_error`, NaN with a single cluster.
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
