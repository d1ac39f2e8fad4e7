"""files: the user's own multiple-choice questions, one file per language, or a data set on the Hub.

Columns are question, options (a list, or option_1, option_2, ...) and answer; optional ones are
item_id, passage_id, passage and split. `task.yaml` maps other column names. Without an item_id
column the id is the row number; without passage_id it is the id of the first item with the same
passage. Both are parallel if the files are parallel row by row.
"""

import logging
import re
import string
import unicodedata
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, NoReturn

from isogloss.errors import DataError
from isogloss.languages import language as known_language
from isogloss.languages import table
from isogloss.row_files import READERS, Row, check_unicode, read_rows
from isogloss.tasks import hub
from isogloss.tasks.checks import LocatedItem, check_items, check_options
from isogloss.tasks.description import Description, read_description
from isogloss.tasks.folders import files_by_name
from isogloss.tasks.items import Item, Task
from isogloss.tasks.splits import SHARES, sort_key, split_of
from isogloss.types import Split

SPLIT = "split"  # the column that names the split, unless the description names another
OPTIONAL = ("item_id", "passage_id", "passage", SPLIT)
NUMBERED = re.compile(r"option_([1-9]\d{0,8})")
CODE = re.compile(r"[a-z]{3}[-_][a-z]{4}", re.IGNORECASE)  # in any spelling

logger = logging.getLogger(__name__)


class TaskRow(NamedTuple):
    """A row, the id it has without an item_id column, and its split if the data set names it."""

    row: Row
    default_id: str
    split: Split | None


