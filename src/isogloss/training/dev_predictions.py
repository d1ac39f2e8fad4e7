"""The dev predictions beside an adapter: the name of their table, and how its items are known."""

import hashlib
import json

from isogloss.tasks import Item

DEV_PREDICTIONS = "dev_predictions.parquet"
CONTENT = "content"  # its column with the `content_digest` of each item


def content_digest(item: Item) -> str:
    """A hash of an item's texts and of its right answer, whatever its id and the order of options.

    Ids may be row numbers, which other data have too.
    """
    texts = [item.passage, item.question, item.options[item.answer], *sorted(item.options)]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
