"""Reads results files as tables of predictions, one per run; an invalid file is rejected whole."""

import glob
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from isogloss.config import ImportConfig
from isogloss.errors import ConfigError, DataError
from isogloss.files import looked_for, user_path
from isogloss.formatting import shortened
from isogloss.importers import inspect_ai, lm_eval, tables
from isogloss.importers.fields import CODE, ImportedAnswer, RunFields
from isogloss.languages import language, pooled_source, source_languages
from isogloss.predictions.table import DOCUMENT_DIGEST, PROMPT_DIGEST
from isogloss.row_files import (
    extension,
    parse_json,
    read_csv,
    read_jsonl,
    read_lines,
    read_parquet,
)
from isogloss.types import Condition, Format, Reasoning

logger = logging.getLogger(__name__)

SHOWN = 3  # files listed in a warning
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".json", ".eval")
COLUMNS = (
    *("task", "language", "format", "item_id", "passage_id", "answer", "prediction", "correct"),
    *("valid", "forced", "greedy", "choice_logprobs", "gold_logprob", "text", "tokens", "words"),
    *(DOCUMENT_DIGEST, PROMPT_DIGEST),
)
RENAMABLE = ("model", "task")  # parameters may rename those that a tool has logged
MANIFESTS = ("logs.json", "listing.json", "eval-set.json")  # what inspect_ai writes beside logs
EXPECTED = {
    "model": "one name for base and tuned",
    "condition": ", ".join(Condition),
    "source": "the language fine-tuned on, such as arb_Arab",
    "task": "its name without the language",
    "format": ", ".join(Format),
    "language": "a FLORES-200 code such as arb_Arab, or the field that contains it",
}


class ImportedRun(NamedTuple):
    """What identifies one imported run; `seed` and, of a base run, `source` may be empty: unknown.

    `metric` is empty for the column `correct` of a table.

    The fields are plain text: they are part of the fingerprint.
    """

    model: str
    condition: str
    source: str
    seed: str
    task: str
    format: str
    metric: str = ""


def read_results(config: ImportConfig) -> dict[ImportedRun, pd.DataFrame]:
    """Read and validate everything that `path` names: a table of predictions for each run.

    Rows are sorted by language and item. Raises DataError or ConfigError, naming file and line or
    sample, for anything invalid.
    """
    found = [answer for path in find_files(config.path) for answer in _read(path, config)]
    answers = [answer for answer in found if answer.correct is not None]
    _report_missing([answer for answer in found if answer.correct is None], len(found), config)
    if not answers:
        raise DataError(
            f"path {config.path!r} has no answers; expected samples_*.jsonl of lm-eval (written "
            "with --log_samples), logs of inspect_ai or tables."
        )
    resolved: dict[tuple[RunFields, str | None], tuple[ImportedRun, str]] = {}
    for answer in answers:
        if (stated := (answer.run, answer.language)) not in resolved:
            resolved[stated] = _resolve(answer, config)
    renamed = {
        f"{name} {getattr(fields, name)} is imported as {getattr(run, name)}"
        for (fields, _), (run, _) in resolved.items()
        for name in RENAMABLE
        if getattr(fields, name) not in (None, getattr(run, name))
    }
    for line in sorted(renamed | {answer.read_as for answer in answers if answer.read_as}):
        logger.info(line)
    _check_tasks(resolved.values())
    if any(Condition(run.condition).reasoning is Reasoning.COT for run, _ in resolved.values()):
        logger.info(
            "chain of thought is generated: compare it with base and tuned results that are "
            "generated too (format generate), not scored by letter"
        )
    # A base run without a source gets the only source of the tuned runs, for its group means;
    # without one it has no groups.
    sources = {run.source for run, _ in resolved.values()} - {""}
    default_source = sources.pop() if len(sources) == 1 else ""
    by_run: dict[ImportedRun, dict[tuple[str, str], ImportedAnswer]] = {}
    for answer in answers:
        run, code = resolved[answer.run, answer.language]
        run = run._replace(source=run.source or default_source)
        first = by_run.setdefault(run, {}).setdefault((code, answer.item_id), answer)
        if first is not answer:
            raise DataError(
                f"{answer.place}: duplicate item {answer.item_id!r} in {code} for {run.model}, "
                f"{run.condition}; the first is at {first.place}."
            )
    return {run: _table(run, rows) for run, rows in by_run.items()}


