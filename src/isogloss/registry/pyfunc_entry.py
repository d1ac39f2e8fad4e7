"""The file that MLflow runs when it loads a logged adapter (MLflow's "models from code").

MLflow copies it beside the isogloss package and the adapter.
"""

import mlflow

from isogloss.registry.pyfunc_model import PyfuncModel

mlflow.models.set_model(PyfuncModel())
