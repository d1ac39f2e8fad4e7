"""Contamination: what an adapter was trained on, and that none of it is in an evaluation.

Parallel data are translations of one another, so a passage trained on in one language is known in
all of them. Within a task, passages are told by their ids. Across tasks (SIB-200, FLORES-200 and
Belebele share sentences) they are told by their text in the language trained on, as far as that is
at hand: by winnowed fingerprints of character sequences (Schleimer, Wilkerson & Aiken 2003,
section 3), which do not depend on how a text is cut into sentences and do not give it away.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from isogloss.errors import DataError
from isogloss.tasks import Item

RECORD = "trained_on.json"
# Whatever WINDOW + CHARACTERS - 1 = 19 letters and digits two texts share, a fingerprint shows it.
CHARACTERS = 10
WINDOW = 10
# Of two passages, the one is in the other if it has this share of the shorter one's fingerprints.
SHARE = 0.5
FEWEST = 3


@dataclass(frozen=True)
class TrainingRecord:
    """What an adapter was trained on: passages by id, with the fingerprints of their texts.

    `seed` and `recipe` (in words) say how, where that is known: adapters of one recipe and several
    seeds are replicates.
    """

    task: str
    language: str
    passages: Mapping[str, Sequence[str]]
    seed: int | None = None
    recipe: str | None = None

    def write(self, folder: Path) -> None:
        """Put the record beside the adapter's weights."""
        (folder / RECORD).write_text(json.dumps(asdict(self)), encoding="utf-8")


def record(
    task: str, items: Sequence[Item], seed: int | None = None, recipe: str | None = None
) -> TrainingRecord:
    """The record of training on these items, all of one language."""
    texts = _texts(items)
    return TrainingRecord(
        task,
        items[0].language,
        {passage: sorted(fingerprints(text)) for passage, text in texts.items()},
        seed,
        recipe,
    )


def read_record(folder: Path) -> TrainingRecord | None:
    """The record in an adapter's folder; None if the adapter came without one."""
    path = folder / RECORD
    return TrainingRecord(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def refuse_contamination(
    trained: TrainingRecord, task: str, items: Iterable[Item], same_language: Sequence[Item]
) -> None:
    """Raise DataError if a passage that was trained on is among those to be evaluated.

    `items` are to be evaluated, in any languages; `same_language` are the same items in the
    language trained on, if the task has it, and empty otherwise.
    """
    evaluated = {item.passage_id: item.language for item in items}
    if trained.task == task:
        found = [passage for passage in evaluated if passage in trained.passages]
        known = [(passage, passage) for passage in found]
    else:
        known = _shared_texts(
            trained.passages,
            {
                passage: fingerprints(text)
                for passage, text in _texts(same_language).items()
                if passage in evaluated
            },
        )
    if not known:
        return
    known = list({there: (here, there) for here, there in reversed(known)}.values())[::-1]
    pairs = ", ".join(
        repr(there) if trained.task == task else f"{there!r} (as {here!r})"
        for here, there in known[:3]
    )
    more = f" and {len(known) - 3} more" if len(known) > 3 else ""
    raise DataError(
        f"the adapter was trained on {trained.task} in {trained.language}, and {len(known)} of the "
        f"{len(evaluated)} passages of {task} to be evaluated were in its training data, in that "
        f"or another language: {pairs}{more}; evaluate on a split or a task it has not seen."
    )


def refuse_overlap(train_items: Sequence[Item], dev_items: Sequence[Item], task: str) -> None:
    """Raise DataError if training and dev data of one language share a passage, by id or text."""
    train, dev = _texts(train_items), _texts(dev_items)
    seen = {_normalised(text): passage for passage, text in train.items()}
    shared = [
        (passage, passage if passage in train else seen[_normalised(text)])
        for passage, text in dev.items()
        if passage in train or _normalised(text) in seen
    ]
    if shared:
        here, there = shared[0]
        raise DataError(
            f"{len(shared)} passages of task {task!r} are both in train and in dev, the first "
            f"{here!r} (in train {there!r}); they must be split by passage."
        )


def fingerprints(text: str) -> frozenset[str]:
    """Winnowed hashes (8 hexadecimal digits each) of a text's letters and digits.

    Case, punctuation, white space and compatibility forms make no difference.
    """
    letters = _normalised(text)
    grams = [
        hashlib.blake2b(letters[at : at + CHARACTERS].encode(), digest_size=4).hexdigest()
        for at in range(max(1, len(letters) - CHARACTERS + 1))
    ]
    return frozenset(min(grams[at : at + WINDOW]) for at in range(max(1, len(grams) - WINDOW + 1)))


def _normalised(text: str) -> str:
    return "".join(
        character
        for character in unicodedata.normalize("NFKC", text).casefold()
        if character.isalnum()
    )


def _texts(items: Iterable[Item]) -> dict[str, str]:
    """The text of each passage; of an item without one, its question and options in any order."""
    return {
        item.passage_id: item.passage or " ".join((item.question, *sorted(item.options)))
        for item in items
    }


def _shared_texts(
    trained: Mapping[str, Sequence[str]], evaluated: Mapping[str, frozenset[str]]
) -> list[tuple[str, str]]:
    """Pairs (trained, evaluated) of passages of which one is within the other."""
    places: dict[str, list[str]] = {}
    for passage, prints in evaluated.items():
        for found in prints:
            places.setdefault(found, []).append(passage)
    pairs = []
    for passage, known in trained.items():
        shared: dict[str, int] = {}
        for found in known:
            for other in places.get(found, ()):
                shared[other] = shared.get(other, 0) + 1
        for other, count in shared.items():
            fewer = min(len(known), len(evaluated[other]))
            same = count == len(known) == len(evaluated[other])
            if same or (count >= FEWEST and count >= SHARE * fewer):
                pairs.append((passage, other))
    return pairs
