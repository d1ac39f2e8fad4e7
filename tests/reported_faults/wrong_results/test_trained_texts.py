"""A text that an adapter was trained on is not evaluated under another id."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.errors import DataError
from isogloss.stages.evaluate_adapters import run_evaluate
from isogloss.stages.finetune import run_finetune

CODES = ("eng_Latn", "deu_Latn")
PLACES = ("harbour", "museum", "library", "station", "market", "bridge")


def rows(code: str, first: int, count: int) -> list[dict[str, object]]:
    """Questions on passages that differ by place and language."""
    return [
        {
            "passage": f"{code}: the {PLACES[number % 6]} of town {number} opens at {number} today",
            "question": f"When does the {PLACES[number % 6]} open?",
            "options": [f"at {number}", f"at {number + 1}"],
            "answer": 1,
        }
        for number in range(first, first + count)
    ]


def write(folder: Path, make: Callable[[str], list[dict[str, object]]]) -> None:
    for code in CODES:
        lines = [json.dumps(row) for row in make(code)]
        (folder / f"{code}.jsonl").write_text("\n".join(lines) + "\n")


def split(rows: list[dict[str, object]], name: str) -> list[dict[str, object]]:
    return [{**row, "split": name} for row in rows]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def parameters(model_folder: Callable[[str], Path], data: Path) -> dict[str, object]:
    return {
        "model": str(model_folder("llama")), "dtype": "float32", "task": "files",
        "data_dir": str(data), "source": "eng_Latn",
    }  # fmt: skip


TRAINING = {"steps": 1, "batch_size": 2, "rank": 2, "dev_limit": 2, "learning_rate": 0.01}


def test_a_duplicate_of_a_training_passage_is_found_by_its_text(
    data: Path, model_folder: Callable[[str], Path]
) -> None:
    def duplicated(code: str) -> list[dict[str, object]]:
        parts = {"train": rows(code, 0, 4), "dev": rows(code, 4, 2)}
        parts["test"] = [*rows(code, 6, 3), *rows(code, 2, 1)]
        named = [row for name, part in parts.items() for row in split(part, name)]
        return [{**row, "passage_id": f"p{at}"} for at, row in enumerate(named)]

    write(data, duplicated)
    shared = parameters(model_folder, data)
    run = run_finetune(FinetuneConfig.model_validate({**shared, **TRAINING}))
    for languages in ("deu_Latn", "eng_Latn", "all"):
        config = {**shared, "adapter": run, "languages": languages}
        with pytest.raises(DataError, match=r"1 of the 4 passages .* 'p9' \(as 'p2'\)"):
            run_evaluate(EvaluateConfig.model_validate(config))


def test_rows_in_front_that_change_all_ids_do_not_hide_training_passages(
    data: Path, model_folder: Callable[[str], Path]
) -> None:
    write(data, lambda code: rows(code, 0, 60))
    shared = parameters(model_folder, data)
    run = run_finetune(FinetuneConfig.model_validate({**shared, **TRAINING}))
    config = EvaluateConfig.model_validate({**shared, "adapter": run, "languages": "deu_Latn"})
    run_evaluate(config)
    write(data, lambda code: [*rows(code, 100, 1), *rows(code, 0, 60)])
    with pytest.raises(DataError, match="were in its training data"):
        run_evaluate(config)
