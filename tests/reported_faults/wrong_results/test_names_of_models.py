"""One model under two names is one model, and two models are never shown under one name."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from logged_runs import log_runs
from synthetic_predictions import gains, tables

from isogloss.analysis.score_matrix import RunKey
from isogloss.config import CompareConfig, StudyConfig
from isogloss.errors import ComparisonError
from isogloss.stages.collect_runs import collect_runs
from isogloss.stages.study import run_study

pytestmark = pytest.mark.usefixtures("no_figures")

Tables = dict[RunKey, pd.DataFrame]


def log_study(study: str, cells: Iterable[str], labels: dict[str, str]) -> None:
    """A finished study run with these evaluate runs."""
    with mlflow.start_run():
        values = {"kind": "study", "study": study, "cells": " ".join(cells)}
        mlflow.set_tags({f"isogloss.{name}": value for name, value in values.items()})
        mlflow.set_tag("isogloss.labels", json.dumps(labels))


def named(model: str, seed: str = "0") -> Tables:
    return {
        key._replace(model=model, seed=seed if key.source else ""): table
        for key, table in tables(gains(0.1, 0.05), n=8).items()
    }


def models(**config: str) -> set[str]:
    return {key.model for key in collect_runs(CompareConfig(**config)).by_key}


def test_a_study_of_a_copied_model_has_all_its_seeds(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    config = {
        "study": "seeds",
        "dtype": "float32",
        "languages": "heb_Hebr,amh_Ethi,fra_Latn,tur_Latn",
        "limit": 2,
        "finetune": {"steps": 1, "batch_size": 2, "limit": 4, "dev_limit": 2, "rank": 2},
    }
    original = model_folder("llama")
    copy = shutil.copytree(original, tmp_path / "copy")
    run_study(StudyConfig(**config, model=str(original), seeds="0"))
    entry = {"model": str(copy), "label": "the copy"}
    compared = mlflow.get_run(run_study(StudyConfig(**config, models=[entry], seeds="0,1")))
    assert compared.data.metrics["contrast/seeds"] == 2
    assert compared.data.tags["isogloss.model"] == "the copy"
    assert len(compared.data.tags["isogloss.cells"].split()) == 3


def test_names_of_one_revision_are_one_model_in_a_comparison() -> None:
    log_runs(named("m"), revision="r")
    log_runs({key: table for key, table in named("copy", "1").items() if key.source}, revision="r")
    collected = collect_runs(CompareConfig())
    assert [(key.model, key.seed) for key in collected.by_key] == [
        ("copy", ""),
        ("copy", "0"),
        ("copy", "1"),
    ]


def test_a_copy_with_another_dtype_is_not_compared_with_the_original() -> None:
    log_runs(named("m"), revision="r")
    log_runs(named("copy", "1"), revision="r", dtype="bfloat16")
    with pytest.raises(ComparisonError, match=r"dtype is 'bfloat16' .* 'float32'"):
        collect_runs(CompareConfig())


def test_a_label_that_is_the_name_of_another_model_is_not_used() -> None:
    log_study("one", log_runs(named("m1")).values(), {"m1": "m2"})
    log_study("two", log_runs(named("m2")).values(), {})
    assert models(study="one") == {"m2"}
    assert models(study="one,two") == {"m1", "m2"}


def test_a_label_of_two_models_is_not_used() -> None:
    log_study("one", log_runs(named("m1")).values(), {"m1": "small"})
    log_study("two", log_runs(named("m2")).values(), {"m2": "small"})
    assert models(study="one,two") == {"m1", "m2"}
