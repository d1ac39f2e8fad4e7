"""What MLflow runs when it loads an adapter's model (models from code).

The isogloss package and the adapter travel with this file; see reading.py for what the model does.
"""

import mlflow

from isogloss.serving.adapter_model import AdapterModel

mlflow.models.set_model(AdapterModel())
