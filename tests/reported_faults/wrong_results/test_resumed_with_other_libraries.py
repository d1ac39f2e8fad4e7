"""A run is not resumed with another major version of a library, as a finished one is not reused."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from isogloss.config import EvaluateConfig
from isogloss.stages import evaluate as stage
from isogloss.stages.evaluate_adapters import run_evaluate
from isogloss.tracking import resume


class Killed(BaseException):
    """Ends a process after its first language."""


@pytest.mark.parametrize(
    ("version", "computed"), [("3.1.0", ["fin_Latn", "fra_Latn"]), ("5.0.0", ["fra_Latn"])]
)
def test_predictions_of_an_interrupted_run_are_of_one_major_version(
    version: str,
    computed: list[str],
    model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    languages: list[str] = []
    predict_language = stage._predict_language

    def predict(evaluation: object, items: list[object], *rest: object) -> object:
        if killed and languages:
            raise Killed
        languages.append(items[0].language)  # type: ignore[attr-defined]
        return predict_language(evaluation, items, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "_predict_language", predict)
    config = EvaluateConfig.model_validate(
        {"model": str(model_folder("llama")), "dtype": "float32", "limit": 2,
         "languages": "fin_Latn,fra_Latn"}
    )  # fmt: skip
    killed = True
    versions = {"torch": "2.1.0", "transformers": version}
    monkeypatch.setattr(resume, "model_libraries", lambda adapter: versions)
    with pytest.raises(Killed):
        run_evaluate(config)
    (interrupted,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    killed = False
    languages.clear()
    monkeypatch.setattr(
        resume, "model_libraries", lambda adapter: {"torch": "2.9.0", "transformers": "5.2.0"}
    )
    (run,) = run_evaluate(config)
    assert languages == computed
    assert (run == interrupted.info.run_id) is (version == "5.0.0")
    warned = "they were computed with transformers 3.1.0, and 5.2.0 is installed" in caplog.text
    assert warned is (version == "3.1.0")
