"""Files that are nearly right, and templates and answers of servers that nobody wrote."""

import json
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from imported_files import DATA
from tiny_adapters import write_adapter

from hostile.fuzzing import TEXT, VALUE, as_json, fuzzed, nearly, readable, with_changes
from isogloss.analysis.covariate_file import read_covariates
from isogloss.config import ImportConfig
from isogloss.importers.read_results import read_results
from isogloss.models.adapter_files import (
    adapter_digest,
    own_chat_template,
    peft_config,
    read_adapter,
)
from isogloss.models.locate import locate
from isogloss.models.skeleton import skeleton
from isogloss.prompts import chat
from isogloss.row_files import read_rows
from isogloss.serving.rows import row_item
from isogloss.training.contamination import RECORD, read_record

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ROW = {
    "item_id": "a", "passage_id": "p", "passage": "x é", "question": "q", "options": ["1", "2"],
    "answer": 1,
}  # fmt: skip
LINES = b"".join(as_json(ROW | {"item_id": str(number)}) + b"\n" for number in range(3))
CSV = 'question,option_1,option_2,answer\nq,"1, or",2,1\n"é\nx",a,b,2\n'.encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@pytest.fixture(scope="module")
def adapter(model_folder: Callable[[str], Path], folder: Path) -> Path:
    path = folder / "whole"
    write_adapter(model_folder("llama"), path, r=2, target_modules=["q_proj"])
    return path


@pytest.fixture(scope="module")
def parquet(folder: Path) -> bytes:
    pd.DataFrame([ROW, ROW]).to_parquet(folder / "whole.parquet")
    return (folder / "whole.parquet").read_bytes()


@fuzzed(60)
@given(data=st.data())
@pytest.mark.parametrize(("name", "content"), [("rows.jsonl", LINES), ("rows.csv", CSV)])
def test_any_change_of_a_data_file(
    name: str, content: bytes, data: st.DataObject, folder: Path
) -> None:
    path = folder / name
    path.write_bytes(data.draw(nearly(content)))
    with readable():
        read_rows(path)


@fuzzed(60)
@given(data=st.data())
def test_any_change_of_a_parquet_file(data: st.DataObject, folder: Path, parquet: bytes) -> None:
    path = folder / "rows.parquet"
    path.write_bytes(data.draw(nearly(parquet)))
    with readable():
        read_rows(path)


@fuzzed(60)
@given(rows=st.lists(st.dictionaries(TEXT, VALUE, max_size=3), max_size=3))
def test_any_jsonl(rows: list[dict[str, Any]], folder: Path) -> None:
    path = folder / "any.jsonl"
    path.write_bytes(b"\n".join(map(as_json, rows)))
    with readable():
        read_rows(path)


@fuzzed(60)
@given(
    content=st.one_of(
        nearly(b"language,speakers,year\narb_Arab,1.5,\nheb_Hebr,2,1990\n"), st.binary(max_size=60)
    )
)
def test_any_covariates(content: bytes, folder: Path) -> None:
    path = folder / "covariates.csv"
    path.write_bytes(content)
    with readable():
        read_covariates(path)


IMPORTED = [
    "quiz.json",
    *sorted(path.name for path in DATA.glob("samples_belebele*"))[:1],
    *sorted(path.name for path in DATA.glob("*.csv"))[:1],
]


@fuzzed(20)
@given(data=st.data())
@pytest.mark.parametrize("name", IMPORTED)
def test_any_bytes_changed_in_an_imported_file(
    name: str, data: st.DataObject, folder: Path
) -> None:
    path = folder / name
    path.write_bytes(data.draw(nearly((DATA / name).read_bytes())))
    with readable():
        read_results(ImportConfig(path=str(path), source="arb_Arab", task="quiz", model="m"))


def damaged(adapter: Path, name: str, content: bytes) -> Path:
    """A copy of the adapter in which a file has another content."""
    path = adapter.parent / "damaged"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(adapter, path)
    (path / name).write_bytes(content)
    return path


@fuzzed(60)
@given(data=st.data())
def test_any_configuration_of_an_adapter(data: st.DataObject, adapter: Path) -> None:
    content = (adapter / CONFIG).read_bytes()
    changes = st.one_of(with_changes(json.loads(content)).map(as_json), nearly(content))
    path = damaged(adapter, CONFIG, data.draw(changes))
    with readable(UserWarning):  # peft's, about an option without a value
        peft_config(read_adapter(path))
    with readable():
        adapter_digest(path)


