"""Data sets with one file per language and split, on the Hub or in a folder of the same layout.

hub_names.csv lists, by task, the names that languages have in the data, and the FLORES-200 codes
that they mean. Of the regional varieties of a language the one of its country of origin is read:
French of France, Spanish of Spain, Portuguese of Portugal.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from isogloss.errors import DataError
from isogloss.files import looked_for
from isogloss.tasks import hub
from isogloss.tasks.items import Item
from isogloss.tasks.splits import sort_key, training_split_of
from isogloss.types import LanguageCode, Split

DATA = "data/"  # the level of a layout that a folder may lack


@cache
def hub_names(task: str) -> Mapping[LanguageCode, str]:
    """The name of each language in the data of a task, by FLORES-200 code."""
    text = (files(__package__) / "hub_names.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["language"]: row["name"] for row in rows if row["task"] == task}


def of_split(read: Callable[[Split], list[Item]], split: Split) -> list[Item]:
    """Items of a split, where the data have dev and test; clusters are sorted by their sha256.

    `read` gives all items of one of the two files. A hash assigns each cluster of dev to train
    (80%) or dev (20%).
    """
    items: list[Item] = []
    if split != Split.TEST:
        items = [
            item
            for item in read(Split.DEV)
            if split in (Split.ALL, training_split_of(item.passage_id))
        ]
    if split in (Split.TEST, Split.ALL):
        items += read(Split.TEST)
    return sorted(items, key=lambda item: sort_key(item.passage_id))


@dataclass(frozen=True)
class HubFiles:
    """Where the files of a task are.

    `layout` is the path of a file on the Hub, with the placeholders {name}, which `names` has by
    language, and {split}.
    """

    task: str
    repository: str
    revision: str
    layout: str
    names: Mapping[LanguageCode, str]

    def languages(self, data_dir: str | None) -> tuple[LanguageCode, ...]:
        """Sorted codes of the languages whose test items are in the folder, or on the Hub.

        Raises DataError if there is none, or no way to the Hub.
        """
        expected = {code: self._name(code, Split.TEST, data_dir) for code in self.names}
        if data_dir is None:
            listed = set(hub.listing(self.repository, self.revision))
            codes = sorted(code for code, name in expected.items() if name in listed)
        else:
            root = hub.local_root(data_dir)
            codes = sorted(code for code, name in expected.items() if (root / name).is_file())
        if not codes:
            raise DataError(
                f"{self.task} finds no language in {data_dir or self.repository!r}; expected files "
                f"such as {next(iter(expected.values()))}{looked_for(data_dir)}."
            )
        return tuple(codes)

    def file(self, language: LanguageCode, split: Split, data_dir: str | None) -> Path:
        """The file of a language's split; DataError if there is none."""
        name = self._name(language, split, data_dir)
        if data_dir is None:
            return hub.download(self.repository, self.revision, name)
        path = hub.local_root(data_dir) / name
        if not path.is_file():
            raise DataError(f"{self.task} has no file {path}.")
        return path

    def _name(self, language: LanguageCode, split: Split, data_dir: str | None) -> str:
        layout = self.layout if data_dir is None else self.layout.removeprefix(DATA)
        return layout.format(name=self.names.get(language, language), split=split)
