"""gguf: one reader for all readings of a file."""

from pathlib import Path

import gguf
import pytest

from isogloss.compat.gguf import shared_reader


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A GGUF file with one field."""
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_transformers_reads_a_file_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    readings = []
    original = gguf.GGUFReader

    def counted(path: str) -> gguf.GGUFReader:
        readings.append(path)
        return original(path)

    monkeypatch.setattr(gguf, "GGUFReader", counted)
    with shared_reader():
        shared = [load_gguf_checkpoint(str(file))["config"] for _ in range(3)]
    assert len(readings) == 1, (
        "transformers no longer takes `GGUFReader` from the module `gguf` at each reading: a model "
        "is dequantised as well, in twice the time. compat/gguf.py may go."
    )
    assert gguf.GGUFReader is counted
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOGLOSS_PUBLIC_INTERFACES", "1")
        with shared_reader():
            separate = [load_gguf_checkpoint(str(file))["config"] for _ in range(3)]
    assert len(readings) == 4
    assert separate == shared
    assert shared[0]["num_hidden_layers"] == 1
