"""Data that no one means: refused in one sentence within seconds, with its file and line."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from isogloss.config import EvaluateConfig
from isogloss.errors import DataError
from isogloss.stages.task_data import evaluation_data

ROW: dict[str, object] = {
    "item_id": "a",
    "passage_id": "p",
    "passage": "x",
    "question": "q",
    "options": ["1", "2"],
    "answer": 1,
}


def jsonl(**changes: object) -> bytes:
    return json.dumps(ROW | changes).encode()


HEAD = b'{"item_id":"a","passage_id":"p","passage":"x","question":"q","options":["1","2"],"answer":'
FILES = {
    "half of a character.jsonl": HEAD.replace(b'"x"', b'"\\ud800"') + b"1}",
    "a line of 10 MB that is no JSON.jsonl": b"x" * 10_000_000,
    "an answer of 4,000 digits.jsonl": HEAD + b"9" * 4000 + b"}",
    "an answer of 5,000 digits.jsonl": HEAD + b"9" * 5000 + b"}",
    "an answer of text of 4,000 digits.jsonl": jsonl(answer="9" * 4000),
    "an answer that is no number.jsonl": HEAD + b"NaN}",
    "an infinite answer.jsonl": HEAD + b"1e999}",
    "an answer that is true.jsonl": jsonl(answer=True),
    "an answer that is a list.jsonl": jsonl(answer=[1]),
    "nested.jsonl": b'{"a":' * 50_000,
    "nested lists.jsonl": b"[" * 50_000,
    "10,000 options.jsonl": jsonl(options=[str(number) for number in range(10_000)]),
    "one option.jsonl": jsonl(options=["1"]),
    "options of text.jsonl": jsonl(options="12"),
    "options of lists.jsonl": jsonl(options=[["1"], ["2"]]),
    "an item that is a list.jsonl": b"[1]",
    "a name twice.jsonl": HEAD + b'1,"answer":2}',
    "option_99999999.csv": b"question,option_1,option_99999999,answer\nq,1,2,1\n",
    "an option number of 5,000 digits.csv": b"question,option_1,option_" + b"9" * 5000 + b",answer"
    b"\nq,1,2,1\n",
    "a column twice.csv": b"question,question,option_1,option_2,answer\nq,q,1,2,1\n",
    "a quote that is not closed.csv": b'question,option_1,option_2,answer\n"q,1,2,1\n',
    "UTF-16.jsonl": jsonl().decode().encode("utf-16"),
    "Latin-1.jsonl": HEAD.replace(b'"x"', b'"\xe9"') + b"1}",
    "gzip that is cut.jsonl": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab",
    "a zip archive.jsonl": b"PK\x03\x04" + b"\0" * 100,
    "no Parquet.parquet": b"PAR1" + b"\0" * 100 + b"PAR1",
    "nothing.jsonl": b"",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_data_as_weapons(content: bytes, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    extension = Path(request.node.callspec.id).suffix
    (tmp_path / f"heb_Hebr{extension}").write_bytes(content)
    (tmp_path / "arb_Arab.jsonl").write_bytes(jsonl())
    begun = time.monotonic()
    with pytest.raises(DataError) as caught:
        evaluation_data(
            EvaluateConfig(
                task="files", data_dir=str(tmp_path), source="arb_Arab", languages=("heb_Hebr",)
            )
        )
    assert time.monotonic() - begun < 5
    assert "heb_Hebr" in str(caught.value)


def test_what_a_user_named_is_not_printed_whole(tmp_path: Path) -> None:
    from isogloss.cli.main import program

    (tmp_path / "heb_Hebr.jsonl").write_bytes(jsonl(answer="9" * 4000))
    (tmp_path / "arb_Arab.jsonl").write_bytes(jsonl())
    arguments = ["--task", "files", "--data_dir", str(tmp_path), "--source", "arb_Arab"]
    result = CliRunner().invoke(program, ["evaluate", *arguments, "--languages", "heb_Hebr"])
    assert result.exit_code == 2
    assert "9" * 90 in result.output
    assert "9" * 201 not in result.output
