"""The revision of a local model covers every file that can decide a result, and no pickle is loaded."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from isogloss.errors import ModelError
from isogloss.models.loading import load
from isogloss.models.locate import locate

DECISIVE = [
    "pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json",
    "model-00002-of-00002.safetensors", "model.safetensors.index.json", "consolidated.00.pth",
    "model.pt", "model.ckpt", "flax_model.msgpack", "tf_model.h5", "tokenizer.model",
    "sentencepiece.bpe.model", "source.spm", "qwen.tiktoken", "vocab.txt", "merges.txt",
    "vocab.bpe", "bpe.codes", "added_tokens.json", "chat_template.jinja", "chat_template.json",
    "additional_chat_templates/rag.jinja", "processor_config.json", "generation_config.json",
    "modeling_own.py", "experts/model-00001-of-00001.safetensors", "unknown.kind", "no_suffix",
]  # fmt: skip
IRRELEVANT = [
    "README.md", "LICENSE", "LICENSE.txt", "images/figure.png", ".git/HEAD", ".gitattributes",
    "optimizer.pt", "checkpoint-5/optimizer.pt", "checkpoint-5/trainer_state.json",
    "training_args.bin", "rng_state_0.pth",
]  # fmt: skip


@pytest.fixture
def folder(model_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder("llama"), tmp_path / "model"))


def revisions(folder: Path, name: str) -> list[str]:
    """The revision without a file, with it, and with another file of the same size and time."""
    found = [locate(str(folder)).revision]
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    for content in ("one", "two"):
        path.write_text(content)
        found.append(locate(str(folder)).revision)
    return found


@pytest.mark.parametrize("name", DECISIVE)
def test_a_file_that_can_decide_a_result_is_in_the_revision(folder: Path, name: str) -> None:
    assert len(set(revisions(folder, name))) == 3


@pytest.mark.parametrize("name", IRRELEVANT)
def test_a_document_or_the_state_of_a_training_is_not(folder: Path, name: str) -> None:
    assert len(set(revisions(folder, name))) == 1


def test_links_are_followed_and_a_circle_of_links_ends(folder: Path, tmp_path: Path) -> None:
    copied = locate(str(folder)).revision
    store = tmp_path / "blobs"
    store.mkdir()
    for path in list(folder.iterdir()):
        path.rename(store / path.name)
        path.symlink_to(store / path.name)
    assert locate(str(folder)).revision == copied
    (folder / "self").symlink_to(folder)
    assert locate(str(folder)).revision == copied
    weights = store / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert locate(str(folder)).revision != copied


def test_the_name_of_a_file_is_in_the_revision(folder: Path) -> None:
    (folder / "a.jinja").write_text("x")
    before = locate(str(folder)).revision
    (folder / "a.jinja").rename(folder / "b.jinja")
    assert locate(str(folder)).revision != before


def as_pickle(folder: Path) -> None:
    """Store the weights as pytorch_model.bin, in place of safetensors."""
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()


def test_a_model_in_a_pickle_is_refused_with_the_command_that_converts_it(folder: Path) -> None:
    as_pickle(folder)
    with pytest.raises(
        ModelError, match=r"no weights in safetensors.*pytorch_model\.bin.*save_pretrained"
    ):
        locate(str(folder))


def test_a_pickle_beside_safetensors_is_not_loaded(folder: Path) -> None:
    expected = load(locate(str(folder)), "float32").network.get_output_embeddings().weight
    other = {"lm_head.weight": torch.zeros_like(expected)}
    torch.save(other, folder / "pytorch_model.bin")
    loaded = load(locate(str(folder)), "float32").network.get_output_embeddings().weight
    torch.testing.assert_close(loaded, expected)


def test_a_pickle_is_not_loaded_even_if_it_appears_after_the_check(folder: Path) -> None:
    location = locate(str(folder))
    as_pickle(folder)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(location, "float32")


def test_a_folder_with_model_and_adapter_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        locate(str(folder))


def test_a_hub_model_in_a_pickle_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_pickle(folder)
    repository = tmp_path / "hub" / "models--someone--old"
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match="'someone/old' has no weights in safetensors"):
        locate("someone/old")
