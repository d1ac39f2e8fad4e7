"""Tasks: parallel multiple-choice sets, one to a module.

`open_task` finds a set and the languages it has; `items` and `parallel_items` read it.
"""

from collections.abc import Sequence

from isogloss.errors import ConfigError, DataError
from isogloss.languages import language as known_language
from isogloss.tasks import belebele, files, probe, sib200
from isogloss.tasks.items import Item, Task
from isogloss.types import Format, Normalisation, Split

__all__ = [
    "TASKS",
    "Format",
    "Item",
    "Normalisation",
    "Split",
    "Task",
    "items",
    "languages_of",
    "open_task",
    "parallel_items",
]

SHOWN = 3  # offenders in the message of an error


def _open_probe(data_dir: str | None) -> Task:
    if data_dir is not None:
        raise ConfigError(
            f"task 'probe' is drawn from templates and takes no data_dir but got {data_dir!r}."
        )

    def read(language: str, split: Split) -> list[Item]:
        parts: tuple[Split, ...] = (
            (Split.TRAIN, Split.DEV, Split.TEST) if split == Split.ALL else (split,)
        )
        return [item for part in parts for item in probe.load(language, part)]

    return Task(
        "probe", probe.languages(), read, format=Format.CLOZE, normalisation=Normalisation.LENGTH
    )


TASKS = {
    "probe": _open_probe,
    "sib200": sib200.open_task,
    "belebele": belebele.open_task,
    "files": files.open_task,
}


def open_task(name: str, data_dir: str | None) -> Task:
    """The task of that name, with the languages that its data have; nothing is read yet.

    Raises ConfigError for a name that is not one of TASKS, DataError for data that are not there.
    """
    if name not in TASKS:
        raise ConfigError(f"task {name!r} is not one of {', '.join(TASKS)}.")
    return TASKS[name](data_dir)


def languages_of(task: Task, chosen: tuple[str, ...] | None) -> tuple[str, ...]:
    """The chosen languages, or all that the task has; ConfigError names one that it has not."""
    for code in chosen or ():
        known_language(code)
        if code not in task.languages:
            raise ConfigError(
                f"task {task.name!r} has no language {code!r}; it has {', '.join(task.languages)}."
            )
    return chosen or task.languages


def items(task: Task, language: str, split: Split, limit: int | None) -> list[Item]:
    """The first `limit` items (None: all) of a language's split; DataError if it has none."""
    return _read(task, language, split)[:limit]


def parallel_items(
    task: Task, languages: Sequence[str], split: Split, limit: int | None
) -> dict[str, list[Item]]:
    """The first `limit` items (None: all) of each language.

    Where the task is parallel, raises DataError unless all languages have the same items in the
    same order, each with the same passage_id, answer and number of options. The whole split is
    compared, not only its first items.
    """
    found = {code: _read(task, code, split) for code in languages}
    if task.parallel:
        for code in languages[1:]:
            _check_parallel(task, languages[0], found[languages[0]], code, found[code])
    return {code: whole[:limit] for code, whole in found.items()}


def _read(task: Task, language: str, split: Split) -> list[Item]:
    found = task.read(language, split)
    if not found:
        raise DataError(f"task {task.name!r} has no items of split {split!r} in {language}.")
    return found


def _check_parallel(
    task: Task, first: str, reference: list[Item], other: str, found: list[Item]
) -> None:
    """Raise DataError, naming the first offenders, unless `found` is parallel to `reference`."""
    where = f"task {task.name!r} is not parallel"
    ids, other_ids = [it.item_id for it in reference], [it.item_id for it in found]
    for lacking, held, having, wanted in (
        (other, set(other_ids), first, ids),
        (first, set(ids), other, other_ids),
    ):
        if lost := [item_id for item_id in wanted if item_id not in held]:
            raise DataError(
                f"{where}: {lacking} lacks {len(lost)} items that {having} has: {_shown(lost)} "
                f"({first} has {len(ids)} items, {other} {len(other_ids)})."
            )
    if ids != other_ids:
        place = next(
            i for i, (one, two) in enumerate(zip(ids, other_ids, strict=True)) if one != two
        )
        raise DataError(
            f"{where}: {first} and {other} have their {len(ids)} items in different orders; item "
            f"{place + 1} is {ids[place]} in {first} and {other_ids[place]} in {other}."
        )
    for what, value in (
        ("passage_id", lambda item: item.passage_id),
        ("answer", lambda item: item.answer + 1),
        ("number of options", lambda item: len(item.options)),
    ):
        differing = [
            f"{one.item_id} ({value(one)} and {value(two)})"
            for one, two in zip(reference, found, strict=True)
            if value(one) != value(two)
        ]
        if differing:
            raise DataError(
                f"{where}: {first} and {other} differ in the {what} of {len(differing)} of "
                f"{len(ids)} items: {_shown(differing)}."
            )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
