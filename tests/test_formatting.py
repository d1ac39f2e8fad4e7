"""Sizes and aligned columns."""

import pytest

from isogloss.formatting import aligned, closest, did_you_mean, natural_order, size


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


@pytest.mark.parametrize(
    ("text", "names", "ending"),
    [
        ("leter", ("letter", "cloze"), "; did you mean 'letter'?"),
        ("LETTER", ("letter", "cloze"), "; did you mean 'letter'?"),
        ("essay", ("letter", "cloze"), "."),
        ("x", (), "."),
        ("all", ("all", "ball"), "."),
        ("x" * 10_000, ("x" * 9_000,), "."),
    ],
)
def test_the_end_of_a_sentence_names_what_may_be_meant(
    text: str, names: tuple[str, ...], ending: str
) -> None:
    assert did_you_mean(text, names) == ending
    otherwise = did_you_mean(text, names, otherwise="expected a or b")
    assert otherwise == (ending if ending != "." else "; expected a or b.")


def test_the_closest_names_come_first_as_they_are_written() -> None:
    assert closest("steps", ["Step", "Steps", "rank"]) == ["Steps", "Step"]
    assert closest("steps", ["Step", "Steps", "rank"], cutoff=0.95) == ["Steps"]
