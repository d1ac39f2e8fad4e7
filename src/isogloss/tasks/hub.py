"""Data sets on the Hugging Face Hub, through its local cache, or a local folder in their place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from isogloss.errors import DataError
from isogloss.tasks.rows import Row
from isogloss.types import Split


def listing(repository: str, revision: str) -> list[str]:
    """Paths of the files in a data set; without a network, of those that are in the cache.

    Raises DataError where there is neither.
    """
    from httpx2 import HTTPError  # what huggingface_hub lets through
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
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
    """The local copy of one file, fetched once; DataError if it can be had neither way."""
    from httpx2 import HTTPError
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset", revision=revision))
    except LocalEntryNotFoundError as error:
        raise _unreachable(f"{repository} {name}", error) from error
    except EntryNotFoundError as error:
        raise DataError(f"{repository} has no file {name} on the Hub at {revision}.") from error
    except (HTTPError, OSError) as error:
        raise _unreachable(f"{repository} {name}", error) from error


def local_root(data_dir: str) -> Path:
    """The folder with the files of a local copy: `data_dir`, or data/ in it as on the Hub."""
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise DataError(f"data_dir {data_dir!r} is not a folder.")
    return root / "data" if (root / "data").is_dir() else root


def load_splits(
    repository: str,
    revision: str | None,
    config: str | None,
    data_files: str | None,
    splits: Mapping[Literal[Split.TRAIN, Split.DEV, Split.TEST], str] | None,
) -> list[tuple[Split | None, list[Row]]]:
    """Rows of a data set in any layout that `datasets` reads, by split.

    `splits` says what the data set calls ours, in its splits or for {split} in `data_files`.
    Without it there must be one split, whose rows are given under None. Raises DataError if there
    is another or the data cannot be had.
    """
    from datasets import DatasetDict, disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError
    from httpx2 import HTTPError

    what = " ".join(filter(None, (repository, config, data_files)))
    files: Any = data_files
    if data_files and splits:
        files = {name: data_files.replace("{split}", name) for name in splits.values()}
    disable_progress_bars()
    try:
        found: DatasetDict = load_dataset(repository, config, data_files=files, revision=revision)
    except (DatasetsError, HTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{what} cannot be loaded from the Hub ({reason}).") from error
    if splits is None and len(found) > 1:
        raise DataError(
            f"{what} has the splits {', '.join(found)}; say under splits which are train, dev and "
            "test."
        )
    if splits is None:
        [name] = found
        return [(None, _rows(f"{what} {name}", found[name]))]
    for name in splits.values():
        if name not in found:
            raise DataError(f"{what} has no split {name!r}; it has {', '.join(found)}.")
    return [(split, _rows(f"{what} {name}", found[name])) for split, name in splits.items()]


def _rows(place: str, data: Any) -> list[Row]:
    rows = enumerate(data.to_list(), start=1)
    return [Row(f"{place} row {number}", values) for number, values in rows]


def _unreachable(what: str, error: Exception) -> DataError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DataError(
        f"{what} cannot be fetched from the Hub ({reason}); data_dir takes a local folder."
    )
