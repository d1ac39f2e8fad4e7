"""A tracking store with as many runs as wanted: one real study, and copies of its rows.

The study is computed with a tiny random model and logged through MLflow. Its rows are then copied
within the database, table by table, with new ids: they are the rows that MLflow writes, and two
million metrics take a minute. Copies share the artifacts of the study.
"""

import hashlib
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import mlflow
import torch
from mlflow.entities import Metric
from mlflow.store.tracking.dbmodels import models
from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    create_engine,
    func,
    insert,
    select,
)
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.gpu_parts.models import SIZES, train_tokenizer
from isogloss.config import StudyConfig
from isogloss.languages import table as known_languages
from isogloss.stages.study import run_study
from isogloss.tasks import items, open_task
from isogloss.types import Split

STUDY = "measured"
LANGUAGES = "arb_Arab,heb_Hebr,amh_Ethi,eng_Latn,fra_Latn,swh_Latn"
MODEL = "tiny"  # the folder of the model, in the current directory
NAMES = ("accuracy", "accuracy_se", "n", "format_valid", "gold_logprob")  # of added metrics
BATCH = 5000  # rows of one statement
HEX = re.compile(r"\b(?:m-)?[0-9a-f]{32}\b|\b[0-9a-f]{64}\b")
# Tables, parents first; the column by which their rows are copied, and others with ids of runs.
TABLES: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (models.SqlRun, "run_uuid", ()),
    (models.SqlLoggedModel, "model_id", ("source_run_id",)),
    (models.SqlTag, "run_uuid", ()),
    (models.SqlParam, "run_uuid", ()),
    (models.SqlLatestMetric, "run_uuid", ()),
    (models.SqlMetric, "run_uuid", ()),
    (models.SqlInput, "input_uuid", ("source_id", "destination_id")),
    (models.SqlInputTag, "input_uuid", ()),
    (models.SqlLoggedModelTag, "model_id", ()),
    (models.SqlLoggedModelParam, "model_id", ()),
    (models.SqlLoggedModelMetric, "model_id", ("run_id",)),
)
TEXTS: dict[Any, str] = {  # columns in which ids and digests stand in text
    models.SqlTag: "value",
    models.SqlLoggedModelTag: "tag_value",
}


def study_config() -> StudyConfig:
    """A study of nine cells: base, and two sources with two seeds each; two training steps."""
    return StudyConfig.model_validate(
        {
            "study": STUDY,
            "model": MODEL,
            "dtype": "float32",
            "languages": LANGUAGES,
            "sources": ["arb_Arab", "eng_Latn"],
            "seeds": [0, 1],
            "limit": 4,
            "finetune": {"steps": 2, "batch_size": 2, "rank": 2, "dev_limit": 4, "limit": 8},
        }
    )


def make_model() -> None:
    """A tiny random Qwen 3 with a tokenizer trained on the probe, in the folder `MODEL`."""
    task = open_task("probe", None)
    texts = [
        f"{item.passage} {item.question}"
        for code in LANGUAGES.split(",")
        for item in items(task, code, Split.TRAIN, 40)
    ]
    torch.manual_seed(0)
    size = SIZES["tiny"]
    Qwen3ForCausalLM(Qwen3Config(**size)).save_pretrained(MODEL)
    train_tokenizer(texts, size["vocab_size"]).save_pretrained(MODEL)


def fill(runs: int, metrics: int) -> int:
    """Compute the study in the current store, copy it until there are `runs`, and count them."""
    if not Path(MODEL).is_dir():
        make_model()
    run_study(study_config())
    return multiply(runs, metrics)


def multiply(runs: int, metrics: int) -> int:
    """Copy all runs of the current store until there are `runs`; return how many there are then.

    First every run gets `metrics` metrics, with the names of languages that it has not evaluated.
    """
    for run in mlflow.search_runs(search_all_experiments=True, output_format="list"):
        _add_metrics(run.info.run_id, set(run.data.metrics), metrics)
    uri = mlflow.get_tracking_uri()
    with create_engine(uri).begin() as connection:
        if uri.startswith("sqlite"):
            connection.exec_driver_sql("PRAGMA synchronous = OFF")
            connection.exec_driver_sql("PRAGMA cache_size = -400000")
        _copy(connection, runs)
        return int(connection.execute(select(func.count(models.SqlRun.run_uuid))).scalar_one())


def _add_metrics(run_id: str, known: set[str], wanted: int) -> None:
    names = (f"{name}/{code}" for code in known_languages() for name in NAMES)
    new = [name for name in names if name not in known][: max(0, wanted - len(known))]
    values = [Metric(name, i / wanted, 0, 0) for i, name in enumerate(new)]
    mlflow.MlflowClient().log_batch(run_id, metrics=values)


def _copy(connection: Connection, wanted: int) -> None:
    """Copy all rows of all runs as often as is needed."""
    runs = connection.execute(select(models.SqlRun.__table__)).mappings().all()
    ids = [row["run_uuid"] for row in runs]
    ids += connection.execute(select(models.SqlLoggedModel.model_id)).scalars()
    ids += connection.execute(select(models.SqlInput.input_uuid)).scalars()
    copies = range(1, -(-wanted // len(runs)))
    mapping = Table(
        "copies", MetaData(), Column("number", Integer), Column("old", String(36)),
        Column("new", String(36)), Index("copies_old", "old", "number"),
    )  # fmt: skip
    mapping.create(connection)
    pairs = ((number, old, _new_id(old, number)) for number in copies for old in ids)
    _insert(connection, mapping, ({"number": n, "old": old, "new": new} for n, old, new in pairs))
    for model, key, others in TABLES:
        if model in TEXTS:
            _copy_texts(connection, model, key, ids, copies)
        else:
            _copy_rows(connection, mapping, model.__table__, key, others)
    mapping.drop(connection)


def _copy_rows(
    connection: Connection, mapping: Table, table: Any, key: str, others: tuple[str, ...]
) -> None:
    """Copy the rows of old ids to new ones, within the database."""
    values = {column.name: column for column in table.columns} | {key: mapping.c.new}
    source = table.join(mapping, table.c[key] == mapping.c.old)
    for name in others:
        own = mapping.alias(name)
        same = and_(table.c[name] == own.c.old, own.c.number == mapping.c.number)
        source = source.outerjoin(own, same)
        values[name] = func.coalesce(own.c.new, table.c[name])
    rows = select(*values.values()).select_from(source)
    connection.execute(insert(table).from_select(list(values), rows))


def _copy_texts(
    connection: Connection, model: Any, key: str, ids: list[str], copies: range
) -> None:
    """Copy rows whose text names runs, models and digests: each copy names its own."""
    column = TEXTS[model]
    table = model.__table__
    chosen = select(table).where(table.c[key].in_(ids))
    rows = connection.execute(chosen).mappings().all()
    _insert(
        connection,
        table,
        (
            {**row, key: _new_id(row[key], number), column: _renamed(row[column], number)}
            for number in copies
            for row in rows
        ),
    )


def _renamed(text: str, number: int) -> str:
    """A text of the study as its copy of that number has it."""
    text = HEX.sub(lambda match: _new_id(match[0], number), text)
    return f"{STUDY}-{number}" if text == STUDY else text


def _new_id(old: str, number: int) -> str:
    """The id or digest of a copy, of the same length and prefix."""
    prefix = old[:2] if old.startswith("m-") else ""
    return prefix + hashlib.sha256(f"{old} {number}".encode()).hexdigest()[: len(old) - len(prefix)]


def _insert(connection: Connection, table: Any, rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, BATCH)):
        connection.execute(insert(table), batch)
