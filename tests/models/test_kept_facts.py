"""Facts that are kept in the cache by what they depend on."""

import os
import time
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from isogloss.files import keep
from isogloss.models import kept_facts
from isogloss.models.kept_facts import DAY, kept_fact

NUMBERS = TypeAdapter(dict[str, float])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ISOGLOSS_CACHE", str(folder))
    monkeypatch.setattr(kept_facts, "cache_dir", lambda: folder)
    return folder


def find(numbers: list[float], days: float | None = None, **depends_on: object) -> float:
    """The fact, of which `numbers` has one for each time it is found."""
    fact = kept_fact("fact", depends_on, NUMBERS, lambda: {"found": numbers.pop(0)}, days)
    return fact["found"]


def test_a_fact_is_found_once_for_all_that_it_depends_on(cache: Path) -> None:
    numbers = [0.1 + 0.2, 2.0, 3.0]
    assert find(numbers, model="a", version=1) == 0.1 + 0.2
    assert find(numbers, version=1, model="a") == 0.1 + 0.2
    assert find(numbers, model="a", version=2) == 2.0
    assert find(numbers, model="b", version=1) == 3.0
    assert [path.stat().st_mode & 0o777 for path in cache.iterdir()] == [0o600] * 3


@pytest.mark.parametrize("content", [b"", b"{", b'{"found": "text"}', b"\xff"])
def test_a_damaged_file_is_written_again(cache: Path, content: bytes) -> None:
    numbers = [1.0, 2.0]
    find(numbers)
    (path,) = cache.iterdir()
    path.write_bytes(content)
    assert (find(numbers), find(numbers)) == (2.0, 2.0)


def test_a_fact_with_days_is_found_again_after_them(cache: Path) -> None:
    numbers = [1.0, 2.0]
    assert find(numbers, days=7) == 1.0
    (path,) = cache.iterdir()
    almost = time.time() - 6.9 * DAY
    os.utime(path, (almost, almost))
    assert find(numbers, days=7) == 1.0
    os.utime(path, (almost - DAY, almost - DAY))
    assert find(numbers, days=7) == 2.0


def test_a_cache_that_cannot_be_written_costs_time_alone(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_facts, "cache_dir", lambda: cache / "absent")
    assert [find([1.0]), find([2.0])] == [1.0, 2.0]


def test_what_a_killed_writer_of_a_fact_has_left_is_deleted_with_the_next(cache: Path) -> None:
    cache.mkdir()
    path, other = cache / "fact-[1].json", cache / "fact-[1].json.parquet"
    for file in (cache / "fact-[1].json.0123456789abcdef.part", other):
        file.write_bytes(b"half")
    keep(path, b"whole")
    assert sorted(cache.iterdir()) == [path, other]
    assert path.read_bytes() == b"whole"
