"""SIB-200: the topic of a sentence, a choice of seven (Adelani et al., EACL 2024).

One folder per language with {train,dev,test}.tsv: index_id, category, text; sentences are from
FLORES-200, parallel by index_id. Read from the Hub (Davlan/sib200 at a pinned revision, files under
data/) or from a local folder with either layout. Cloze scores are not normalised by length: all
items have the same options, and normalisation would favour the long ones everywhere.
"""

import hashlib
import logging
from collections import Counter
from functools import partial
from pathlib import Path

from isogloss.errors import DataError
from isogloss.files import looked_for
from isogloss.languages import table
from isogloss.row_files import Row, read_separated
from isogloss.tasks import hub
from isogloss.tasks.folders import files_by_name, only_file
from isogloss.tasks.items import Item, Task
from isogloss.tasks.splits import SHARES
from isogloss.types import Format, Normalisation, Split

logger = logging.getLogger(__name__)

HUB = "Davlan/sib200"
REVISION = "38977a667f6fc264d5c26ec57a01e16db040b358"
COLUMNS = ("index_id", "category", "text")
TOPICS = (
    "science/technology",
    "travel",
    "politics",
    "sports",
    "health",
    "entertainment",
    "geography",
)
QUESTION = "What is the topic of this text?"


def open_task(data_dir: str | None) -> Task:
    """The task, read from the folder `data_dir` or, without one, from the Hub.

    Raises DataError if there is no such folder, no language in it or no way to the Hub.
    """
    return Task(
        "sib200",
        languages(data_dir),
        partial(load, data_dir=data_dir),
        format=Format.CLOZE,
        normalisation=Normalisation.NONE,
        own_texts=True,
    )


def languages(data_dir: str | None) -> tuple[str, ...]:
    """Sorted codes of the known languages that have data in `data_dir` or on the Hub."""
    if data_dir is None:
        paths = [Path(name) for name in hub.listing(HUB, REVISION)]
        codes = {path.parent.name for path in paths if path.name == "test.tsv"} & table().keys()
    else:
        folders = [
            folder
            for folder in sorted(hub.local_root(data_dir).iterdir())
            if folder.is_dir() and folder.name in table()
        ]
        codes = {folder.name for folder in folders if Split.TEST in _files(folder)}
        if without := [folder.name for folder in folders if folder.name not in codes]:
            logger.warning(f"sib200 finds no test.tsv in {', '.join(without)} of {data_dir}")
    if not codes:
        raise DataError(
            f"sib200 finds no language in {data_dir or HUB!r}; expected CODE/test.tsv, such as "
            f"eng_Latn/test.tsv{looked_for(data_dir)}."
        )
    return tuple(sorted(codes))


def _files(folder: Path) -> dict[str, list[Path]]:
    """The files of a language by split."""
    return files_by_name(folder, tuple(SHARES), (".tsv",))


def load(language: str, split: Split, data_dir: str | None) -> list[Item]:
    """Items of a language's split; the passage is the sentence.

    Items are in file order, except for `test`: that file is sorted by topic, so its items are
    sorted by the sha256 of their ids, the same in every language, and the first few are a fair
    sample. Raises DataError for a language without data and, with file and line, for an unknown
    category, an empty text or a repeated id.
    """
    if split == Split.ALL:
        parts = (Split.TRAIN, Split.DEV, Split.TEST)
        whole = [item for part in parts for item in load(language, part, data_dir)]
        counts = Counter(item.item_id for item in whole)
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise DataError(
                f"sib200 has index_id {', '.join(repeated[:3])} in two files of {language}; ids "
                "must be unique in train, dev and test together."
            )
        return whole
    if data_dir is None:
        path = hub.download(HUB, REVISION, f"data/{language}/{split}.tsv")
    else:
        folder = hub.local_root(data_dir) / language
        files = _files(folder).get(split, []) if folder.is_dir() else []
        path = only_file("sib200", folder / f"{split}.tsv", files)
    rows = read_separated(path, "\t", quoted=False)
    if rows and (missing := set(COLUMNS) - rows[0].values.keys()):
        raise DataError(f"{path} has no column {', '.join(sorted(missing))}.")
    items = [_item(row, language) for row in rows]
    ids: set[str] = set()
    for row, item in zip(rows, items, strict=True):
        if item.item_id in ids:
            raise DataError(f"{row.place}: duplicate index_id {item.item_id}.")
        ids.add(item.item_id)
    if split == Split.TEST:
        items.sort(key=lambda item: hashlib.sha256(item.item_id.encode()).hexdigest())
    return items


def _item(row: Row, language: str) -> Item:
    index_id, category, text = (row.values[name] for name in COLUMNS)
    if category not in TOPICS:
        raise DataError(f"{row.place}: category {category!r} is not one of {', '.join(TOPICS)}.")
    if not text.strip():
        raise DataError(f"{row.place}: the text is empty.")
    return Item(
        item_id=index_id,
        passage_id=index_id,
        language=language,
        passage=text.strip(),
        question=QUESTION,
        options=TOPICS,
        answer=TOPICS.index(category),
    )