def find_files(path: str) -> list[Path]:
    """The file, the files in the folder or those of the pattern, sorted; DataError if none."""
    given = user_path(path)
    if given.is_file():
        return [given]
    matches = (
        given.rglob("*") if given.is_dir() else map(Path, glob.glob(str(given), recursive=True))
    )
    found = [match for match in sorted(matches) if match.is_file()]
    files = [match for match in found if extension(match) in SUFFIXES]
    if others := [str(match) for match in found if match not in files]:
        shown = ", ".join(others[:SHOWN]) + (", ..." if len(others) > SHOWN else "")
        logger.warning(f"{len(others)} files are not read, because of their extension: {shown}")
    if not files:
        raise DataError(
            f"path {path!r} is not a file, and not a folder or pattern with files that end in "
            f"{', '.join(SUFFIXES)}{looked_for(path)}."
        )
    return files


def _read(path: Path, config: ImportConfig) -> list[ImportedAnswer]:
    """The answers in a file; the format is detected from the content."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    kind = extension(path)
    if start.startswith(b"PK") and kind == ".eval":
        raise DataError(
            f"{path} is a binary log; export it as JSON with `inspect log dump {path.name}`."
        )
    if start == b"PAR1" or kind == ".parquet":
        rows = read_parquet(path)
    elif kind == ".json":
        return _read_json(path, config)
    else:
        first = next((line for line in read_lines(path) if line.strip()), "")
        if first.strip() == "[":
            raise DataError(
                f"{path} is one JSON list, as lm-eval before 0.4.3 writes samples; evaluate with a "
                "later version, or write a table."
            )
        rows = read_jsonl(path) if first.lstrip().startswith(("{", "[")) else read_csv(path)
    if not rows:
        raise DataError(f"{path} has no rows.")
    if {"doc", "filtered_resps"} <= rows[0].values.keys():
        with _known_layout(path, "lm-evaluation-harness"):
            return lm_eval.read(path, rows, config)
    return tables.read(rows, config)


@contextmanager
def _known_layout(path: Path, tool: str) -> Iterator[None]:
    """Context in which a tool's file is read; DataError for a value of a type it never has there.

    A file has hundreds of fields, and a tool may change any of them.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        logger.debug(f"{path} cannot be read", exc_info=error)
        reason = shortened(f"{type(error).__name__}: {error}")
        raise DataError(
            f"{path} has another layout than the files of {tool} that isogloss knows ({reason})."
        ) from error


def _read_json(path: Path, config: ImportConfig) -> list[ImportedAnswer]:
    """The answers in a log of inspect_ai; none in the files that tools write beside answers."""
    try:
        content = parse_json("".join(read_lines(path)))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from None
    if isinstance(content, dict) and {"status", "eval"} <= content.keys():
        with _known_layout(path, "inspect_ai"):
            return inspect_ai.read(path, content, config)
    if path.name in MANIFESTS or lm_eval.is_results(content):
        logger.debug(f"{path} has no answers")
        return []
    raise DataError(
        f"{path} is not a log of inspect_ai; for lm-eval import samples_*.jsonl, and for "
        "your own results JSON lines (.jsonl)."
    )


