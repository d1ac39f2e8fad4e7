"""files: the user's own multiple-choice questions, one file a language, or a data set on the Hub.

Columns are question, options (a list, or option_1, option_2, ...) and answer, and where there are
such item_id, passage_id, passage and split. `task.yaml` says what they are called otherwise. An
item without item_id is known by the number of its row; one without passage_id by the first item
with the same passage: either is parallel where files are parallel row by row.
"""

import re
import string
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from isogloss.errors import DataError
from isogloss.languages import language as known_language
from isogloss.languages import table
from isogloss.tasks import hub
from isogloss.tasks.checks import Placed, check_items, check_options
from isogloss.tasks.description import Description, read_description
from isogloss.tasks.items import Item, Task
from isogloss.tasks.rows import READERS, Row, read_rows
from isogloss.tasks.splits import SHARES, place_of, split_of
from isogloss.types import Split

NUMBERED = re.compile(r"option_([1-9]\d*)")
CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


class Given(NamedTuple):
    """A row, its id if it names none, and its split if the source names one."""

    row: Row
    number: str
    split: Split | None


def open_task(data_dir: str | None) -> Task:
    """The task that `data_dir` (a folder or a YAML file) describes.

    Raises ConfigError for a description that cannot be used, DataError for files that are missing
    or stand twice.
    """
    description, folder = read_description(data_dir)
    if description.hub is None:
        paths = find_files(description, folder)
        languages, read = tuple(paths), partial(_from_folder, paths)
    else:
        names = description.languages or {}
        languages = tuple(names)
        read = partial(_from_hub, description, description.hub, names)

    def load(language: str, split: Split) -> list[Item]:
        return to_items(description, language, split, read(language))

    return Task(
        description.name,
        tuple(sorted(languages)),
        load,
        format=description.format,
        normalisation=description.normalisation,
        parallel=description.parallel,
    )


def find_files(description: Description, folder: Path) -> dict[str, Path]:
    """The file of each language: of those described or, if none are, of all in the folder.

    Raises DataError for a folder without any, a language without a file or with two; ConfigError
    for a file whose name has the form of a code but is none that isogloss knows.
    """
    if not folder.is_dir():
        raise DataError(f"{description.name!r} has no folder {folder}.")
    by_name: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in READERS:
            by_name.setdefault(path.stem, []).append(path)
    wanted = description.languages
    if wanted is None:
        for name in by_name:
            if CODE.fullmatch(name):
                known_language(name)
        wanted = {name: name for name in by_name if name in table()}
    if not wanted:
        raise DataError(
            f"{folder} has no file of a language; expected names such as eng_Latn.jsonl, with "
            f"{', '.join(READERS)}."
        )
    for code, name in wanted.items():
        paths = by_name.get(name, [])
        if not paths:
            raise DataError(f"{folder} has no file {name} with {', '.join(READERS)} for {code}.")
        if len(paths) > 1:
            listed = " and ".join(path.name for path in paths)
            raise DataError(f"{folder} has {listed} for {code}; expected one file.")
    return {code: by_name[name][0] for code, name in wanted.items()}


def to_items(
    description: Description, language: str, split: Split, given: list[Given]
) -> list[Item]:
    """Items of a language's split from all rows that there are, in an order fixed by their ids.

    Raises DataError, naming file and line, for a column that is missing, a value of another type,
    an item that no model could be asked, and a passage that is in two splits.
    """
    named = any(it.split or "split" in it.row.values for it in given) or description.splits
    firsts: dict[str, str] = {}
    placed, splits = [], []
    for it in given:
        item = _item(description, language, it, firsts)
        placed.append(Placed(it.row.place, item))
        splits.append(_named_split(description, it) if named else split_of(item.passage_id))
    check_items(placed)
    _check_splits(placed, splits)
    chosen = [
        item for (_, item), own in zip(placed, splits, strict=True) if split in (Split.ALL, own)
    ]
    return sorted(chosen, key=lambda it: (place_of(it.passage_id), place_of(it.item_id)))


def _from_folder(paths: dict[str, Path], language: str) -> list[Given]:
    rows = read_rows(paths[language])
    return [Given(row, str(number), None) for number, row in enumerate(rows, start=1)]


