"""Tasks: parallel multiple-choice sets, one module per task.

`open_task` opens a task and lists its languages; `items` and `parallel_items` read it.
"""

from collections.abc import Sequence

from isogloss.errors import ConfigError, DataError
from isogloss.formatting import did_you_mean
from isogloss.languages import language as require_language
from isogloss.tasks import afrixnli, belebele, files, global_mmlu, global_piqa, probe, sib200
from isogloss.tasks.items import Item, Task
from isogloss.types import Split

__all__ = ["TASKS", "Item", "Task", "items", "languages_of", "open_task", "parallel_items"]

SHOWN = 3  # items listed in an error message

TASKS = {
    "probe": probe.open_task,
    "sib200": sib200.open_task,
    "belebele": belebele.open_task,
    "global_mmlu": global_mmlu.open_task,
    "global_piqa_parallel": global_piqa.open_parallel,
    "global_piqa_nonparallel": global_piqa.open_nonparallel,
    "afrixnli": afrixnli.open_task,
    "files": files.open_task,
}


def open_task(name: str, data_dir: str | None) -> Task:
    """The task of that name, with the languages that have data; no item is read yet.

    Raises ConfigError for a name that is not in TASKS, DataError if the data are missing.
    """
    if name not in TASKS:
        ending = did_you_mean(name, TASKS)
        raise ConfigError(f"task {name!r} is not one of {', '.join(TASKS)}{ending}")
    return TASKS[name](data_dir)


def languages_of(task: Task, chosen: tuple[str, ...] | None) -> tuple[str, ...]:
    """The chosen languages, or all languages of the task; ConfigError if the task lacks one."""
    for code in chosen or ():
        require_language(code)
        if code not in task.languages:
            raise ConfigError(
                f"task {task.name!r} has no language {code!r}; it has {', '.join(task.languages)}."
            )
    return chosen or task.languages


def items(task: Task, language: str, split: Split, limit: int | None) -> list[Item]:
    """The first `limit` items (None: all) of a language's split; DataError if it is empty."""
    return _read(task, language, split)[:limit]


def parallel_items(
    task: Task, languages: Sequence[str], split: Split, limit: int | None
) -> dict[str, list[Item]]:
    """The first `limit` items (None: all) of each language.

    If the task is parallel, raises DataError unless all languages have the same items in the same
    order, with the same passage_id, answer and number of options. The whole split is compared, not
    only the first items.
    """
    by_language = {code: _read(task, code, split) for code in languages}
    if task.parallel:
        first = languages[0]
        for code in languages[1:]:
            _check_parallel(task, split, first, by_language[first], code, by_language[code])
    return {code: whole[:limit] for code, whole in by_language.items()}


def _read(task: Task, language: str, split: Split) -> list[Item]:
    split_items = task.read(language, split)
    if not split_items:
        raise DataError(f"task {task.name!r} has no items of split {str(split)!r} in {language}.")
    return split_items


def _check_parallel(
    task: Task,
    split: Split,
    first: str,
    first_items: list[Item],
    other: str,
    other_items: list[Item],
) -> None:
    """Raise DataError that lists the first differing items of two languages, if there are any."""
    prefix = f"task {task.name!r} is not parallel in split {str(split)!r}"
    first_ids = [item.item_id for item in first_items]
    other_ids = [item.item_id for item in other_items]
    for language, ids, reference, reference_ids in (
        (other, set(other_ids), first, first_ids),
        (first, set(first_ids), other, other_ids),
    ):
        if missing := [item_id for item_id in reference_ids if item_id not in ids]:
            raise DataError(
                f"{prefix}: {language} lacks {len(missing)} items that {reference} has: "
                f"{_shown(missing)} ({first} has {len(first_ids)} items, {other} "
                f"{len(other_ids)})."
            )
    pairs = list(zip(first_items, other_items, strict=True))
    for number, (left, right) in enumerate(pairs, start=1):
        if left.item_id != right.item_id:
            raise DataError(
                f"{prefix}: {first} and {other} have their {len(pairs)} items in different "
                f"orders; item {number} is {left.item_id} in {first} and {right.item_id} in "
                f"{other}."
            )
    for name, value in (
        ("passage_id", lambda item: item.passage_id),
        ("answer", lambda item: item.answer + 1),
        ("number of options", lambda item: len(item.options)),
    ):
        differing = [
            f"{left.item_id} ({value(left)} and {value(right)})"
            for left, right in pairs
            if value(left) != value(right)
        ]
        if differing:
            raise DataError(
                f"{prefix}: {first} and {other} differ in the {name} of {len(differing)} of "
                f"{len(pairs)} items: {_shown(differing)}."
            )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
