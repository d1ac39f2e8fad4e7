"""The items and answers of a comparison as text of a page."""

import json
import re

from isogloss.analysis.comparison import Comparison
from isogloss.report.items import ItemData
from isogloss.types import Normalisation

_SHARES = (
    "Percentages are the shares of the options in the scores that decide, {scores}; they add up to "
    "100%, and the option with the highest is the answer. Below is the model's probability of the "
    "option itself, which does not decide."
)
DECIDING = {
    Normalisation.LENGTH: _SHARES.format(scores="log-likelihoods divided by characters"),
    Normalisation.UNCONDITIONAL: _SHARES.format(
        scores="log-likelihoods minus those without passage and question"
    ),
}
MOST_WITHIN = 2_000_000  # characters of items that the page of the report holds itself
# In JSON they stand in strings alone, where an escape means the same and ends no element.
UNSAFE = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"})


def items_json(data: ItemData) -> str:
    """The data as JSON that can stand in a page as it is."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).translate(UNSAFE)


def without_items(page: str) -> str:
    """A report without its items, to publish it where their licences are not known."""
    return re.sub(
        r'<script type="application/json" id="items-data">.*?</script>',
        "<p>The items are left out of this copy: their texts have licences of their own.</p>",
        page,
        flags=re.DOTALL,
    )


def items_note(data: ItemData, comparison: Comparison) -> str:
    """What the answers are, and what of the items is not here."""
    shown = sum(len(language["items"]) for language in data["languages"])
    parts = [
        f"Turned right: wrong in {comparison.against} and right in {comparison.condition}; turned "
        "wrong: the other way round."
    ]
    if any(run["shares"] for run in data["runs"]):
        parts.append(DECIDING[Normalisation(data["normalisation"])])
    elif any(run["probabilities"] for run in data["runs"]):
        parts.append(
            "Percentages are the model's probabilities of the options, which add up to 100%. The "
            "answer is the option with the highest score; where scores are normalised, or the text "
            "of the model is what counts, it need not have the highest probability."
        )
    if shown < data["total"]:
        parts.append(
            f"Of {data['total']:,} items, the first of each language are here, {shown:,} in all."
        )
    if data["missing"]:
        parts.append(f"Not all items have their texts here: {data['missing']}")
    return " ".join(parts)


def items_beside(data: ItemData) -> str:
    """A sentence on a page of its own."""
    shown = sum(len(language["items"]) for language in data["languages"])
    return f"{shown:,} items in {len(data['languages'])} languages have a page of their own."
