"""Data sets on the Hugging Face Hub, through its local cache, or in a local folder instead."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from isogloss.errors import DataError
from isogloss.files import looked_for, user_path
from isogloss.formatting import did_you_mean
from isogloss.row_files import Row
from isogloss.types import Split

if TYPE_CHECKING:
    from datasets import Dataset

_CACHED_ONLY = ContextVar("cached_only", default=False)


@contextmanager
def cached_only() -> Iterator[None]:
    """Context in which the network is not used: what the local cache lacks is a DataError."""
    token = _CACHED_ONLY.set(True)
    try:
        yield
    finally:
        _CACHED_ONLY.reset(token)


def listing(repository: str, revision: str) -> list[str]:
    """Paths of the files in a data set; without a network, of the cached ones.

    Raises DataError if the Hub is unreachable and nothing is cached.
    """
    from httpx2 import HTTPError  # huggingface_hub does not wrap it
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        if _CACHED_ONLY.get():
            raise FileNotFoundError("the network is not used here")
        return HfApi().list_repo_files(repository, repo_type="dataset", revision=revision)
    except (HTTPError, OSError) as error:
        try:
            folder = Path(
                snapshot_download(
                    repository, repo_type="dataset", revision=revision, local_files_only=True
                )
            )
        except LocalEntryNotFoundError:
            raise _unreachable(repository, error) from error
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def download(repository: str, revision: str, name: str) -> Path:
    """The local copy of one file, downloaded once; DataError if it cannot be downloaded."""
    from httpx2 import HTTPError
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(
            hf_hub_download(
                repository, name, repo_type="dataset", revision=revision,
                local_files_only=_CACHED_ONLY.get(),
            )
        )  # fmt: skip
    except LocalEntryNotFoundError as error:
        raise _unreachable(f"{repository} {name}", error) from error
    except EntryNotFoundError as error:
        raise DataError(f"{repository} has no file {name} on the Hub at {revision}.") from error
    except (HTTPError, OSError) as error:
        raise _unreachable(f"{repository} {name}", error) from error


def local_root(data_dir: str) -> Path:
    """The folder with the files of a local copy: `data_dir` or, as on the Hub, data/ in it."""
    root = user_path(data_dir)
    if not root.is_dir():
        raise DataError(f"data_dir {data_dir!r} is not a folder{looked_for(data_dir)}.")
    return root / "data" if (root / "data").is_dir() else root


def load_splits(
    repository: str,
    revision: str | None,
    config: str | None,
    data_files: str | None,
    splits: Mapping[Split, str] | None,
) -> list[tuple[Split | None, list[Row]]]:
    """Rows of a data set in any layout that `datasets` reads, by split.

    `splits` maps our splits to those of the data set, or to {split} in `data_files`. Without it the
    data set must have one split, which is returned under None. Raises DataError if it has several
    or cannot be loaded.
    """
    from datasets import DatasetDict, disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError
    from httpx2 import HTTPError

    name = " ".join(filter(None, (repository, config, data_files)))
    if _CACHED_ONLY.get():
        raise DataError(f"{name} is on the Hub, and the network is not used here.")
    files: str | dict[str, str] | None = data_files
    if data_files and splits:
        files = {value: data_files.replace("{split}", value) for value in splits.values()}
    disable_progress_bars()
    try:
        data: DatasetDict = load_dataset(repository, config, data_files=files, revision=revision)
    except RuntimeError as error:  # for a data set that is a script, which no longer runs
        if "script" not in str(error):
            raise
        raise DataError(
            f"{name} needs a script of the data set, and `datasets` no longer runs scripts; set "
            "revision to refs/convert/parquet, or save its files in a folder and set data_dir to "
            "it."
        ) from error
    except (DatasetsError, HTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{name} cannot be loaded from the Hub ({reason}).") from error
    if splits is None:
        if len(data) > 1:
            raise DataError(
                f"{name} has the splits {', '.join(data)}; name those for train, dev and test "
                "under splits."
            )
        [only] = data
        return [(None, _rows(f"{name} {only}", data[only]))]
    for own_name in splits.values():
        if own_name not in data:
            ending = did_you_mean(own_name, data)
            raise DataError(f"{name} has no split {own_name!r}; it has {', '.join(data)}{ending}")
    return [
        (split, _rows(f"{name} {own_name}", data[own_name])) for split, own_name in splits.items()
    ]


def _rows(place: str, data: "Dataset") -> list[Row]:
    rows = enumerate(data.to_list(), start=1)
    return [Row(f"{place} row {number}", values) for number, values in rows]


def _unreachable(name: str, error: Exception) -> DataError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DataError(
        f"{name} cannot be downloaded from the Hub ({reason}); data_dir takes a local folder."
    )
