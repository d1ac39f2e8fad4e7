"""MLflow: a model logged without being loaded.

`mlflow.pyfunc.log_model` loads the logged model, including its base, to try the input example.
Relies on `Model.log`, its switch `validate_serving_input`, and on it handing that switch to the
flavor too.
"""

import mlflow
from mlflow.models import Model
from mlflow.models.model import ModelInfo

from isogloss.compat import public_only


class _Pyfunc:
    """The pyfunc flavor without its `log_model`."""

    @staticmethod
    def save_model(*, validate_serving_input: bool, **arguments: object) -> None:
        """Save a model; `validate_serving_input` is for `Model.log` alone."""
        mlflow.pyfunc.save_model(**arguments)


def log_model(**arguments: object) -> ModelInfo:
    """Log a model from code as `mlflow.pyfunc.log_model` does, without trying its example.

    `arguments` are those of `mlflow.pyfunc.log_model`.
    """
    if public_only():
        info: ModelInfo = mlflow.pyfunc.log_model(**arguments)
        return info
    info = Model.log(
        artifact_path=None,
        flavor=_Pyfunc,
        flavor_name="pyfunc.ModelFromCode",
        validate_serving_input=False,
        **arguments,
    )
    return info
