"""The model that MLflow stores for an adapter: passages, questions and options in, choices out.

MLflow runs this file when the model is loaded (models from code); the isogloss package and the
adapter travel with it.
"""

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel

from isogloss.adapters import attach
from isogloss.asking import predict
from isogloss.errors import ModelError
from isogloss.models import load, locate
from isogloss.prompts import Protocol
from isogloss.tasks import Item


class Reader(PythonModel):  # type: ignore[misc]
    """Answers multiple-choice questions on passages with one adapter on its base model."""

    def load_context(self, context: Any) -> None:
        """Load the base model by name and the adapter beside it; check that it is the same base."""
        from pathlib import Path

        self.settings = context.model_config
        source = locate(self.settings["base_model"])
        if source.revision != self.settings["base_revision"]:
            raise ModelError(
                f"model {source.name!r} is at {source.revision}, but the adapter was trained on "
                f"{self.settings['base_revision']}."
            )
        self.model = load(source, self.settings["base_dtype"])
        self.digest = attach(self.model, Path(context.artifacts["adapter"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """One row of output a row of input: choice (index), probabilities of the options, valid."""
        # A prompt in the target language is one in the language of training: a row names none.
        language = self.settings["trained_language"]
        items = [
            Item(
                *(str(row), str(row), language, entry["passage"], entry["question"]),
                (*entry["options"],),
                0,
            )
            for row, entry in enumerate(model_input.to_dict("records"))
        ]
        with self.model.using(self.digest):
            protocol = Protocol(**self.settings["protocol"])
            predictions = predict(self.model, items, protocol, "")
        logprobs = [np.array(prediction.choice_logprobs) for prediction in predictions]
        return pd.DataFrame(
            {
                "choice": [prediction.prediction for prediction in predictions],
                "probabilities": [
                    np.exp(values - np.logaddexp.reduce(values)).tolist() for values in logprobs
                ],
                "valid": [prediction.valid for prediction in predictions],
            }
        )


mlflow.models.set_model(Reader())
