"""The file that MLflow runs when it loads a logged adapter (MLflow's "models from code").

MLflow copies it beside the isogloss package and the adapter.
"""

import sys

import mlflow

from isogloss.threads import limit_threads

if "mlflow.pyfunc.scoring_server.app" in sys.modules:  # a server's process, not a user's
    limit_threads()  # before torch is imported

from isogloss.registry.pyfunc_model import PyfuncModel

mlflow.models.set_model(PyfuncModel())
