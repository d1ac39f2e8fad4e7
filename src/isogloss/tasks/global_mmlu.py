"""Global-MMLU: exam questions on 57 subjects in 42 languages (Singh et al., ACL 2025).

A folder per language (`en`, `sw`) with test-00000-of-00001.parquet, 14,042 questions, and
dev-00000-of-00001.parquet, 285 questions, parallel by sample_id (`anatomy/test/7`), which begins
with the subject. Read from the Hub (CohereLabs/Global-MMLU at a pinned revision, Apache 2.0) or
from a local folder with that layout, which Global-MMLU-Lite also has. Questions have no passage, so
each is a cluster of its own. Adapters train on the questions of dev: a hash assigns each of them to
train (80%) or dev (20%).
"""

from functools import partial

from isogloss.errors import DataError
from isogloss.row_files import Row, read_parquet
from isogloss.tasks.checks import LocatedItem, check_items, check_options, text_of, value_of
from isogloss.tasks.hub_files import HubFiles, hub_names, of_split
from isogloss.tasks.items import Item, Task
from isogloss.types import Format, LanguageCode, Normalisation, Split

REVISION = "0e619dbeb34206cd48705a1a0ea7fb21cae09993"
FILES = HubFiles(
    "global_mmlu",
    "CohereLabs/Global-MMLU",
    REVISION,
    "{name}/{split}-00000-of-00001.parquet",
    {**hub_names("global_mmlu"), **hub_names("global_mmlu_lite")},
)
OPTIONS = ("option_a", "option_b", "option_c", "option_d")
LETTERS = "ABCD"


def open_task(data_dir: str | None) -> Task:
    """The task, read from the folder `data_dir` or, without one, from the Hub.

    Raises DataError if there is no such folder, no language in it or no way to the Hub.
    """
    return Task(
        FILES.task,
        FILES.languages(data_dir),
        partial(load, data_dir=data_dir),
        format=Format.LETTER,
        normalisation=Normalisation.LENGTH,
    )


def load(language: LanguageCode, split: Split, data_dir: str | None) -> list[Item]:
    """Items of a language's split, sorted by the sha256 of their ids; texts are unchanged.

    Raises DataError for a language without data and, with file and row, for a field that is
    missing, empty or not text, an answer that is not A to D, and a repeated id.
    """
    return of_split(lambda file: _items(language, file, data_dir), split)


def _items(language: LanguageCode, split: Split, data_dir: str | None) -> list[Item]:
    """All items of a file."""
    rows = read_parquet(FILES.file(language, split, data_dir))
    items = [_item(row, language) for row in rows]
    check_items([LocatedItem(row.place, item) for row, item in zip(rows, items, strict=True)])
    return items


def _item(row: Row, language: LanguageCode) -> Item:
    sample_id, question = text_of(row, "sample_id"), text_of(row, "question")
    options = tuple(text_of(row, name) for name in OPTIONS)
    check_options(row.place, options)
    answer = value_of(row, "answer")
    if not isinstance(answer, str) or answer not in tuple(LETTERS):
        raise DataError(f"{row.place}: answer must be A, B, C or D but is {answer!r}.")
    return Item(
        item_id=sample_id,
        passage_id=sample_id,
        language=language,
        passage="",
        question=question,
        options=options,
        answer=LETTERS.index(answer),
    )
