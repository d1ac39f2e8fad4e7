"""Damaged files of models: refused in one sentence, before a run is open."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from isogloss.config import EvaluateConfig
from isogloss.errors import IsoglossError
from isogloss.stages.evaluate_adapters import run_evaluate

LONGEST = 1200


def edit(name: str, **values: object) -> Callable[[Path], object]:
    """Change entries of a JSON file; None deletes one."""

    def change(folder: Path) -> None:
        settings: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
        settings |= values
        kept = {key: value for key, value in settings.items() if value is not None}
        (folder / name).write_text(json.dumps(kept), encoding="utf-8")

    return change


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, part: float) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(part * len(content))])

    return change


def pickles_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")


def index(content: bytes) -> Callable[[Path], object]:
    """Replace the file of weights by an index of several."""

    def change(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / f"{WEIGHTS}.index.json").write_bytes(content)

    return change


CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
HUGE_HEADER = struct.pack("<Q", 2**60) + b"{}"
DAMAGE: dict[str, Callable[[Path], object]] = {
    "no tokenizer": lambda folder: [path.unlink() for path in folder.glob("token*")],
    "empty tokenizer": write(TOKENIZER, b""),
    "tokenizer cut": cut(TOKENIZER, 0.5),
    "tokenizer is a list": write(TOKENIZER, b"[]"),
    "tokenizer is a number": write(TOKENIZER, b"1"),
    "tokenizer without a model": edit(TOKENIZER, model=None),
    "tokenizer of an unknown model": edit(TOKENIZER, model={"type": "Nonsense"}),
    "tokenizer config is a list": write("tokenizer_config.json", b"[]"),
    "tokenizer config cut": cut("tokenizer_config.json", 0.5),
    "template that raises": write("chat_template.jinja", b"{{ raise_exception('no') }}"),
    "template that divides by zero": write("chat_template.jinja", b"{{ 1 / 0 }}"),
    "template that is no template": write("chat_template.jinja", b"{% if %}"),
    "template that reaches for attributes": write(
        "chat_template.jinja", b"{{ ''.__class__.__mro__[1].__subclasses__() }}"
    ),
    "template without end": write(
        "chat_template.jinja",
        b"{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    ),
    "template of a power": write("chat_template.jinja", b"{{ 9 ** (9 ** 9) }}"),
    "template of gigabytes": write("chat_template.jinja", b"{{ ('a' * 3000000000) | length }}"),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "empty weights": write(WEIGHTS, b""),
    "weights cut": cut(WEIGHTS, 0.5),
    "weights cut in their header": cut(WEIGHTS, 0.001),
    "weights with a huge header": write(WEIGHTS, HUGE_HEADER),
    "weights of noise": write(WEIGHTS, bytes(range(256)) * 40),
    "pickles only": pickles_only,
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "empty config": write(CONFIG, b""),
    "config cut": cut(CONFIG, 0.5),
    "config is a list": write(CONFIG, b"[]"),
    "config is a number": write(CONFIG, b"7"),
    "config in UTF-16": write(CONFIG, '{"model_type": "llama"}'.encode("utf-16")),
    "config nested": write(CONFIG, b'{"a":' * 5000),
    "no model type": edit(CONFIG, model_type=None, architectures=None),
    "unknown model type": edit(CONFIG, model_type="nonsense"),
    "model type is a list": edit(CONFIG, model_type=["llama"]),
    "other hidden size": edit(CONFIG, hidden_size=64),
    "negative hidden size": edit(CONFIG, hidden_size=-32),
    "hidden size of text": edit(CONFIG, hidden_size="wide"),
    "no layers": edit(CONFIG, num_hidden_layers=0),
    "negative layers": edit(CONFIG, num_hidden_layers=-3),
    "more layers": edit(CONFIG, num_hidden_layers=30),
    "heads that do not divide": edit(CONFIG, num_attention_heads=5),
    "no heads": edit(CONFIG, num_attention_heads=0),
    "negative vocabulary": edit(CONFIG, vocab_size=-1),
    "other vocabulary": edit(CONFIG, vocab_size=7),
    "unknown activation": edit(CONFIG, hidden_act="nonsense"),
    "remote code": edit(CONFIG, auto_map={"AutoModelForCausalLM": "evil.Model"}, model_type="evil"),
    "index of weights is a list": index(b"[]"),
    "index of weights names none": index(b'{"weight_map": {}}'),
    "index of weights names numbers": index(b'{"weight_map": {"a": 1}}'),
    "index of weights leaves the folder": index(b'{"weight_map": {"a": "../x.safetensors"}}'),
    "generation config is a list": write("generation_config.json", b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_model_is_refused(
    damage: Callable[[Path], object],
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(model_folder("llama"), folder)
    damage(folder)
    monkeypatch.setattr("isogloss.prompts.chat._SECONDS", 0.3)
    config = EvaluateConfig(model=str(folder), languages=("heb_Hebr",), limit=1)
    with pytest.raises(IsoglossError) as caught:
        run_evaluate(config)
    message = str(caught.value)
    assert "damaged" in message  # the model's name
    assert len(message) < LONGEST
    assert mlflow.search_runs(search_all_experiments=True).empty


GGUF_HEADER = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
NOT_GGUF = {
    "empty": b"",
    "four bytes": b"GGUF",
    "header alone": GGUF_HEADER,
    "header that counts 2**60 tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60),
    "unknown version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    "no tensors": b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
    "noise": bytes(range(256)) * 40,
    "text": b"not a model",
}


@pytest.mark.parametrize("content", NOT_GGUF.values(), ids=NOT_GGUF)
def test_a_damaged_gguf_file_is_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    with pytest.raises(IsoglossError) as caught:
        run_evaluate(EvaluateConfig(model=str(path), languages=("heb_Hebr",), limit=1))
    assert "damaged.gguf" in str(caught.value)
    assert len(str(caught.value)) < LONGEST
    assert [entry.suffix for entry in (tmp_path / "cache").iterdir()] in ([], [".lock"])
    assert mlflow.search_runs(search_all_experiments=True).empty
