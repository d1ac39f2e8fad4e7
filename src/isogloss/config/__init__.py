"""Parameters of every entry point, typed and checked before anything is loaded.

A parameter has one name everywhere: here, on the command line, in MLproject and in study files.
"""

from isogloss.config.compare import CompareConfig
from isogloss.config.entry_points import ENTRY_POINTS
from isogloss.config.evaluate import EvaluateConfig
from isogloss.config.finetune import FinetuneConfig, Hyperparameters
from isogloss.config.import_results import ImportConfig
from isogloss.config.plan import PlanConfig
from isogloss.config.register import RegisterConfig
from isogloss.config.shared import SharedConfig
from isogloss.config.study import (
    CellConfig,
    CellsConfig,
    MainConfig,
    StudyComparison,
    StudyConfig,
    StudyTraining,
)
from isogloss.config.text import NONE_AS, as_text, command_line, explain
from isogloss.config.tune import TuneConfig
from isogloss.config.words import is_separated

__all__ = [
    "ENTRY_POINTS",
    "NONE_AS",
    "CellConfig",
    "CellsConfig",
    "CompareConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "Hyperparameters",
    "ImportConfig",
    "MainConfig",
    "PlanConfig",
    "RegisterConfig",
    "SharedConfig",
    "StudyComparison",
    "StudyConfig",
    "StudyTraining",
    "TuneConfig",
    "as_text",
    "command_line",
    "explain",
    "is_separated",
]
