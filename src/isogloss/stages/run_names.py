"""Names of runs: what was done, by which model, from which source, on which task.

They are columns in MLflow's lists, so they say no more than tells runs apart, and no ids.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from isogloss.languages import source_name

if TYPE_CHECKING:  # MLflow takes seconds to import
    from mlflow.entities import Run

SEPARATOR = " · "
LONGEST = 200  # characters; MLflow's servers accept 250 or more
LONGEST_ADAPTER = 40  # characters of an adapter, from its end
ID = re.compile(r"[0-9a-f]{32}")


def run_name(
    what: str,
    models: Sequence[str] = (),
    sources: Sequence[str] = (),
    task: str | None = None,
    seed: int | None = None,
    adapter: str | None = None,
) -> str:
    """The name of a run, as `tuned · Qwen3-0.6B on Standard Arabic, seed 0 · probe`.

    `models` and `sources` are those of parameters; of more than two, their number is told. An
    `adapter` is left out where it is the id of a run or of a logged model.
    """
    model = _several([short_model(model) for model in models], "models")
    trained = _several([source_name(source) for source in sources], "sources")
    if seed is not None:
        trained += f", seed {seed}"
    subject = " on ".join(filter(None, (model, trained)))
    named = adapter[-LONGEST_ADAPTER:] if adapter and not ID.search(adapter) else None
    return SEPARATOR.join(filter(None, (what, subject, task, named)))[:LONGEST]


def short_model(name: str) -> str:
    """The last part of a model's path or Hub name; of a server its name for it, else its host."""
    if name.startswith(("http://", "https://")) and "#" not in name:
        return urlsplit(name).netloc
    return name.rstrip("/").rpartition("#")[2].rpartition("/")[2] or name


def finished_words(run: "Run") -> str:
    """A finished run in a line of progress: its name and when it ended."""
    ended = datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000).astimezone()
    return f"{run.info.run_name!r} of {ended:%Y-%m-%d %H:%M}"


def _several(names: Sequence[str], noun: str) -> str:
    distinct = list(dict.fromkeys(names))
    return " and ".join(distinct) if len(distinct) < 3 else f"{len(distinct)} {noun}"
