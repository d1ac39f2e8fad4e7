"""The file that MLflow runs when it loads a logged adapter (MLflow's "models from code").

MLflow copies it beside the adapter and the folder `code`, which has the isogloss package as a file.
"""

import logging
import sys
import warnings
from pathlib import Path

import mlflow

# Processes that inherit the path of one that has isogloss already must not import it from here.
if "isogloss" not in sys.modules:
    sys.path.insert(0, str(Path(__file__).parent / "code" / "isogloss.zip"))

from isogloss.threads import limit_threads

if "mlflow.pyfunc.scoring_server.app" in sys.modules:  # a server's process, not a user's
    limit_threads()  # before torch is imported
    # Libraries warn each other of what a user cannot change, and of a kernel that a CPU lacks.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(peft|torch|transformers)\b")

from isogloss.registry.pyfunc_model import PyfuncModel

mlflow.models.set_model(PyfuncModel())
