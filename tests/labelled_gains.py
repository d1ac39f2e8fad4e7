"""Gains with group labels, for tests of contrasts and of permutation tests."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

GAIN = np.array([0.08, 0.11, 0.02, 0.07, 0.05, 0.01, 0.06, 0.03, 0.04, -0.01, 0.02, 0.05])
RELATED = np.array([True] * 4 + [False] * 8)

quick = settings(deadline=None, max_examples=60)


@st.composite
def labelled_gains(draw):
    """Five to ten gains and labels, at least two of each; multiples of 1/400, so ties occur."""
    gain = np.array(
        draw(st.lists(st.integers(-80, 80).map(lambda k: k / 400), min_size=5, max_size=10))
    )
    n_related = draw(st.integers(2, len(gain) - 2))
    related = np.zeros(len(gain), dtype=bool)
    related[draw(st.permutations(range(len(gain))))[:n_related]] = True
    return gain, related
