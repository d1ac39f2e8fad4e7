"""What a report says of runs of quick=true, in place of an answer: they are no result."""

from isogloss.analysis.comparison import Comparison, QuickLook

NAME = "Quick look"
WITH_COMMAND = "The same command without quick:"
WITHOUT_COMMAND = "The same command without quick=true."


def quick_headline(comparison: Comparison, look: QuickLook) -> str:
    """What was computed, and that it is no result; it follows the name."""
    parts = [_items(comparison)]
    if comparison.condition.tuned or comparison.against.tuned:
        parts.append("a few steps" if look.steps is None else _counted(look.steps, "step"))
    return (
        f"{' and '.join(parts)} show what a study does, and are no result; run the same command "
        "without quick."
    )


def quick_numbers(verdict: str, headline: str, numbers: str) -> str:
    """What the report of a full study would begin with."""
    return f"{verdict}: {headline} {numbers}"


def _items(comparison: Comparison) -> str:
    numbers = {row.n for row in comparison.languages}
    fewest, most = min(numbers), max(numbers)
    text = _counted(most, "item")
    return f"{text if fewest == most else f'{fewest} to {text}'} per language"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
