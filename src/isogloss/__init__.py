"""isogloss: does the gain from fine-tuning on one language follow kinship, or task format?

    import isogloss

    result = isogloss.compare(frame, source="arb_Arab")  # a DataFrame of answers
    print(result.summary)
    result.report("report.html")

Names are imported when they are first used, so that `import isogloss` is instant and loads neither
torch nor MLflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from isogloss.version import __version__

if TYPE_CHECKING:
    from isogloss.api import ComparisonResult, compare, load_predictions, run
    from isogloss.config import (
        CompareConfig,
        EvaluateConfig,
        FinetuneConfig,
        ImportConfig,
        MainConfig,
        PlanConfig,
        RegisterConfig,
        StudyConfig,
        TuneConfig,
    )
    from isogloss.errors import (
        ComparisonError,
        ConfigError,
        DataError,
        IsoglossError,
        ModelError,
        ProcessError,
        TrackingError,
        TrainingError,
    )
    from isogloss.types import (
        Condition,
        Format,
        Group,
        Labels,
        Measure,
        Normalisation,
        PromptLanguage,
        Reasoning,
        Split,
        Units,
        Verdict,
    )

_MODULES = {
    "isogloss.api": ("ComparisonResult", "compare", "load_predictions", "run"),
    "isogloss.config": (
        *("CompareConfig", "EvaluateConfig", "FinetuneConfig", "ImportConfig", "MainConfig"),
        *("PlanConfig", "RegisterConfig", "StudyConfig", "TuneConfig"),
    ),
    "isogloss.errors": (
        *("ComparisonError", "ConfigError", "DataError", "IsoglossError", "ModelError"),
        *("ProcessError", "TrackingError", "TrainingError"),
    ),
    "isogloss.types": (
        *("Condition", "Format", "Group", "Labels", "Measure", "Normalisation"),
        *("PromptLanguage", "Reasoning", "Split", "Units", "Verdict"),
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "CompareConfig",
    "ComparisonError",
    "ComparisonResult",
    "Condition",
    "ConfigError",
    "DataError",
    "EvaluateConfig",
    "FinetuneConfig",
    "Format",
    "Group",
    "ImportConfig",
    "IsoglossError",
    "Labels",
    "MainConfig",
    "Measure",
    "ModelError",
    "Normalisation",
    "PlanConfig",
    "ProcessError",
    "PromptLanguage",
    "Reasoning",
    "RegisterConfig",
    "Split",
    "StudyConfig",
    "TrackingError",
    "TrainingError",
    "TuneConfig",
    "Units",
    "Verdict",
    "__version__",
    "compare",
    "load_predictions",
    "run",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'isogloss' has no attribute {name!r}")
    value: object = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
