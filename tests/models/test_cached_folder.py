"""Folders of the cache are written once, and again if a byte of them has changed."""

import os
import threading
from pathlib import Path

import pytest
from damage import DAMAGES

from isogloss.models.cached_folder import DIGESTS, cached_folder

FILES = {"model.safetensors": b"weights" * 100, "config.json": b"{}"}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf-1-float32"


def write(folder: Path) -> None:
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def never(folder: Path) -> None:
    raise AssertionError(f"{folder} is written")


def check(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {*FILES, DIGESTS}
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content


def test_a_whole_folder_is_written_once(place: Path) -> None:
    check(cached_folder(place, write))
    check(cached_folder(place, never))


def change_a_byte(path: Path) -> None:
    """Change one byte, and keep size and time."""
    content, stat = bytearray(path.read_bytes()), path.stat()
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


@pytest.mark.parametrize("damage", [*DAMAGES, "one byte", "gone"])
@pytest.mark.parametrize("name", ["model.safetensors", DIGESTS])
def test_a_changed_file_has_the_folder_written_again(
    damage: str, name: str, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = cached_folder(place, write) / name
    {**DAMAGES, "one byte": change_a_byte, "gone": Path.unlink}[damage](path)
    check(cached_folder(place, write))
    (message,) = caplog.messages
    assert message.startswith(f"{place} is not used but written again: ")


def test_a_folder_of_an_earlier_version_has_no_digests_and_is_written_again(place: Path) -> None:
    place.parent.mkdir()
    write(place)
    check(cached_folder(place, write))


def test_what_killed_processes_left_is_deleted_and_nothing_else(place: Path) -> None:
    place.parent.mkdir()
    part = f"{place}.{'0a' * 16}"
    Path(f"{part}.partial").mkdir()
    Path(f"{part}.partial", "model.safetensors").write_bytes(b"half")
    Path(f"{part}.gguf").write_bytes(b"half")
    others = [Path(f"{place}.gguf"), place.with_name("gguf-2-float32"), Path(f"{place}.lock")]
    for other in others:
        other.write_bytes(b"")
    check(cached_folder(place, write))
    assert set(place.parent.iterdir()) == {place, *others}


def test_a_failed_write_leaves_nothing(place: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        cached_folder(place, fail)
    assert [path.name for path in place.parent.iterdir()] == [f"{place.name}.lock"]


def test_of_several_at_once_one_writes(place: Path) -> None:
    written: list[Path] = []

    def count(folder: Path) -> None:
        written.append(folder)
        write(folder)

    threads = [threading.Thread(target=cached_folder, args=(place, count)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    check(place)
