"""SIB-200: the topic of a sentence, a choice of seven (Adelani et al., EACL 2024).

One folder a language with {train,dev,test}.tsv: index_id, category, text; sentences are those of
FLORES-200, parallel by index_id. Read from the Hub (Davlan/sib200 at a pinned revision, whose files
lie under data/) or from a local folder of either layout. Labels are not divided by their length
when they are scored: all items have the same options, and it would favour the long ones everywhere.
"""

import hashlib
from functools import partial
from pathlib import Path

from isogloss.errors import DataError
from isogloss.languages import table
from isogloss.tasks import hub
from isogloss.tasks.items import Item, Task
from isogloss.tasks.rows import lines_of
from isogloss.types import Format, Normalisation, Split

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
    """The task, read from the folder `data_dir` or else from the Hub.

    Raises DataError if there is no such folder, no language in it or no way to the Hub.
    """
    return Task(
        "sib200",
        languages(data_dir),
        partial(load, data_dir=data_dir),
        format=Format.CLOZE,
        normalisation=Normalisation.NONE,
    )


def languages(data_dir: str | None) -> tuple[str, ...]:
    """Languages that have data, sorted: those isogloss knows of `data_dir` or of the Hub."""
    if data_dir is None:
        paths = [Path(name) for name in hub.listing(HUB, REVISION)]
    else:
        paths = list(hub.local_root(data_dir).glob("*/test.tsv"))
    codes = {path.parent.name for path in paths if path.name == "test.tsv"} & table().keys()
    if not codes:
        raise DataError(
            f"sib200 finds no language in {data_dir or HUB!r}; expected CODE/test.tsv, such as "
            "eng_Latn/test.tsv."
        )
    return tuple(sorted(codes))


def load(language: str, split: Split, data_dir: str | None) -> list[Item]:
    """Items of a language; the passage is the sentence.

    Order is that of the file, but for `test`: that file is sorted by topic, so its items are dealt
    by the sha256 of their ids, the same in every language, and the first few are a fair sample.

    Raises DataError for a language without data, a category that is not one of the seven, an empty
    text or an id that stands twice, with file and line.
    """
    if split == Split.ALL:
        parts: tuple[Split, ...] = (Split.TRAIN, Split.DEV, Split.TEST)
        return [item for part in parts for item in load(language, part, data_dir)]
    name = f"{language}/{split}.tsv"
    if data_dir is None:
        path = hub.download(HUB, REVISION, f"data/{name}")
    else:
        path = hub.local_root(data_dir) / name
        if not path.is_file():
            raise DataError(f"sib200 has no file {path}.")
    seen: set[str] = set()
    items = []
    for place, (index, category, text) in _read(path):
        if category not in TOPICS:
            raise DataError(f"{place}: category {category!r} is not one of {TOPICS}.")
        if not text.strip():
            raise DataError(f"{place}: the text is empty.")
        if index in seen:
            raise DataError(f"{place}: index_id {index} stands twice.")
        seen.add(index)
        items.append(
            Item(
                item_id=index,
                passage_id=index,
                language=language,
                passage=text.strip(),
                question=QUESTION,
                options=TOPICS,
                answer=TOPICS.index(category),
            )
        )
    if split == Split.TEST:
        items.sort(key=lambda item: hashlib.sha256(item.item_id.encode()).hexdigest())
    return items


def _read(path: Path) -> list[tuple[str, list[str]]]:
    """COLUMNS of every row, with its place; quotes are text like any other."""
    lines = enumerate(lines_of(path), start=1)
    _, first = next(lines, (1, ""))
    header = first.rstrip("\r\n").split("\t")
    if missing := set(COLUMNS) - set(header):
        raise DataError(f"{path} has no column {', '.join(sorted(missing))}.")
    places = [header.index(name) for name in COLUMNS]
    found = []
    for number, line in lines:
        if not line.strip():
            continue
        row = line.rstrip("\r\n").split("\t")
        if len(row) != len(header):
            raise DataError(
                f"{path}:{number}: {len(row)} values between tabs but {len(header)} columns."
            )
        found.append((f"{path}:{number}", [row[place] for place in places]))
    return found
