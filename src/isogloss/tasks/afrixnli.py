"""AfriXNLI: whether one sentence follows from another, in 18 languages (Adelani et al., 2024).

A folder per language (`eng`, `swa`) with dev.tsv, 450 pairs, and test.tsv, 600 pairs: premise,
hypothesis, label (0 entailment, 1 neutral, 2 contradiction), parallel row by row. Read from the Hub
(masakhane/afrixnli at a pinned revision, files under data/) or from a local folder with either
layout. Its card says Apache 2.0; its English sentences are those of XNLI, which is for
non-commercial use (CC BY-NC 4.0).

The premise is the passage. The question is lm-evaluation-harness's: the hypothesis, then "True,
False, or Neither?". Three rows in succession are one cluster, as XNLI has three hypotheses for each
premise. Adapters train on dev: a hash assigns each cluster to train (80%) or dev (20%).
"""

from functools import partial

from isogloss.errors import DataError
from isogloss.row_files import Row, read_separated
from isogloss.tasks.checks import text_of, value_of
from isogloss.tasks.hub_files import HubFiles, hub_names, of_split
from isogloss.tasks.items import Item, Task
from isogloss.types import Format, LanguageCode, Normalisation, Split

REVISION = "e3ca06b30f3e7af2a86f6c8609ea76fee326bc56"
FILES = HubFiles(
    "afrixnli",
    "masakhane/afrixnli",
    REVISION,
    "data/{name}/{split}.tsv",
    hub_names("afrixnli"),
)
QUESTION = "True, False, or Neither?"
OPTIONS = ("True", "Neither", "False")  # by label
HYPOTHESES = 3  # of a premise


def open_task(data_dir: str | None) -> Task:
    """The task, read from the folder `data_dir` or, without one, from the Hub.

    Raises DataError if there is no such folder, no language in it or no way to the Hub.
    """
    return Task(
        FILES.task,
        FILES.languages(data_dir),
        partial(load, data_dir=data_dir),
        format=Format.CLOZE,
        normalisation=Normalisation.NONE,
        own_texts=True,
        english_only=True,
    )


def load(language: LanguageCode, split: Split, data_dir: str | None) -> list[Item]:
    """Items of a language's split, clusters sorted by the sha256 of their ids.

    Raises DataError for a language without data and, with file and line, for a premise or
    hypothesis that is missing or empty, and a label that is not 0 to 2.
    """
    return of_split(lambda file: _items(language, file, data_dir), split)


def _items(language: LanguageCode, split: Split, data_dir: str | None) -> list[Item]:
    """All items of a file; their ids are its name and the number of the row."""
    rows = read_separated(FILES.file(language, split, data_dir), "\t", strict=False)
    return [_item(row, number, language, split) for number, row in enumerate(rows, start=1)]


def _item(row: Row, number: int, language: LanguageCode, split: Split) -> Item:
    premise, hypothesis = text_of(row, "premise"), text_of(row, "hypothesis")
    label = value_of(row, "label")
    if label not in ("0", "1", "2"):
        raise DataError(f"{row.place}: label must be 0, 1 or 2 but is {label!r}.")
    return Item(
        item_id=f"{split}/{number}",
        passage_id=f"{split}/premise {(number - 1) // HYPOTHESES + 1}",
        language=language,
        passage=premise,
        question=f"{hypothesis.strip()} {QUESTION}",
        options=OPTIONS,
        answer=int(label),
    )
