"""SciPy: the functions behind two distributions."""

import numpy as np
import pytest
from scipy import stats

from isogloss.compat.scipy import binomial_cdf, noncentral_t_sf

MOVED = (
    "`scipy.special._ufuncs` no longer has what `scipy.stats` computes {} from (compat/scipy.py): "
    "set ISOGLOSS_PUBLIC_INTERFACES=1 until it has another way."
)


@pytest.mark.parametrize("public", ["0", "1"])
def test_both_have_the_bits_of_the_public_functions(
    public: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_PUBLIC_INTERFACES", public)
    for n in (0, 1, 7, 90, 1201):
        for count in {-1, 0, n // 3, n // 2, n - 1, n, n + 1}:
            expected = stats.binom.cdf(count, n, 0.5)
            assert binomial_cdf(count, n, 0.5) == expected, MOVED.format("binom")
    for df in (1, 2.5, 9, 60, 898):
        for noncentrality in np.linspace(0, 7, 15):
            for value in (0.5, 1.96, 2.6, 12.7):
                found = noncentral_t_sf(value, df, noncentrality)
                expected = float(stats.nct.sf(value, df, noncentrality))
                assert np.array_equal(found, expected, equal_nan=True), MOVED.format("nct")
