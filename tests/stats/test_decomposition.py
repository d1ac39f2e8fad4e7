"""A gain splits into format and comprehension without remainder."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.stats.decomposition import split_gain
from isogloss.stats.paired import clustered_standard_error

ROW = st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 5))


@given(st.lists(ROW, min_size=2, max_size=60))
def test_the_parts_add_up_to_the_gain(rows: list[tuple[bool, ...]]) -> None:
    base_free, base_forced, tuned_free, tuned_forced, cluster = map(
        np.array, zip(*rows, strict=True)
    )
    parts = split_gain(base_free, base_forced, tuned_free, tuned_forced, cluster)
    assert parts.total == pytest.approx(tuned_free.mean() - base_free.mean(), abs=1e-12)
    assert parts.comprehension == pytest.approx(tuned_forced.mean() - base_forced.mean(), abs=1e-12)
    assert parts.format + parts.comprehension == pytest.approx(parts.total, abs=1e-12)
    expected = clustered_standard_error(tuned_free * 1.0 - base_free, cluster)
    assert math.isnan(expected) == math.isnan(parts.total_se)
    assert math.isnan(expected) or parts.total_se == pytest.approx(expected)


def test_answers_that_were_known_but_not_given_are_format() -> None:
    known = np.array([True, True, True, False])
    parts = split_gain([False] * 4, known, known, known, [0, 1, 2, 3])
    assert (parts.total, parts.format, parts.comprehension) == (0.75, 0.75, 0.0)


def test_a_gain_in_a_format_already_mastered_is_comprehension() -> None:
    before, after = np.array([True, False, False, False]), np.array([True, True, True, False])
    parts = split_gain(before, before, after, after, [0, 1, 2, 3])
    assert (parts.total, parts.format, parts.comprehension) == (0.5, 0.0, 0.5)


def test_swapping_the_conditions_changes_the_sign_of_every_part() -> None:
    rng = np.random.default_rng(0)
    free, forced, free_after, forced_after = rng.random((4, 50)) < 0.5
    cluster = np.arange(50) // 2
    forward = split_gain(free, forced, free_after, forced_after, cluster)
    back = split_gain(free_after, forced_after, free, forced, cluster)
    for name in ("total", "format", "comprehension"):
        assert getattr(forward, name) == -getattr(back, name)
        assert getattr(forward, f"{name}_se") == pytest.approx(getattr(back, f"{name}_se"))
