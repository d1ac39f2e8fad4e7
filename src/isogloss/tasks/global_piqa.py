"""Global PIQA: everyday physical knowledge in over 100 languages (Chang et al., arXiv:2510.24081).

Two tasks. `global_piqa_parallel`: 103 questions with four solutions, translated from English and
corrected by speakers, parallel by example_id. `global_piqa_nonparallel`: 100 questions per language
with two solutions, written in the language by its speakers. Its questions differ between languages,
so that the ids of its items begin with the language.

One file per language, parallel_NAME.tsv or nonparallel_NAME.tsv, with prompt, solution0, solution1,
..., label (the number of the right solution) and example_id. Read from the Hub
(mrlbenchmarks/global-piqa-parallel and -nonparallel at pinned revisions, files under data/) or from
a local folder with either layout.

The licence is CC BY-SA 4.0, and the cards allow evaluation alone: no training of AI systems on
Global PIQA, nor on data made from it. All items are test items, and no adapter is trained on them.
"""

from functools import partial

from isogloss.errors import DataError
from isogloss.row_files import Row, read_separated
from isogloss.tasks.checks import LocatedItem, check_items, text_of, value_of
from isogloss.tasks.hub_files import HubFiles, hub_names
from isogloss.tasks.items import Item, Task
from isogloss.tasks.splits import sort_key
from isogloss.types import Format, LanguageCode, Normalisation, Split

PARALLEL = HubFiles(
    "global_piqa_parallel",
    "mrlbenchmarks/global-piqa-parallel",
    "b0b18516a8bc2cb1106bce3dd4db32848ca715ea",
    "data/parallel_{name}.tsv",
    hub_names("global_piqa_parallel"),
)
NONPARALLEL = HubFiles(
    "global_piqa_nonparallel",
    "mrlbenchmarks/global-piqa-nonparallel",
    "6777742fa3634c0583cda3b7f8a482ea7b1b0937",
    "data/nonparallel_{name}.tsv",
    hub_names("global_piqa_nonparallel"),
)
SOLUTIONS = {PARALLEL.task: 4, NONPARALLEL.task: 2}


def open_parallel(data_dir: str | None) -> Task:
    """The parallel task, from the folder `data_dir` or, without one, from the Hub.

    Raises DataError if there is no such folder, no language in it or no way to the Hub.
    """
    return _open(PARALLEL, data_dir)


def open_nonparallel(data_dir: str | None) -> Task:
    """The task whose questions differ between languages; otherwise as `open_parallel`."""
    return _open(NONPARALLEL, data_dir)


def _open(files: HubFiles, data_dir: str | None) -> Task:
    return Task(
        files.task,
        files.languages(data_dir),
        partial(load, files, data_dir=data_dir),
        format=Format.CLOZE,
        normalisation=Normalisation.LENGTH,
        parallel=files is PARALLEL,
        evaluation_only=True,
    )


def load(files: HubFiles, language: LanguageCode, split: Split, data_dir: str | None) -> list[Item]:
    """Items of a language, sorted by the sha256 of their ids; there are none in train and dev.

    Raises DataError for a language without data and, with file and line, for a field that is
    missing or empty, a label that is not the number of a solution, and a repeated id.
    """
    if split not in (Split.TEST, Split.ALL):
        return []
    rows = read_separated(files.file(language, Split.TEST, data_dir), "\t", strict=False)
    items = [_item(files, row, language) for row in rows]
    check_items([LocatedItem(row.place, item) for row, item in zip(rows, items, strict=True)])
    return sorted(items, key=lambda item: sort_key(item.item_id))


def _item(files: HubFiles, row: Row, language: LanguageCode) -> Item:
    example_id, question = text_of(row, "example_id"), text_of(row, "prompt")
    n_solutions = SOLUTIONS[files.task]
    options = tuple(text_of(row, f"solution{number}") for number in range(n_solutions))
    label = value_of(row, "label")
    if label not in [str(number) for number in range(n_solutions)]:
        raise DataError(f"{row.place}: label must be 0 to {n_solutions - 1} but is {label!r}.")
    item_id = example_id if files is PARALLEL else f"{language}/{example_id}"
    return Item(
        item_id=item_id,
        passage_id=item_id,
        language=language,
        passage="",
        question=question,
        options=options,
        answer=int(label),
    )
