"""Belebele: reading comprehension in 122 languages (Bandarkar et al., ACL 2024).

One file CODE.jsonl per language, 900 questions on 488 FLORES-200 passages, parallel by link and
question_number. Read from the Hub (facebook/belebele at a pinned revision, files under data/) or
from a local folder with either layout, also as CODE.parquet. The set has no splits of its own:
train, dev and test are split by passage. Two or three items per language have two identical
options, a known fault of the data.
"""

from functools import partial
from pathlib import Path

from isogloss.errors import DataError
from isogloss.files import looked_for
from isogloss.languages import table
from isogloss.row_files import Row, extension, read_rows, stem
from isogloss.tasks import hub
from isogloss.tasks.checks import LocatedItem, check_items, text_of, value_of
from isogloss.tasks.folders import files_by_name, only_file
from isogloss.tasks.items import Item, Task
from isogloss.tasks.splits import sort_key, split_of
from isogloss.types import Format, Normalisation, Split

HUB = "facebook/belebele"
REVISION = "75b399394a9803252cfec289d103de462763db7c"
EXTENSIONS = (".jsonl", ".parquet")
TEXTS = ("link", "flores_passage", "question", *(f"mc_answer{number}" for number in range(1, 5)))


def open_task(data_dir: str | None) -> Task:
    """The task, read from the folder `data_dir` or, without one, from the Hub.

    Raises DataError if there is no such folder, no language in it or no way to the Hub.
    """
    return Task(
        "belebele",
        languages(data_dir),
        partial(load, data_dir=data_dir),
        format=Format.LETTER,
        normalisation=Normalisation.LENGTH,
    )


def languages(data_dir: str | None) -> tuple[str, ...]:
    """Sorted codes of the known languages that have data in `data_dir` or on the Hub."""
    if data_dir is None:
        paths = [Path(name) for name in hub.listing(HUB, REVISION)]
        paths = [path for path in paths if path.parent == Path("data")]
    else:
        by_name = files_by_name(hub.local_root(data_dir), table().keys(), EXTENSIONS)
        paths = [path for paths in by_name.values() for path in paths]
    codes = {stem(path) for path in paths if extension(path) in EXTENSIONS} & table().keys()
    if not codes:
        raise DataError(
            f"belebele finds no language in {data_dir or HUB!r}; expected CODE.jsonl, such as "
            f"eng_Latn.jsonl{looked_for(data_dir)}."
        )
    return tuple(sorted(codes))


def load(language: str, split: Split, data_dir: str | None) -> list[Item]:
    """Items of a language's split, passages sorted by sha256; texts are unchanged.

    Raises DataError for a language without data and, with file and line, for a field that is
    missing, empty or not text, an answer that is not 1 to 4, a repeated item, and a link with two
    different passages.
    """
    if data_dir is None:
        path = hub.download(HUB, REVISION, f"data/{language}.jsonl")
    else:
        root = hub.local_root(data_dir)
        files = files_by_name(root, (language,), EXTENSIONS).get(language, [])
        path = only_file("belebele", root / f"{language}.jsonl", files)
    rows = read_rows(path)
    items = [_item(row, language) for row in rows]
    check_items([LocatedItem(row.place, item) for row, item in zip(rows, items, strict=True)])
    numbered = zip(map(_number, rows), items, strict=True)
    order = sorted(numbered, key=lambda pair: (sort_key(pair[1].passage_id), pair[0]))
    return [item for _, item in order if split in (Split.ALL, split_of(item.passage_id))]


def _item(row: Row, language: str) -> Item:
    link, passage, question, *options = (text_of(row, name) for name in TEXTS)
    answer = value_of(row, "correct_answer_num")
    if str(answer) not in ("1", "2", "3", "4"):
        raise DataError(f"{row.place}: correct_answer_num must be 1 to 4 but is {answer!r}.")
    return Item(
        item_id=f"{link}#{_number(row)}",
        passage_id=link,
        language=language,
        passage=passage,
        question=question,
        options=tuple(options),
        answer=int(answer) - 1,
    )


def _number(row: Row) -> int:
    number = value_of(row, "question_number")
    if not str(number).isdecimal():
        raise DataError(f"{row.place}: question_number must be a number but is {number!r}.")
    return int(number)
