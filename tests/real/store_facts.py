"""What a tracking store and the folders of unfinished work hold, read without MLflow.

Facts have names that are the same in every store, whatever the ids of runs and models, so the state
after a kill and a second start can be compared with that after one whole start.
"""

import hashlib
import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

Facts = dict[str, str]

IDS = re.compile(r"m-[0-9a-f]{32}|\b[0-9a-f]{32}\b")
# Tags of MLflow about the user and the source, and digests of files that are compared themselves.
UNUSED_TAGS = ("mlflow.user", "mlflow.source.", "isogloss.artifacts", "mlflow.artifactLocation")
ABOUT_RUNS = ("compare", "study")  # kinds with a fingerprint of ids
TEMPORARY = ("unfinished", "tmp", "cache")
KEPT = (".locks", ".lock", ".rename")  # what stays by intention; the last is of Optuna for a while


def facts(folder: Path) -> Facts:
    """The facts about the store `mlflow.db` in a folder, and about what was left there."""
    found = _leftovers(folder)
    with sqlite3.connect(f"file:{folder / 'mlflow.db'}?mode=ro", uri=True) as store:
        store.row_factory = sqlite3.Row
        names = _run_names(store)
        models = _models(store, names)
        found |= _runs(store, names, models) | _versions(store, models)
    return found


def differences(
    expected: Facts,
    volatile: set[str],
    found: Facts,
    unlike: Callable[[str], bool] = lambda name: False,
) -> list[str]:
    """How facts differ, one line each; those that are `unlike` may."""
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        before, after = expected.get(name), found.get(name)
        if before != after and not (name in volatile and before and after) and not unlike(name):
            lines.append(f"{name}: expected {_short(before)}, found {_short(after)}")
    return lines


def _short(value: str | None) -> str:
    return "nothing" if value is None else value[:120]


def _rows(store: sqlite3.Connection, query: str, *values: object) -> list[sqlite3.Row]:
    return store.execute(query, values).fetchall()


def _run_names(store: sqlite3.Connection) -> dict[str, str]:
    """A name for each run that is not deleted: its kind, what it is about, and a number."""
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    query = "SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time"
    for run in _rows(store, query):
        tags = _tags(store, run["run_uuid"])
        about = [tags.get(f"isogloss.{name}", "") for name in ("kind", "condition", "trial")]
        digest = tags.get("isogloss.fingerprint", "") if about[0] not in ABOUT_RUNS else ""
        name = " ".join(filter(None, [*about, digest[:8]])) or f"without kind, {run['name']}"
        counts[name] += 1
        names[run["run_uuid"]] = f"{name} #{counts[name]}"
    return names


def _tags(store: sqlite3.Connection, run_id: str) -> dict[str, str]:
    rows = _rows(store, "SELECT key, value FROM tags WHERE run_uuid = ?", run_id)
    return {row["key"]: row["value"] for row in rows}


def _runs(store: sqlite3.Connection, names: dict[str, str], models: dict[str, str]) -> Facts:
    found: Facts = {}
    for run_id, name in names.items():
        (row,) = _rows(store, "SELECT status, artifact_uri FROM runs WHERE run_uuid = ?", run_id)
        found[f"{name}: status"] = row["status"]
        tags = _tags(store, run_id)
        for key, value in tags.items():
            if not key.startswith(UNUSED_TAGS):
                found[f"{name}: tag {key}"] = _named(value, names, models)
        for param in _rows(store, "SELECT key, value FROM params WHERE run_uuid = ?", run_id):
            found[f"{name}: parameter {param['key']}"] = _named(param["value"], names, models)
        found |= _metrics(store, run_id, name)
        found |= _links(store, run_id, name, models)
        found |= _files(Path(row["artifact_uri"].removeprefix("file://")), name)
    return found


def _links(store: sqlite3.Connection, run_id: str, name: str, models: dict[str, str]) -> Facts:
    """Data sets and models that are inputs of a run, models that are its outputs."""
    data_sets = _rows(
        store,
        "SELECT d.name, d.digest FROM inputs i JOIN datasets d ON i.source_id = d.dataset_uuid"
        " WHERE i.destination_id = ? AND i.source_type = 'DATASET'",
        run_id,
    )
    linked = _rows(
        store,
        "SELECT * FROM inputs WHERE source_type != 'DATASET' AND ? IN (source_id, destination_id)",
        run_id,
    )
    texts = [
        f"{_named(row['source_id'], {run_id: 'run'}, models)} {row['source_type']} "
        f"{_named(row['destination_id'], {run_id: 'run'}, models)} {row['destination_type']}"
        for row in linked
    ]
    return {
        f"{name}: data sets": _listed(f"{row['name']} {row['digest']}" for row in data_sets),
        f"{name}: models": _listed(texts),
    }


