"""Sizes and aligned columns."""

import pytest

from isogloss.formatting import aligned, natural_order, size


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (999_499, "999 kB"),
        (536_000_000, "536 MB"), (1_072_000_000, "1.1 GB"), (5_100_000_000_000, "5.1 TB"),
        (12_300_000_000_000_000, "12300.0 TB"),
    ],
)  # fmt: skip
def test_sizes_are_in_decimal_units(n_bytes: int, text: str) -> None:
    assert size(n_bytes) == text


def test_columns_are_two_spaces_apart_and_lines_end_without_blanks() -> None:
    assert aligned([("a", "long name"), ("bcd", "e")]) == "a    long name\nbcd  e"


def test_numbers_in_names_are_in_the_order_of_numbers() -> None:
    names = ["128 steps", "16 steps", "4 steps", "", "16", "Qwen3-32B", "Qwen3-8B", "٣"]
    in_order = ["", "٣", "4 steps", "16", "16 steps", "128 steps", "Qwen3-8B", "Qwen3-32B"]
    assert sorted(names, key=natural_order) == in_order
