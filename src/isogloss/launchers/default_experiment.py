"""The experiment of `mlflow run` on this project: isogloss, where its user names no other.

MLflow opens the run of a project before the project's program starts, and asks such providers for
its experiment if neither --experiment-name nor the environment names one. `import mlflow` imports
this module, so it imports nothing but the standard library before it is asked.
"""

import atexit
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

PROJECT = "isogloss"
PROJECT_LINE = re.compile(rf"^name:\s*['\"]?{PROJECT}['\"]?\s*$", re.MULTILINE)


class IsoglossExperiment:
    """The provider; see `mlflow.tracking.default_experiment.abstract_context`."""

    def in_context(self) -> bool:
        """Whether this process is `mlflow run` on a copy or a Git repository of this project."""
        program, *words = sys.argv
        is_mlflow = Path(program).stem == "mlflow" or Path(program).parent.name == "mlflow"
        if not is_mlflow or "run" not in words:
            return False
        return any(is_project(word) for word in words[words.index("run") + 1 :])

    def get_experiment_id(self) -> str:
        """The id of the experiment, which is created if there is none.

        When `mlflow run` ends, the run that it has opened for a refused command is deleted.
        """
        from isogloss.tracking.experiments import own_experiment
        from isogloss.tracking.project_run import delete_refused
        from isogloss.tracking.store import ensure_store

        ensure_store()
        experiment_id = own_experiment()
        atexit.register(delete_refused, experiment_id)
        return experiment_id


def is_project(uri: str) -> bool:
    """Whether a folder has this project's MLproject, or an address is that of its repository."""
    place = uri.partition("#")[0]
    try:
        return PROJECT_LINE.search((Path(place) / "MLproject").read_text("utf-8")) is not None
    except (OSError, ValueError):
        path = unquote(urlsplit(place).path) if "://" in place else place.rpartition(":")[2]
        return ":" in place and Path(path).name.removesuffix(".git") == PROJECT