def _from_hub(
    description: Description, repository: str, names: dict[str, str], language: str
) -> list[Given]:
    config, data_files = (
        None if pattern is None else pattern.replace("{language}", names[language])
        for pattern in (description.config, description.data_files)
    )
    found = hub.load_splits(
        repository, description.revision, config, data_files, description.splits
    )
    return [
        Given(row, f"{split}-{number}" if split else str(number), split)
        for split, rows in found
        for number, row in enumerate(rows, start=1)
    ]


def _item(description: Description, language: str, given: Given, firsts: dict[str, str]) -> Item:
    """The item of a row; `firsts` holds the first item_id of each passage so far."""
    row, columns = given.row, description.columns
    options = _options(description, row)
    passage = _optional(row, columns.passage, "passage") or ""
    item_id = _optional(row, columns.item_id, "item_id")
    item_id = given.number if item_id is None else item_id
    first = firsts.setdefault(passage, item_id) if passage.strip() else item_id
    return Item(
        item_id=item_id,
        passage_id=_optional(row, columns.passage_id, "passage_id") or first,
        language=language,
        passage=passage,
        question=_text(row, columns.question),
        options=options,
        answer=_answer(description, row, options),
    )


def _options(description: Description, row: Row) -> tuple[str, ...]:
    names = description.columns.options
    if names is None and "options" in row.values:
        names = "options"
    if names is None:
        numbers = [int(it[1]) for it in map(NUMBERED.fullmatch, row.values) if it]
        if not numbers:
            raise DataError(f"{row.place}: there is no options, nor option_1, option_2 and so on.")
        names = tuple(f"option_{number}" for number in range(1, max(numbers) + 1))
    if isinstance(names, str):
        values = _field(row, names)
        if not isinstance(values, list):
            raise DataError(f"{row.place}: {names} must be a list but is {values!r}.")
        named = [(f"{names} {number}", value) for number, value in enumerate(values, start=1)]
    else:
        named = [(name, _field(row, name)) for name in names]
        while named and named[-1][1] in (None, ""):
            named.pop()
    options = tuple(_as_text(row, name, value) for name, value in named)
    check_options(row.place, options)
    return options


def _answer(description: Description, row: Row, options: tuple[str, ...]) -> int:
    name, start = description.columns.answer, description.answer_from
    answer = _text(row, name)
    if start == "text":
        accepted = list(options)
    elif start == "letter":
        accepted = list(string.ascii_uppercase[: len(options)])
        answer = answer.strip().upper()
    else:
        accepted = [str(start + place) for place in range(len(options))]
        answer = answer.strip()
    if accepted.count(answer) != 1:
        raise DataError(
            f"{row.place}: {name} must be exactly one of {', '.join(accepted)} but is {answer!r}."
        )
    return accepted.index(answer)


def _named_split(description: Description, given: Given) -> Split:
    if given.split:
        return given.split
    accepted: dict[str, Split] = (
        {name: split for split, name in description.splits.items()}
        if description.splits
        else {split: split for split in SHARES}
    )
    value = _field(given.row, "split")
    if value not in accepted:
        raise DataError(
            f"{given.row.place}: split must be one of {', '.join(accepted)} but is {value!r}."
        )
    return accepted[value]


def _check_splits(placed: list[Placed], splits: list[Split]) -> None:
    firsts: dict[str, tuple[Split, str]] = {}
    for (place, item), split in zip(placed, splits, strict=True):
        first, first_place = firsts.setdefault(item.passage_id, (split, place))
        if first != split:
            raise DataError(
                f"{place}: passage {item.passage_id!r} is in {split} but at {first_place} in "
                f"{first}."
            )


def _optional(row: Row, column: str | None, default: str) -> str | None:
    """Text of a column; None where it is neither named nor there, or has nothing but a null."""
    if column is None and default not in row.values:
        return None
    value = _field(row, column or default)
    return None if value is None else _as_text(row, column or default, value)


def _text(row: Row, column: str) -> str:
    return _as_text(row, column, _field(row, column))


def _field(row: Row, column: str) -> Any:
    if column not in row.values:
        raise DataError(
            f"{row.place}: there is no {column}; there are {', '.join(map(str, row.values))}."
        )
    return row.values[column]


def _as_text(row: Row, column: str, value: Any) -> str:
    """Text as it stands and whole numbers in digits: options may be numbers in JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{row.place}: {column} must be text but is {value!r}.")
    return value