def _resolve(answer: ImportedAnswer, config: ImportConfig) -> tuple[ImportedRun, str]:
    """Run and language of an answer, from the file and the parameters.

    Raises DataError if the two disagree, ConfigError if neither states a required field.
    """
    fields = tuple(name for name in ImportedRun._fields if name != "metric")
    names = (*fields, "language")
    given = {name: _text(getattr(config, name)) for name in names}
    if given["language"] and not CODE.fullmatch(given["language"]):
        given["language"] = None  # the name of a field, which is read already
    stated = {name: getattr(answer.run, name) for name in fields}
    if stated["source"] is not None:
        stated["source"] = pooled_source(stated["source"])
    stated["language"] = answer.language
    values = {name: given[name] or stated[name] or "" for name in names}
    for name, value in values.items():
        renamable = answer.run.tool is not None and name in RENAMABLE
        if stated[name] not in (None, value) and not renamable:
            raise DataError(
                f"{answer.place}: {name} is {stated[name]} in the file but {value} as a parameter."
            )
    for name, choices in (("condition", Condition), ("format", Format)):
        if values[name] and values[name] not in tuple(choices):
            raise DataError(
                f"{answer.place}: {name} must be one of {', '.join(choices)} but is "
                f"{values[name]!r}."
            )
    for name, value in values.items():
        optional = name == "seed" or (
            name == "source" and values["condition"] and not Condition(values["condition"]).tuned
        )
        if not value and not optional:
            raise ConfigError(
                f"{answer.place} does not state its {name}; set the parameter {name} to "
                f"{EXPECTED[name]}."
            )
    try:
        language(values["language"])
    except ConfigError as error:
        message = f"{str(error).removesuffix('.')}, or set language_names={values['language']}=CODE"
        raise DataError(f"{answer.place}: {message}.") from None
    try:
        if values["source"]:
            source_languages(values["source"])
    except ConfigError as error:
        raise DataError(f"{answer.place}: {error}") from None
    run = ImportedRun(**{name: values[name] for name in fields}, metric=answer.run.metric or "")
    return run, values["language"]


def _report_missing(
    missing: Sequence[ImportedAnswer], n_answers: int, config: ImportConfig
) -> None:
    if missing:
        counts = Counter(_resolve(answer, config)[1] for answer in missing)
        listed = ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))
        logger.warning(
            f"{len(missing)} of {n_answers} answers are missing and left out ({listed}); if other "
            "runs have them, compare with missing=drop"
        )


def _check_tasks(resolved: Iterable[tuple[ImportedRun, str]]) -> None:
    """Raise DataError if a tool's log has a task of its own for each language.

    The name of the language is then part of a task's name, and `compare` would have one language.
    """
    languages: dict[ImportedRun, dict[str, set[str]]] = {}
    for run, code in resolved:
        languages.setdefault(run._replace(task=""), {}).setdefault(run.task, set()).add(code)
    for by_task in languages.values():
        alone = {task: codes for task, codes in by_task.items() if len(codes) == 1}
        if len(by_task) > 1 and len(alone) == len(by_task) == len(set().union(*alone.values())):
            listed = ", ".join(
                f"{task} ({min(codes)})" for task, codes in list(alone.items())[:SHOWN]
            )
            raise DataError(
                f"each of the {len(alone)} tasks is in a different language, such as {listed}; if "
                "they are one task in several languages, set task=NAME, else import each by itself."
            )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _table(run: ImportedRun, answers: Mapping[tuple[str, str], ImportedAnswer]) -> pd.DataFrame:
    """The predictions of a run; optional columns that not every answer has are left out."""
    rows = [
        {
            "task": run.task,
            "language": code,
            "format": run.format,
            "item_id": item_id,
            "passage_id": answer.passage_id,
            "correct": answer.correct,
            **answer.columns,
        }
        for (code, item_id), answer in sorted(answers.items(), key=lambda entry: entry[0])
    ]
    counts = {name: sum(name in row for row in rows) for name in COLUMNS}
    if not any(row.get("text") for row in rows):  # empty cells of a CSV file
        counts["text"] = 0
    for name, count in counts.items():
        if 0 < count < len(rows):
            logger.warning(
                f"{run.model}, {run.condition}: column {name} is left out, because only "
                f"{count} of {len(rows)} answers have it"
            )
    complete = [name for name, count in counts.items() if count == len(rows)]
    return pd.DataFrame(rows, columns=complete)