def _metrics(store: sqlite3.Connection, run_id: str, name: str) -> Facts:
    """Values by metric and step; a step that is there twice shows both values."""
    query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step, value"
    values: dict[str, list[str]] = defaultdict(list)
    for row in _rows(store, query, run_id):
        values[f"{name}: metric {row['key']} at step {row['step']}"].append(repr(row["value"]))
    return {key: " and ".join(members) for key, members in values.items()}


def _models(store: sqlite3.Connection, names: dict[str, str]) -> dict[str, str]:
    """A name for each logged model: the adapter that it has and the run that logged it."""
    models: dict[str, str] = {}
    query = (
        "SELECT model_id, source_run_id, status FROM logged_models"
        " WHERE lifecycle_stage = 'active' ORDER BY creation_timestamp_ms"
    )
    for row in _rows(store, query):
        tags = {
            tag["tag_key"]: tag["tag_value"]
            for tag in _rows(
                store, "SELECT * FROM logged_model_tags WHERE model_id = ?", row["model_id"]
            )
        }
        digest = tags.get("isogloss.adapter", "without tags")[:12]
        run = names.get(row["source_run_id"], "a deleted run")
        models[row["model_id"]] = f"model {digest} of {run}, status {row['status']}"
    return models


def _versions(store: sqlite3.Connection, models: dict[str, str]) -> Facts:
    """Logged models with their files and metrics, and the versions and aliases of registered ones."""
    found: Facts = {}
    counts = Counter(models.values())
    for model_id, name in models.items():
        found[f"{name}: count"] = str(counts[name])
        (row,) = _rows(
            store, "SELECT artifact_location FROM logged_models WHERE model_id = ?", model_id
        )
        found |= _files(Path(row["artifact_location"].removeprefix("file://")), name)
        metrics = _rows(store, "SELECT * FROM logged_model_metrics WHERE model_id = ?", model_id)
        found[f"{name}: metrics"] = _listed(
            f"{metric['metric_name']} at {metric['metric_step']}" for metric in metrics
        )
    for row in _rows(
        store, "SELECT * FROM model_versions WHERE current_stage != 'Deleted_Internal'"
    ):
        name = f"version {row['version']} of {row['name']}"
        found[name] = f"{_named(row['source'], {}, models)}, {row['status']}"
        tags = _rows(
            store, "SELECT * FROM model_version_tags WHERE name = ? AND version = ?",
            row["name"], row["version"],
        )  # fmt: skip
        for tag in tags:
            found[f"{name}: tag {tag['key']}"] = _named(tag["value"], {}, models)
    for row in _rows(store, "SELECT * FROM registered_model_aliases"):
        found[f"alias {row['alias']} of {row['name']}"] = str(row["version"])
    return found


def _named(text: str, names: dict[str, str], models: dict[str, str]) -> str:
    """A text with names in the place of ids."""
    known = names | models
    return IDS.sub(lambda found: known.get(found[0], "an unknown id"), text)


def _listed(values: Iterable[str]) -> str:
    counts = Counter(values)
    return json.dumps(sorted(f"{value} x{count}" for value, count in counts.items()))


def _files(folder: Path, name: str) -> Facts:
    """The names of all files, and the content of those that do not name ids or times."""
    paths = sorted(
        path for path in folder.rglob("*") if path.is_file() and "code" not in path.parts
    )
    found = {f"{name}: files": json.dumps([str(path.relative_to(folder)) for path in paths])}
    for path in paths:
        if path.suffix in (".parquet", ".safetensors", ".json", ".csv", ".yaml"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            found[f"{name}: content of {path.relative_to(folder)}"] = digest
    return found


def _leftovers(folder: Path) -> Facts:
    """Files and folders that are left beside the store and in the folders of temporary files."""
    places = [folder, *(folder / name for name in TEMPORARY)]
    return {
        f"left: {IDS.sub('ID', str(path.relative_to(folder)))}": "there"
        for place in places
        if place.is_dir()
        for path in place.iterdir()
        if not path.name.endswith(KEPT) and path.name not in TEMPORARY
    }
