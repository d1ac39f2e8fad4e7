"""Contamination: what an adapter was trained on, and the check that no evaluation contains it.

Passages of parallel data are translations of one another, so a passage seen in training is known in
every language. Within a task, passages are matched by id, and by their whole text in the training
language: data may have duplicates, and ids that are row numbers change with the rows. Across tasks
(SIB-200, FLORES-200 and Belebele share sentences) they are matched by their text in the training
language, if the other task has that language. The match uses winnowed fingerprints of character
n-grams (Schleimer, Wilkerson & Aiken 2003, section 3): they do not depend on sentence segmentation
and do not disclose the text.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from isogloss.errors import DataError, ModelError
from isogloss.languages import JOIN, pooled_source
from isogloss.models.model_files import read_settings
from isogloss.tasks import Item

RECORD = "trained_on.json"
# Two texts that share WINDOW + GRAM - 1 = 19 consecutive letters and digits share a fingerprint.
GRAM = 10
WINDOW = 10
# One passage contains the other if they share this fraction of the shorter one's fingerprints.
MIN_SHARE = 0.5
MIN_SHARED = 3
DIGEST_LENGTH = 16


@dataclass(frozen=True)
class TrainingRecord:
    """The training data of an adapter: fingerprints of each passage's text, by passage id.

    `language` is the source: one code, or several joined by `+`; a passage's fingerprints are then
    those of its texts in all of them.

    `items` are ids; `seed`, `recipe` and `protocol` (in words) are None if unknown. Adapters of one
    task, protocol and recipe, of the same items and different seeds are replicates.
    """

    task: str
    language: str
    passages: Mapping[str, Sequence[str]]
    seed: int | None = None
    recipe: str | None = None
    items: Sequence[str] | None = None
    protocol: str | None = None

    @property
    def training(self) -> str | None:
        """What was trained and how items were shown, in words: equal for all sources of a study."""
        return None if self.protocol is None else f"{self.task} {self.protocol}"

    @property
    def items_digest(self) -> str:
        """A sha256, shortened, of the passages and ids of the items: equal for replicates."""
        content = json.dumps([self.passages, self.items], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:DIGEST_LENGTH]

    def write(self, folder: Path) -> None:
        """Write the record beside the adapter's weights."""
        (folder / RECORD).write_text(json.dumps(asdict(self)), encoding="utf-8")


class Match(NamedTuple):
    """A passage that was trained on and the evaluated passage that equals or overlaps it."""

    trained: str
    evaluated: str


def training_record(
    task: str,
    items: Sequence[Item],
    seed: int | None = None,
    recipe: str | None = None,
    protocol: str | None = None,
) -> TrainingRecord:
    """The record of training on these items, of one language or several pooled ones."""
    return TrainingRecord(
        task,
        pooled_source(JOIN.join({item.language for item in items})),
        {passage: sorted(prints) for passage, prints in _prints(items).items()},
        seed,
        recipe,
        sorted({item.item_id for item in items}),
        protocol,
    )


