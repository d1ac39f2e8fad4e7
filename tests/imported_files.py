"""Files of answers that tests import, made from tests/data/imports."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from isogloss.config import ImportConfig
from isogloss.importers.read_results import read_results

DATA = Path(__file__).parent / "data" / "imports"
ROW = {"language": "heb_Hebr", "item_id": "i", "passage_id": "p", "correct": 1}
NAMED = {"model": "m", "condition": "base", "task": "quiz", "format": "letter"}


def lm_eval_folder(
    folder: Path, backend: str = "hf", model_args: Any = None, **config: Any
) -> Path:
    """A folder with one task of lm-eval, whose model had these arguments; returns its samples."""
    (samples,) = DATA.glob("samples_belebele*arb*")
    (results,) = DATA.glob("results*")
    content = json.loads(results.read_text())
    content["config"] |= {"model": backend, **config}
    if model_args is not None:
        content["config"]["model_args"] = model_args
    (folder / results.name).write_text(json.dumps(content))
    return Path(shutil.copy(samples, folder))


def inspect_log(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A log of inspect_ai after a change."""
    log = json.loads((DATA / "quiz.json").read_text())
    change(log)
    path = folder / "quiz.json"
    path.write_text(json.dumps(log))
    return path


def alter_line(path: Path, change: Callable[[dict[str, Any]], object], line: int = 0) -> Path:
    """Change one line of JSON lines in place."""
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    change(rows[line])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_rows(path: Path, *rows: dict[str, Any]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def imported(path: Path, **parameters: Any) -> pd.DataFrame:
    """The only table that an import of `path` gives."""
    (table,) = read_results(ImportConfig(path=str(path), **parameters)).values()
    return table
