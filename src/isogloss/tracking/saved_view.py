"""A view of MLflow's page of an experiment: which runs, columns and charts it opens with.

MLflow keeps what its button "Share" saves in a tag of the experiment, as JSON or compressed, and
opens it by an address. The names of its parts are those of MLflow's page (`ExperimentPageUIState`
and `ExperimentPageSearchFacetsState`); it fills in what is left out.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import mlflow

from isogloss.tracking.shared_rows import insert_shared

TAG = "mlflow.sharedViewState."
COMPRESSED = "deflate;"
LONGEST = 5000  # characters of a tag of an experiment
KEY_LENGTH = 16
# Whatever an experiment is, its page has the mode that the browser had last, at first GenAI.
TRAINING_MODE = "workflowType=machine_learning"
TABLE, BARS = "Changes from base", "Accuracy"  # sections of the page
LOCAL_UI = "http://127.0.0.1:5000"  # where `make ui` starts a server


@dataclass(frozen=True)
class View:
    """Runs that a filter selects, the columns of their list, a table and charts of bars.

    The table has a row for each metric, a column for each run, and changes from the run `baseline`.
    `charts` are metrics by the title of their chart, with a bar for each run. Without a baseline
    there are neither, and the page opens on the list.
    """

    filter: str
    tags: Sequence[str]
    metrics: Sequence[str]
    baseline: str = ""
    charts: Mapping[str, str] = field(default_factory=dict)


def save_view(view: View, name: str, experiment_id: str) -> str | None:
    """Save a view in an experiment, in place of the one of that name; return its address.

    The address is a path below that of MLflow's server. None if the view is too long to be kept.
    """
    state = json.dumps(_state(view), ensure_ascii=False, separators=(",", ":"))
    text = COMPRESSED + base64.b64encode(zlib.compress(state.encode(), 9)).decode()
    if len(text) > LONGEST:
        return None
    key = hashlib.sha256(name.encode()).hexdigest()[:KEY_LENGTH]
    client = mlflow.MlflowClient()
    insert_shared(lambda: client.set_experiment_tag(experiment_id, f"{TAG}{key}", text))
    mode = "CHART" if view.baseline else "TABLE"
    query = f"{TRAINING_MODE}&viewStateShareKey={key}&compareRunsMode={mode}"
    return f"#/experiments/{experiment_id}/runs?{query}"


def view_url(address: str) -> str:
    """The address of a view on this store's server, or on the one that `make ui` starts."""
    uri = mlflow.get_tracking_uri()
    server = uri.rstrip("/") if urlsplit(uri).scheme in ("http", "https") else LOCAL_UI
    return f"{server}/{address}"


def _state(view: View) -> Mapping[str, object]:
    state: dict[str, object] = {
        "searchFilter": view.filter,
        # Sorted by time, runs with a parent would be folded away below it.
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            *(f"tags.`{name}`" for name in view.tags),
            *(f"metrics.`{name}`" for name in view.metrics),
        ],
        "runsHiddenMode": "FIRST_10_RUNS",
    }
    return state | _charts(view) if view.baseline else state


def _charts(view: View) -> dict[str, object]:
    table: dict[str, object] = {
        "type": "DIFFERENCE",
        "chartName": TABLE,
        "displayName": TABLE,
        "metricSectionId": TABLE,
        "compareGroups": ["Model metrics"],
        "showChangeFromBaseline": True,
        "showDifferencesOnly": False,
        "baselineColumnUuid": view.baseline,
    }
    bars: list[dict[str, object]] = [
        {"type": "BAR", "metricKey": metric, "displayName": title, "metricSectionId": BARS}
        for title, metric in view.charts.items()
    ]
    shown = {"runsCountToCompare": 10, "deleted": False, "isGenerated": False}
    return {
        "compareRunCharts": [
            {"uuid": f"{number}", **chart, **shown} for number, chart in enumerate([table, *bars])
        ],
        "compareRunSections": [
            _section(TABLE, columns=1, height=480),
            _section(BARS, columns=2, height=240),
        ],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }


def _section(name: str, columns: int, height: int) -> dict[str, object]:
    return {
        "uuid": name,
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": columns,
        "cardHeight": height,
    }