def read_record(folder: Path) -> TrainingRecord | None:
    """The record in an adapter's folder; None if the adapter has none.

    Raises ModelError for a damaged one.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    owner = f"adapter {str(folder)!r}"
    try:
        return TypeAdapter(TrainingRecord).validate_python(read_settings(path, owner))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"{owner}: {RECORD} is damaged ({field}: {first['msg']}); without it nobody knows "
            "what the adapter was trained on. Copy the folder again from the run that trained it."
        ) from error


def refuse_contamination(
    trained: TrainingRecord,
    task: str,
    items: Sequence[Item],
    same_language: Sequence[Item],
    *,
    share_passages: bool = False,
) -> None:
    """Raise DataError if a passage of the training data is to be evaluated.

    With `share_passages`, only if an item of the same task is.

    `items` are the items to evaluate, in any languages. `same_language` are the same items in the
    training languages; empty if the task has none of them, and then texts are not compared.
    """
    if share_passages and trained.task == task and trained.items is not None:
        if shared := {item.item_id for item in items}.intersection(trained.items):
            raise DataError(
                f"the adapter was trained on {len(shared)} of the items of {task} to be evaluated, "
                f"in {trained.language}: {', '.join(map(repr, sorted(shared)[:3]))}; evaluate on "
                f"items it has not seen."
            )
        return
    evaluated = dict.fromkeys(item.passage_id for item in items)
    prints = _prints(item for item in same_language if item.passage_id in evaluated)
    if trained.task == task:
        matches = [Match(passage, passage) for passage in evaluated if passage in trained.passages]
        matches += _equal_texts(trained.passages, prints)
    else:
        matches = _text_matches(trained.passages, prints)
    if not matches:
        return
    first_by_passage: dict[str, Match] = {}
    for match in matches:
        first_by_passage.setdefault(match.evaluated, match)
    examples = ", ".join(
        repr(match.evaluated)
        if match.trained == match.evaluated
        else f"{match.evaluated!r} (as {match.trained!r})"
        for match in list(first_by_passage.values())[:3]
    )
    count = len(first_by_passage)
    more = f" and {count - 3} more" if count > 3 else ""
    raise DataError(
        f"the adapter was trained on {trained.task} in {trained.language}, and {count} of the "
        f"{len(evaluated)} passages of {task} to be evaluated were in its training data, in that "
        f"or another language: {examples}{more}; evaluate on a split or a task it has not seen."
    )


def refuse_overlap(train_items: Sequence[Item], dev_items: Sequence[Item], task: str) -> None:
    """Raise DataError if training and dev data share a passage, by id or by text."""
    ids = {item.passage_id for item in train_items}
    by_text = {_normalised(_text(item)): item.passage_id for item in train_items}
    matches = {
        item.passage_id: Match(
            item.passage_id if item.passage_id in ids else by_text[_normalised(_text(item))],
            item.passage_id,
        )
        for item in dev_items
        if item.passage_id in ids or _normalised(_text(item)) in by_text
    }
    shared = list(matches.values())
    if shared:
        raise DataError(
            f"{len(shared)} passages of task {task!r} are both in train and in dev, the first "
            f"{shared[0].evaluated!r} (in train {shared[0].trained!r}); they must be split by "
            f"passage."
        )


def fingerprints(text: str) -> frozenset[str]:
    """Winnowed hashes (8 hexadecimal digits each) of a text's letters and digits.

    Case, punctuation, white space and Unicode compatibility forms do not matter.
    """
    letters = _normalised(text)
    hashes = [
        hashlib.blake2b(letters[at : at + GRAM].encode(), digest_size=4).hexdigest()
        for at in range(max(1, len(letters) - GRAM + 1))
    ]
    windows = range(max(1, len(hashes) - WINDOW + 1))
    return frozenset(min(hashes[at : at + WINDOW]) for at in windows)


def _normalised(text: str) -> str:
    return "".join(
        character
        for character in unicodedata.normalize("NFKC", text).casefold()
        if character.isalnum()
    )


def _text(item: Item) -> str:
    """The passage of an item; question and sorted options if it has none."""
    return item.passage or " ".join((item.question, *sorted(item.options)))


def _prints(items: Iterable[Item]) -> dict[str, frozenset[str]]:
    """The fingerprints of each passage, in all languages of the items."""
    texts: dict[str, set[str]] = {}
    for item in items:
        texts.setdefault(item.passage_id, set()).add(_text(item))
    return {
        passage: frozenset().union(*map(fingerprints, of_passage))
        for passage, of_passage in texts.items()
    }


def _equal_texts(
    trained: Mapping[str, Sequence[str]], evaluated: Mapping[str, frozenset[str]]
) -> list[Match]:
    """Passages of one task with the same text under two ids: a duplicate, or ids that changed."""
    names = {frozenset(prints): passage for passage, prints in trained.items()}
    return [
        Match(names[prints], passage)
        for passage, prints in evaluated.items()
        if prints in names and passage not in trained
    ]


def _text_matches(
    trained: Mapping[str, Sequence[str]], evaluated: Mapping[str, frozenset[str]]
) -> list[Match]:
    """Pairs of passages in which one contains the other, by their fingerprints."""
    passages_with: dict[str, list[str]] = {}
    for passage, prints in evaluated.items():
        for print_ in prints:
            passages_with.setdefault(print_, []).append(passage)
    matches = []
    for passage, own_prints in trained.items():
        shared: dict[str, int] = {}
        for print_ in own_prints:
            for other in passages_with.get(print_, ()):
                shared[other] = shared.get(other, 0) + 1
        for other, count in shared.items():
            shorter = min(len(own_prints), len(evaluated[other]))
            identical = count == len(own_prints) == len(evaluated[other])
            if identical or (count >= MIN_SHARED and count >= MIN_SHARE * shorter):
                matches.append(Match(passage, other))
    return matches
