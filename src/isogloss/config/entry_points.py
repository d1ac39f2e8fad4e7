"""The configuration class of each entry point, in the order of MLproject."""

from pydantic import BaseModel

from isogloss.config.compare import CompareConfig
from isogloss.config.evaluate import EvaluateConfig
from isogloss.config.finetune import FinetuneConfig
from isogloss.config.import_results import ImportConfig
from isogloss.config.plan import PlanConfig
from isogloss.config.register import RegisterConfig
from isogloss.config.study import MainConfig
from isogloss.config.tune import TuneConfig

ENTRY_POINTS: dict[str, type[BaseModel]] = {
    "main": MainConfig,
    "tune": TuneConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
    "compare": CompareConfig,
    "register": RegisterConfig,
    "import": ImportConfig,
    "plan": PlanConfig,
}
