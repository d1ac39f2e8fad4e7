"""A margin as a percentage of the mean gain, as text."""

import pytest

from isogloss.stats.margins import is_percentage, share_of_gain


@pytest.mark.parametrize(("text", "share"), [("20%", 0.2), (" 12.5 % ", 0.125), ("50%", 0.5)])
def test_a_percentage_is_a_share_of_the_mean_gain(text: str, share: float) -> None:
    assert is_percentage(text)
    assert share_of_gain(text) == share


@pytest.mark.parametrize("text", ["0%", "-3%", "51%", "%", "1e1%", "nan%", "a fifth%", "٢٠%"])
def test_any_other_percentage_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match=r"at most 50%, such as '20%', but got '"):
        share_of_gain(text)


def test_a_fraction_is_no_percentage() -> None:
    assert not any(map(is_percentage, (0.2, "0.2", None)))
