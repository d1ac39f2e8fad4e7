"""Files of other tools in which one value has another type: imported, or refused in one sentence.

ISOGLOSS_FUZZ=1 tries every place of every file with every value (`make fuzz`); otherwise a sample.
"""

import copy
import json
import logging
import math
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from imported_files import DATA

from isogloss.config import ImportConfig
from isogloss.errors import IsoglossError
from isogloss.importers.read_results import read_results

VALUES: list[Any] = [
    None, True, 0, -1, 10**30, math.nan, "", "x", "\ud800", "a" * 10_000, [], [[]], {}, {"a": {}},
]  # fmt: skip
SAMPLE = 150  # of all changes of a file
PARAMETERS = {"condition": "base", "source": "arb_Arab", "task": "quiz", "model": "m"}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep halves of characters out of the captured log, which pytest-xdist cannot send."""
    caplog.set_level(logging.CRITICAL, "isogloss")


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value; of a list, the first two entries."""
    yield path
    if isinstance(content, dict):
        for key in content:
            yield from places(content[key], (*path, key))
    elif isinstance(content, list):
        for at in range(min(2, len(content))):
            yield from places(content[at], (*path, at))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    result = copy.copy(content)
    result[path[0]] = changed(content[path[0]], path[1:], value)
    return result


def chosen(changes: list[tuple[Any, ...]], name: str) -> list[tuple[Any, ...]]:
    if os.environ.get("ISOGLOSS_FUZZ"):
        return changes
    return random.Random(name).sample(changes, min(SAMPLE, len(changes)))


def try_import(path: Path) -> None:
    """Import a file; any error must be one that a user can read."""
    for parameters in ({}, PARAMETERS):
        with suppress(IsoglossError):
            read_results(ImportConfig(path=str(path), **parameters))


@pytest.mark.parametrize("name", ["quiz.json", "quiz_epochs.json"])
def test_a_changed_log_of_inspect(name: str, tmp_path: Path) -> None:
    content = json.loads((DATA / name).read_text("utf-8"))
    changes = [(place, value) for place in places(content) for value in VALUES]
    path = tmp_path / name
    for place, value in chosen(changes, name):
        path.write_text(json.dumps(changed(content, place, value)), encoding="utf-8")
        try:
            try_import(path)
        except Exception as error:
            raise AssertionError(f"{place} = {value!r:.100}") from error


@pytest.mark.parametrize("task", ["belebele_local_arb", "cloze_arb", "gen_arb"])
def test_changed_samples_of_lm_eval(task: str, tmp_path: Path) -> None:
    (samples,) = DATA.glob(f"samples_{task}*")
    (results,) = DATA.glob("results*")
    (tmp_path / results.name).write_bytes(results.read_bytes())
    lines = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    changes = [(place, value) for place in places(lines[0]) for value in VALUES]
    path = tmp_path / samples.name
    for place, value in chosen(changes, task):
        rows = [changed(lines[0], place, value), *lines[1:]]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        try:
            try_import(path)
        except Exception as error:
            raise AssertionError(f"{place} = {value!r:.100}") from error


def test_changed_results_of_lm_eval(tmp_path: Path) -> None:
    (samples,) = DATA.glob("samples_belebele_local_arb*")
    (results,) = DATA.glob("results*")
    (tmp_path / samples.name).write_bytes(samples.read_bytes())
    content = json.loads(results.read_text("utf-8"))
    changes = [(place, value) for place in places(content) for value in VALUES]
    path = tmp_path / results.name
    for place, value in chosen(changes, "results"):
        path.write_text(json.dumps(changed(content, place, value)), encoding="utf-8")
        try:
            try_import(tmp_path / samples.name)
        except Exception as error:
            raise AssertionError(f"{place} = {value!r:.100}") from error
