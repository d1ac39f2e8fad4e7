"""Files of results become tables of predictions, one for each run, or are refused as a whole."""

import glob
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from isogloss.config import ImportConfig
from isogloss.errors import ConfigError, DataError
from isogloss.importers import inspect_ai, lm_eval, tables
from isogloss.importers.fields import CODE, Given, Said
from isogloss.languages import language
from isogloss.tasks.rows import lines_of, read_jsonl, read_parquet

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".json", ".eval")
COLUMNS = (
    *("task", "language", "format", "item_id", "passage_id", "answer", "prediction", "correct"),
    *("valid", "forced", "greedy", "choice_logprobs", "gold_logprob", "text", "tokens", "words"),
)
RENAMED = ("model", "task")  # what parameters may call otherwise than a tool's log does
ACCEPTED = {
    "model": "the same for base and tuned",
    "condition": "base, tuned, base+cot or tuned+cot",
    "source": "the language fine-tuned on, such as arb_Arab",
    "task": "its name without the language",
    "format": "letter, cloze or generate",
    "language": "a FLORES-200 code such as arb_Arab, or the field that holds it",
}


class RunKey(NamedTuple):
    """What one run is of; `seed` is empty where it is not known."""

    model: str
    condition: str
    source: str
    seed: str
    task: str
    format: str


def read_results(config: ImportConfig) -> dict[RunKey, pd.DataFrame]:
    """Read and check everything that `path` names: a table of predictions for each run.

    Rows are in order of language and item. Raises DataError or ConfigError, naming file and line or
    sample, for whatever cannot be used.
    """
    everything = [given for path in find_files(config.path) for given in _read(path, config)]
    settled: dict[tuple[Said, str | None], tuple[RunKey, str]] = {}
    for given in everything:
        if (about := (given.said, given.language)) not in settled:
            settled[about] = _settle(given, config)
    renamed = {
        f"{name} {getattr(said, name)} is imported as {getattr(key, name)}"
        for (said, _), (key, _) in settled.items()
        for name in RENAMED
        if getattr(said, name) not in (None, getattr(key, name))
    }
    for line in sorted(renamed):
        logger.info(line)
    # Without a source, a base is grouped relative to the only language that was tuned on.
    sources = {key.source for key, _ in settled.values()} - {""}
    only = sources.pop() if len(sources) == 1 else "arb_Arab"
    rows: dict[RunKey, dict[tuple[str, str], Given]] = {}
    for given in everything:
        key, code = settled[given.said, given.language]
        key = key._replace(source=key.source or only)
        first = rows.setdefault(key, {}).setdefault((code, given.item_id), given)
        if first is not given:
            raise DataError(
                f"{given.place}: item {given.item_id!r} in {code} stands twice in the results of "
                f"{key.model}, {key.condition}; it is also at {first.place}."
            )
    return {key: _table(key, found) for key, found in rows.items()}


def find_files(path: str) -> list[Path]:
    """The file, the files below the folder or those of the pattern, sorted; DataError if none."""
    here = Path(path).expanduser()
    if here.is_file():
        return [here]
    within = here.rglob("*") if here.is_dir() else map(Path, glob.glob(str(here), recursive=True))
    found = [it for it in sorted(within) if it.is_file() and it.suffix in SUFFIXES]
    found = [it for it in found if not (it.name.startswith("results_") and it.suffix == ".json")]
    if not found:
        raise DataError(
            f"path {path!r} is no file, and neither a folder nor a pattern that has files ending "
            f"in {', '.join(SUFFIXES)}."
        )
    return found


def _read(path: Path, config: ImportConfig) -> list[Given]:
    """The answers in a file of any format, told by what is in it."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if start.startswith(b"PK"):
        raise DataError(f"{path} is an archive; export it with `inspect log dump {path.name}`.")
    if start == b"PAR1":
        rows = read_parquet(path)
    elif path.suffix == ".json":
        try:
            content = json.loads("".join(lines_of(path)))
        except ValueError as error:
            raise DataError(f"{path} is not JSON: {error}.") from None
        if not isinstance(content, dict) or not {"status", "eval"} <= content.keys():
            raise DataError(
                f"{path} is not a log of inspect_ai; of lm-eval, samples_*.jsonl is what is read, "
                f"and results can be in JSON lines (.jsonl)."
            )
        return inspect_ai.read(path, content, config)
    else:
        first = next((line for line in lines_of(path) if line.strip()), "")
        if first.lstrip().startswith(("{", "[")):
            rows = read_jsonl(path)
        else:
            rows = tables.read_separated(path, "\t" if "\t" in first else ",")
    if not rows:
        raise DataError(f"{path} has no rows.")
    if {"doc", "filtered_resps"} <= rows[0].values.keys():
        return lm_eval.read(path, rows, config)
    return tables.read(rows, config)


def _settle(given: Given, config: ImportConfig) -> tuple[RunKey, str]:
    """Run and language of an answer, from what the file says and what the parameters say."""
    said, place = given.said, given.place
    asked = {name: _text(getattr(config, name)) for name in (*RunKey._fields, "language")}
    if asked["language"] and not CODE.fullmatch(asked["language"]):
        asked["language"] = None  # it names a field, which has been read
    here = {**{name: getattr(said, name) for name in RunKey._fields}, "language": given.language}
    values = {name: asked[name] or here[name] or "" for name in here}
    for name, value in values.items():
        if here[name] not in (None, value) and (said.tool is None or name not in RENAMED):
            raise DataError(f"{place}: {name} is {here[name]} but {name}={value} was given.")
        needed = name != "seed" and (name != "source" or values["condition"].startswith("tuned"))
        if needed and not value:
            raise ConfigError(
                f"{place} does not say its {name}; give the parameter {name}, {ACCEPTED[name]}."
            )
    for name in ("condition", "format"):
        if values[name] not in ACCEPTED[name].replace(" or ", ", ").split(", "):
            raise DataError(f"{place}: {name} must be {ACCEPTED[name]} but is {values[name]!r}.")
    for code in filter(None, (values["language"], values["source"])):
        try:
            language(code)
        except ConfigError as error:
            raise DataError(f"{place}: {error}") from None
    return RunKey(**{name: values[name] for name in RunKey._fields}), values["language"]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _table(key: RunKey, found: Mapping[tuple[str, str], Given]) -> pd.DataFrame:
    """The predictions of a run; optional columns that only some answers have are left out."""
    rows = [
        {
            "task": key.task,
            "language": code,
            "format": key.format,
            "item_id": item_id,
            "passage_id": given.passage_id,
            "correct": given.correct,
            **given.columns,
        }
        for (code, item_id), given in sorted(found.items(), key=lambda item: item[0])
    ]
    counts = {name: sum(name in row for row in rows) for name in COLUMNS}
    if not any(row.get("text") for row in rows):  # an empty cell of CSV
        counts["text"] = 0
    for name, count in counts.items():
        if 0 < count < len(rows):
            logger.info(
                f"{key.model}, {key.condition}: {name} left out, {count} of {len(rows)} have it"
            )
    kept = [name for name, count in counts.items() if count == len(rows)]
    return pd.DataFrame(rows, columns=kept)
