"""Whether two answers to one prompt are of the same weights."""

import json
import math
from pathlib import Path

import pytest

from isogloss.stages.served_weights import (
    FILE,
    KEPT,
    TOLERANCE,
    difference,
    keep_answers_of,
    likeliest,
    other_weights,
    stored,
)


def test_the_likeliest_tokens_are_kept_by_id_or_text():
    values: dict[int | str, float] = {token: -token / 3 for token in range(30, 0, -1)}
    kept = likeliest(values | {" A": -0.1})
    assert len(kept) == KEPT
    assert list(kept)[:2] == [" A", "1"]
    assert kept["2"] == -0.6667


def test_the_difference_is_a_root_mean_square_over_the_tokens_of_both():
    then, now = {"a": -1.0, "b": -2.0, "c": -3.0}, {"a": -1.5, "b": -2.0, "d": -4.0}
    # c is there as the least of `now`, d as the least of `then`.
    assert difference(then, now) == pytest.approx(math.sqrt((0.25 + 0 + 1 + 1) / 4))
    assert difference(then, then) == 0


def test_rounding_is_no_other_model_and_nothing_is_said_without_an_answer():
    then = {"a": -1.0, "b": -2.0}
    assert other_weights(then, {"a": -1.0 - 0.9 * TOLERANCE, "b": -2.0}) is None
    problem = other_weights(then, {"a": -3.0, "b": -4.0})
    assert problem is not None
    assert problem.endswith("log-probabilities of the first prompt differ by 2 nats")
    assert other_weights({}, then) is other_weights(then, {}) is None


@pytest.mark.parametrize("text", ["", "[1]", '{"a": "b"}', '{"a": [1]}', "{"])
def test_a_damaged_answer_is_none(text: str):
    assert stored(text) == {}
    assert stored(json.dumps({"a": -1})) == {"a": -1.0}


def test_answers_stay_until_the_weights_are_others(tmp_path: Path):
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("eng_Latn.jsonl", "eng_Latn.parquet", "run.json"):
        (folder / name).touch()
    keep_answers_of(folder, {"a": -1.0})
    keep_answers_of(folder, {"a": -1.2})
    assert len(list(folder.iterdir())) == 4
    assert json.loads((folder / FILE).read_text()) == {"a": -1.0}  # the first, not the last
    keep_answers_of(folder, {"a": -3.0})
    assert sorted(path.name for path in folder.iterdir()) == ["run.json", FILE]
    assert json.loads((folder / FILE).read_text()) == {"a": -3.0}