@fuzzed(60)
@given(data=st.data())
def test_any_header_of_weights(data: st.DataObject, adapter: Path) -> None:
    content = (adapter / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    tensors = {
        name: with_changes(entry) for name, entry in header.items() if isinstance(entry, dict)
    }
    changed = as_json(data.draw(st.fixed_dictionaries(tensors) | with_changes(header)))
    stated = data.draw(st.just(len(changed)) | st.integers(0, 2**64 - 1))
    whole = struct.pack("<Q", stated) + changed + content[8 + length :]
    path = damaged(adapter, WEIGHTS, data.draw(st.just(whole) | nearly(content)))
    with readable():
        read_adapter(path)


@fuzzed(60)
@given(data=st.data())
def test_any_training_record(data: st.DataObject, adapter: Path) -> None:
    record = {"task": "probe", "language": "arb_Arab", "passages": {"arb_Arab": ["a"]}}
    content = data.draw(with_changes(record).map(as_json) | nearly(as_json(record)))
    with readable():
        read_record(damaged(adapter, RECORD, content))


@fuzzed(60)
@given(data=st.data())
@pytest.mark.parametrize(
    "file", ["tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"]
)
def test_any_tokenizer_of_an_adapter(file: str, data: st.DataObject, adapter: Path) -> None:
    settings = {"chat_template": "{{ messages }}", "tokenizer_class": "PreTrainedTokenizerFast"}
    content = data.draw(with_changes(settings).map(as_json) | nearly(as_json(settings)))
    with readable():
        own_chat_template(damaged(adapter, file, content))


@fuzzed(25)
@given(data=st.data())
def test_any_configuration_of_a_model(
    data: st.DataObject, folder: Path, model_folder: Callable[[str], Path]
) -> None:
    whole = model_folder("llama")
    path = folder / "model"
    if not path.exists():
        shutil.copytree(whole, path)
    content = (whole / "config.json").read_bytes()
    small = st.one_of(st.none(), st.booleans(), st.integers(-3, 70), st.floats(), TEXT, st.just([]))
    keys = st.sampled_from(sorted(json.loads(content)))
    changes = st.dictionaries(keys, small, min_size=1, max_size=2)
    changed = changes.map(lambda values: as_json({**json.loads(content), **values}))
    (path / "config.json").write_bytes(data.draw(changed | nearly(content)))
    with readable():
        skeleton(locate(str(path)))


PIECES = [
    "{{ messages[0].content }}", "{% for m in messages %}", "{% endfor %}", "{{ m.role }}", "{% if x %}",
    "{% endif %}", "{{ 1 / 0 }}", "{{ messages[9] }}", "{{ bos_token }}", "{{ raise_exception('no') }}",
    "{{ ''.__class__ }}", "{{ 'a' * 99999999 }}", "{% set x = [1] * 9999999 %}", "{{ range(10**9) }}",
    "{{ messages | tojson }}", "{{", "%}", "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "<|im_start|>",
    "{{ strftime_now('%') }}", "{{ strftime_now('%Q') }}", "{% include 'x' %}", "{% generation %}", "\n",
    "{{ (messages * 1000) | length }}", "{{ namespace(a=1).a }}", "{{ messages[0]['content'][0]['text'] }}",
    "{{ x.y.z }}", "{{ messages.pop() }}", "{{ messages | map('upper') }}", "{{ 9 ** (9 ** 9) }}", "{{ lipsum() }}",
]  # fmt: skip


@fuzzed(40)
@given(template=st.lists(st.sampled_from(PIECES), max_size=5).map("".join) | TEXT)
def test_any_chat_template(
    template: str, tokenizer: transformers.PreTrainedTokenizerFast, tmp_path_factory: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Hypothesis measures garbage collections in a callback, where an alarm may come. Python
        # ignores it there, and the next alarm may come while pytest takes a note of that.
        patch.setattr(sys, "unraisablehook", lambda _: None)
        patch.setattr(chat, "_SECONDS", 0.2)
        patch.setattr(tokenizer, "chat_template", template)
        with readable():
            chat.render_chat(tokenizer, "What is this?", thinking=False, item="a")


SERVED = {"passage": "p", "question": "q", "options": ["a", "b"], "language": "arb_Arab"}


@fuzzed(150)
@given(row=with_changes(SERVED) | st.dictionaries(TEXT, VALUE))
def test_any_row_of_a_request(row: dict[str, Any]) -> None:
    with readable():
        row_item(0, row, "arb_Arab")


def readers() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every function that reads an answer of a server from its bytes alone."""
    from isogloss.servers import llama_cpp, openai, sglang, vllm

    for module in (llama_cpp, openai, sglang, vllm):
        for name, function in vars(module).items():
            own = getattr(function, "__module__", "") == module.__name__
            if own and name.startswith(("_read", "read")):
                hints = [hint for hint in get_type_hints(function) if hint != "return"]
                if hints == ["answer"]:
                    yield f"{module.__name__.rpartition('.')[2]}.{name}", function


READERS = dict(readers())
ANSWER = {
    "choices": [{"text": " A", "finish_reason": "stop", "index": 0,
                 "message": {"role": "assistant", "content": "A"},
                 "logprobs": {"tokens": ["token_id:5"], "token_logprobs": [-0.5],
                              "top_logprobs": [{"token_id:5": -0.5}],
                              "content": [{"token": "A", "logprob": -0.5, "top_logprobs": []}]}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    "content": "A", "tokens_evaluated": 3, "tokens_predicted": 1,
    "completion_probabilities": [{"id": 5, "token": "A", "logprob": -0.5, "top_logprobs": []}],
    "text": "A", "meta_info": {"prompt_tokens": 3, "completion_tokens": 1,
                               "output_token_ids_logprobs": [[[-0.5, 5, None]]],
                               "finish_reason": {"type": "stop"}},
}  # fmt: skip


def leaves(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from leaves(content[key], (*path, key))


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copied = content.copy()
    copied[path[0]] = replaced(content[path[0]], path[1:], value)
    return copied


@fuzzed(60)
@given(place=st.sampled_from(list(leaves(ANSWER))), value=VALUE, cut=nearly(as_json(ANSWER)))
@pytest.mark.parametrize("name", READERS)
def test_any_answer_of_a_server(name: str, place: tuple[Any, ...], value: Any, cut: bytes) -> None:
    for answer in (as_json(replaced(ANSWER, place, value)), cut):
        with readable(ValueError):  # which the client takes for an unusable answer
            READERS[name](answer)


def test_every_kind_of_server_has_readers() -> None:
    assert {name.partition(".")[0] for name in READERS} == {"llama_cpp", "openai", "sglang", "vllm"}
