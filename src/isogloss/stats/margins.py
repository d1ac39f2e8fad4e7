"""The equivalence margin: a fraction of accuracy, or a percentage of the mean gain."""

import re

LARGEST_MARGIN = 0.5  # of the mean gain: equal to within more than this says little
ACCEPTED = "a fraction below 1, or a percentage of the mean gain, at most 50%, such as '20%'"


def is_percentage(value: object) -> bool:
    """Whether a margin is given as text with a percent sign."""
    return isinstance(value, str) and value.strip().endswith("%")


def share_of_gain(text: str) -> float:
    """The share of the mean gain that a percentage stands for: `20%` is 0.2.

    ValueError if it is not a percentage above zero and of at most 50%.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip(), re.ASCII)
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share <= LARGEST_MARGIN:
        raise ValueError(f"a margin should be {ACCEPTED}, but got {text!r}")
    return share