def open_task(data_dir: str | None) -> Task:
    """The task described by `data_dir`, a folder or a YAML file.

    Raises ConfigError for an invalid description, DataError for missing or ambiguous files.
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
        evaluation_only=description.evaluation_only,
    )


def find_files(description: Description, folder: Path) -> dict[str, Path]:
    """The file of each language in the description or, if it lists none, in the folder.

    Raises DataError for a folder without data files and for a language with no or two files;
    ConfigError for a file that is named like a language code but is not a known one.
    """
    if not folder.is_dir():
        raise DataError(f"the folder {folder} of task {description.name!r} does not exist.")
    names = description.languages
    by_name = files_by_name(folder, tuple(table()) if names is None else tuple(names.values()))
    if names is None:
        for name in by_name:
            if CODE.fullmatch(name):
                known_language(name)
        names = {name: name for name in by_name if name in table()}
        _name_others(folder, by_name)
    if not names:
        present = ", ".join(sorted(path.name for paths in by_name.values() for path in paths))
        raise DataError(
            f"{folder} has no file for any language{f' but {present}' if present else ''}; "
            f"expected names such as eng_Latn.jsonl, with the extension {', '.join(READERS)}, or a "
            "task.yaml that maps codes to names under languages."
        )
    for code, name in names.items():
        paths = by_name.get(name, [])
        if not paths:
            raise DataError(f"{folder} has no file {name} with {', '.join(READERS)} for {code}.")
        if len(paths) > 1:
            listed = " and ".join(path.name for path in paths)
            raise DataError(f"{folder} has {listed} for {code}; expected one file.")
    return {code: by_name[name][0] for code, name in names.items()}


def _name_others(folder: Path, by_name: dict[str, list[Path]]) -> None:
    """Log the files that no language is read from."""
    others = [path.name for name in by_name.keys() - table().keys() for path in by_name[name]]
    if others:
        logger.warning(
            f"{folder}: ignoring {', '.join(sorted(others))}, not named by a language code; "
            "task.yaml can map codes to names under languages"
        )


def to_items(
    description: Description, language: str, split: Split, rows: list[TaskRow]
) -> list[Item]:
    """Items of a language's split, from all rows of the language, sorted by the hash of their ids.

    Raises DataError, naming file and line, for a missing column, a value of the wrong type, an
    invalid item, and a passage in two splits.
    """
    column = description.columns.split
    named = (
        column or description.splits or any(row.split or SPLIT in row.row.values for row in rows)
    )
    first_ids: dict[str, str] = {}
    located, splits = [], []
    for row in rows:
        item = _item(description, language, row, first_ids)
        located.append(LocatedItem(row.row.place, item))
        splits.append(_named_split(description, row) if named else split_of(item.passage_id))
    check_items(located)
    _check_splits(located, splits)
    _check_columns(description, [row.row for row in rows])
    chosen = [
        item
        for (_, item), item_split in zip(located, splits, strict=True)
        if split in (Split.ALL, item_split)
    ]
    return sorted(chosen, key=lambda item: (sort_key(item.passage_id), sort_key(item.item_id)))


def _check_columns(description: Description, rows: list[Row]) -> None:
    """Raise DataError for a column that is in some rows only, or is named almost as one of ours.

    Such a column would be overlooked without a word: questions would be asked without their
    passage. Others that are not read are logged.
    """
    present: dict[str, Row] = {}
    for row in rows:
        for name in row.values:
            present.setdefault(str(name), row)
    columns = description.columns.model_dump()
    read = {name: columns[name] or name for name in (*OPTIONAL, "question", "answer")}
    for row in rows:
        for name in OPTIONAL:
            if read[name] in present and read[name] not in row.values:
                raise DataError(
                    f"{row.place}: there is no column {read[name]}, which other rows have; write "
                    "null or an empty value where there is none."
                )
    options = columns["options"]
    used = {*read.values(), *([options] if isinstance(options, str) else options or ())}
    unread = []
    for name, row in present.items():
        if name in used or (options is None and (name == "options" or NUMBERED.fullmatch(name))):
            continue
        plain = re.sub(r"[\W_]", "", name).casefold()
        meant = next((own for own in OPTIONAL if own.replace("_", "") == plain), None)
        if meant is not None and read[meant] == meant and meant not in present:
            _refuse_name(row, name, meant)
        if options is None and (plain == "options" or re.fullmatch(r"option\d+", plain)):
            _refuse_name(row, name, "options, or option_1, option_2, ...")
        unread.append(name)
    if unread:
        _log_unread(description.name, ", ".join(unread))


@cache
def _log_unread(task: str, names: str) -> None:
    """Log, once for all languages, the columns that are not read."""
    logger.warning(f"the columns {names} of task {task!r} are not read")


def _refuse_name(row: Row, name: str, expected: str) -> NoReturn:
    raise DataError(
        f"{row.place}: the column {name!r} is not read; rename it to {expected}, or name it under "
        "columns in task.yaml."
    )


def _from_folder(paths: dict[str, Path], language: str) -> list[TaskRow]:
    rows = read_rows(paths[language])
    return [TaskRow(row, str(number), None) for number, row in enumerate(rows, start=1)]


def _from_hub(
    description: Description, repository: str, names: dict[str, str], language: str
) -> list[TaskRow]:
    config, data_files = (
        None if pattern is None else pattern.replace("{language}", names[language])
        for pattern in (description.config, description.data_files)
    )
    splits = hub.load_splits(
        repository, description.revision, config, data_files, description.splits
    )
    return [
        TaskRow(row, f"{split}-{number}" if split else str(number), split)
        for split, rows in splits
        for number, row in enumerate(rows, start=1)
    ]


def _item(
    description: Description, language: str, task_row: TaskRow, first_ids: dict[str, str]
) -> Item:
    """The item of a row; `first_ids` collects the first item_id of each passage."""
    row, columns = task_row.row, description.columns
    options = _options(description, row)
    passage = _optional(row, columns.passage, "passage") or ""
    item_id = _optional(row, columns.item_id, "item_id")
    item_id = task_row.default_id if item_id is None else item_id
    first = first_ids.setdefault(passage, item_id) if passage.strip() else item_id
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
        matches = map(NUMBERED.fullmatch, row.values)
        numbers = [int(match[1]) for match in matches if match]
        if not numbers:
            raise DataError(f"{row.place}: there is no column options, nor option_1, option_2, ...")
        last = min(max(numbers), len(row.values) + 1)  # a number may be larger than any table
        names = tuple(f"option_{number}" for number in range(1, last + 1))
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
        if answer not in accepted:  # composed or decomposed letters, spaces at the ends
            answer, *accepted = map(_folded, (answer, *options))
    elif start == "letter":
        accepted = list(string.ascii_uppercase[: len(options)])
        answer = answer.strip().upper()
    else:
        accepted = [str(start + place) for place in range(len(options))]
        answer = answer.strip()
    if accepted.count(answer) != 1:
        raise DataError(
            f"{row.place}: {name} must be exactly one of {', '.join(accepted)} but is {answer!r} "
            f"(answer_from in task.yaml, here {start}, says how answers are written)."
        )
    return accepted.index(answer)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _named_split(description: Description, row: TaskRow) -> Split:
    if row.split:
        return row.split
    accepted: dict[str, Split] = (
        {name: split for split, name in description.splits.items()}
        if description.splits
        else {split: split for split in SHARES}
    )
    column = description.columns.split or SPLIT
    value = _field(row.row, column)
    if not isinstance(value, str) or value not in accepted:
        raise DataError(
            f"{row.row.place}: {column} must be one of {', '.join(accepted)} but is {value!r}."
        )
    return accepted[value]


def _check_splits(items: list[LocatedItem], splits: list[Split]) -> None:
    firsts: dict[str, tuple[Split, str]] = {}
    for (place, item), split in zip(items, splits, strict=True):
        first, first_place = firsts.setdefault(item.passage_id, (split, place))
        if first != split:
            raise DataError(
                f"{place}: passage {item.passage_id!r} is in {split} here but in {first} at "
                f"{first_place}."
            )


def _optional(row: Row, column: str | None, default: str) -> str | None:
    """Text of a column; None if it is neither described nor present, or its value is null."""
    if column is None and default not in row.values:
        return None
    value = _field(row, column or default)
    return None if value is None else _as_text(row, column or default, value)


def _text(row: Row, column: str) -> str:
    return _as_text(row, column, _field(row, column))


def _field(row: Row, column: str) -> object:
    if column not in row.values:
        raise DataError(
            f"{row.place}: there is no column {column}; the columns are "
            f"{', '.join(map(str, row.values))}."
        )
    return row.values[column]


def _as_text(row: Row, column: str, value: object) -> str:
    """Text unchanged, whole numbers as digits: options may be numbers in JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{row.place}: {column} must be text but is {value!r}.")
    check_unicode(row.place, column, value)
    return value
