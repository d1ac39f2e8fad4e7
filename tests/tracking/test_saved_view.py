"""Saved views of MLflow's page: what is kept, and where it is opened."""

import base64
import json
import zlib
from urllib.parse import parse_qsl

import mlflow
import pytest

from isogloss.tracking.saved_view import LONGEST, View, save_view, view_url

VIEW = View(
    filter="attributes.run_id IN ('a', 'b')",
    tags=["isogloss.condition"],
    metrics=["accuracy/mean"],
    baseline="a",
    charts={"Hebrew": "accuracy/heb_Hebr"},
)


def saved(key: str) -> dict[str, object]:
    """The state behind a key, read as the page reads it: a zlib stream in base64."""
    text = mlflow.get_experiment("0").tags[f"mlflow.sharedViewState.{key}"]
    kind, _, packed = text.partition(";")
    assert kind == "deflate"
    state: dict[str, object] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_a_view_is_kept_in_the_experiment_and_opened_by_its_key() -> None:
    address = save_view(VIEW, "study demo", "0")
    assert address is not None
    page, _, query = address.partition("?")
    assert page == "#/experiments/0/runs"
    asked = dict(parse_qsl(query))
    key = asked.pop("viewStateShareKey")
    assert asked == {"workflowType": "machine_learning", "compareRunsMode": "CHART"}
    state = saved(key)
    assert state["searchFilter"] == VIEW.filter
    assert state["selectedColumns"] == ["tags.`isogloss.condition`", "metrics.`accuracy/mean`"]
    table, bars = state["compareRunCharts"]
    assert (table["type"], table["baselineColumnUuid"]) == ("DIFFERENCE", "a")
    assert (bars["type"], bars["metricKey"]) == ("BAR", "accuracy/heb_Hebr")
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {table["metricSectionId"], bars["metricSectionId"]} == sections


def test_a_list_has_columns_and_no_charts() -> None:
    address = save_view(View("", ["isogloss.verdict"], ["gain/mean"]), "studies", "0")
    assert address is not None
    asked = dict(parse_qsl(address.partition("?")[2]))
    assert asked["compareRunsMode"] == "TABLE"
    state = saved(asked["viewStateShareKey"])
    assert state["selectedColumns"] == ["tags.`isogloss.verdict`", "metrics.`gain/mean`"]
    assert "compareRunCharts" not in state


def test_a_later_view_of_that_name_replaces_it() -> None:
    first = save_view(VIEW, "study demo", "0")
    assert save_view(VIEW, "study demo", "0") == first
    assert save_view(VIEW, "study other", "0") != first
    tags = [name for name in mlflow.get_experiment("0").tags if "sharedViewState" in name]
    assert len(tags) == 2


def test_a_view_that_is_too_long_is_not_kept() -> None:
    long = View("", [], [], "a", {f"{hash(str(n))}": f"{hash(n**3 + 0.5)}" for n in range(2000)})
    assert save_view(long, "study demo", "0") is None
    assert all(len(value) <= LONGEST for value in mlflow.get_experiment("0").tags.values())


@pytest.mark.parametrize(
    ("store", "url"),
    [
        ("http://tracking:5000/", "http://tracking:5000/#/experiments/1"),
        ("sqlite:///mlflow.db", "http://127.0.0.1:5000/#/experiments/1"),
    ],
)
def test_its_address_is_on_the_server_of_the_store(
    store: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: store)
    assert view_url("#/experiments/1") == url
