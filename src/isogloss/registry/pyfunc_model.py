"""An adapter as an MLflow pyfunc model: its signature, its example, and calls into serving."""

import sys
from pathlib import Path

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array

from isogloss.compat.mlflow import limit_requests
from isogloss.serving.adapter_model import answer_table, load_adapter_model

# Inputs have any type, because MLflow rejects a whole batch for one value of an unexpected type.
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(AnyType(), "passage"),
            ColSpec(AnyType(), "question"),
            ColSpec(AnyType(), "options"),
            ColSpec(AnyType(), "language", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.long, "choice"),
            ColSpec(DataType.string, "answer", required=False),
            ColSpec(Array(DataType.double), "probabilities"),
            ColSpec(DataType.boolean, "valid"),
            ColSpec(DataType.string, "text", required=False),
            ColSpec(DataType.string, "error", required=False),
        ]
    ),
)
EXAMPLE = [
    {
        "passage": "The library opens on Monday. The museum opens on Friday.",
        "question": "When does the museum open?",
        "options": ["Sunday", "Friday", "Monday", "Tuesday"],
        "language": "eng_Latn",
    },
    {
        "passage": "تفتح المكتبة يوم الاثنين. يفتح المتحف يوم الجمعة.",
        "question": "متى تفتح المكتبة؟",
        "options": ["الأحد", "الجمعة", "الاثنين", "الثلاثاء"],
        "language": "arb_Arab",
    },
]


MOST_BYTES = 64 * 2**20  # of a request; 10,000 rows of 1,000 characters, each as \u0627 in JSON
SERVER = "mlflow.pyfunc.scoring_server.app"  # the module that `mlflow models serve` runs


def accept_any_text() -> None:
    """Let this process's tables hold text with half of a surrogate pair, which JSON may contain.

    By default pandas stores text as UTF-8, so that MLflow's table of a request fails as a whole.
    """
    pd.set_option("mode.string_storage", "python")


class PyfuncModel(PythonModel):
    """Answers multiple-choice questions about passages; see `serving.adapter_model`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the base model by name and revision, and attach the adapter logged with this model.

        Raises ModelError if the base is not found or is at another revision.
        """
        if SERVER in sys.modules:
            accept_any_text()
            limit_requests(MOST_BYTES)
        self.adapter_model = load_adapter_model(
            context.model_config, Path(context.artifacts["adapter"])
        )

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: object = None
    ) -> pd.DataFrame:
        """Return one row per row of `model_input`, in its order, one column per field of Answer."""
        return answer_table(self.adapter_model.answer(model_input.to_dict("records")))
