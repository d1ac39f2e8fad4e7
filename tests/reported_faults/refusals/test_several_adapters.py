"""Adapters that cannot be evaluated: named with their reasons before anything is evaluated."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner, Result
from mlflow.entities import Run
from tiny_adapters import ALL, change_config, change_weights, write_adapter

from isogloss.cli.stages import COMMANDS
from isogloss.config import EvaluateConfig
from isogloss.errors import ModelError, ServerError
from isogloss.models import loading
from isogloss.stages import evaluate as evaluate_stage
from isogloss.stages.evaluate_adapters import run_evaluate


@pytest.fixture(scope="module")
def written(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written")
    write_adapter(model_folder("gemma3"), path, target_modules=ALL)
    return path


@pytest.fixture
def parameters(model_folder: Callable[[str], Path]) -> dict[str, str]:
    return {
        "model": str(model_folder("gemma3")),
        "dtype": "float32",
        "languages": "heb_Hebr",
        "limit": "2",
    }


def copy(written: Path, name: str) -> Path:
    return Path(shutil.copytree(written, name))


def zero(folder: Path) -> None:
    change_weights(folder, lambda key, value: (key, 0 * value))


def misnamed(folder: Path) -> None:
    change_weights(folder, lambda key, value: (key.replace("layers.0", "layers.9"), value))


def runs(kind: str) -> list[Run]:
    found: list[Run] = mlflow.search_runs(
        filter_string=f"tags.`isogloss.kind` = '{kind}'", output_format="list"
    )
    return found


def call(names: list[str], parameters: dict[str, str]) -> Result:
    options = [f"--adapter={name}" for name in names]
    options += [f"--{name}={value}" for name, value in parameters.items()]
    result = CliRunner().invoke(COMMANDS["evaluate"], options)
    assert "Traceback" not in result.output
    return result


def test_misfits_are_named_before_the_base_is_evaluated(
    written: Path, parameters: dict[str, str]
) -> None:
    for name, spoil in (("untrained", zero), ("misnamed", misnamed)):
        spoil(copy(written, name))
    result = call(["none", str(copy(written, "whole")), "untrained", "misnamed"], parameters)
    assert result.exit_code == 2
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("Error: 2 of 4 adapters cannot be evaluated, so none is")
    for name, reason in (
        ("untrained", "is untrained: lora_B is zero in all of its 9 modules"),
        ("misnamed", r"6 of its 18 tensors have no place in the model, first \S+layers.9"),
    ):
        assert re.search(f"'{name}': adapter '{name}' .*{reason}", error)
    assert mlflow.search_runs(search_all_experiments=True).empty


def test_adapters_that_do_not_exist_are_named_before_a_model_is_loaded(
    written: Path, parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("a model is loaded"))
    result = call(["none", str(copy(written, "whole")), "absent", "models:/no/1"], parameters)
    assert result.exit_code == 2
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("Error: 2 of 4 adapters cannot be evaluated, so none is")
    assert "'absent' is neither a folder, the id of a run nor a models:/ URI" in error
    assert "'models:/no/1' cannot be fetched" in error
    assert mlflow.search_runs(search_all_experiments=True).empty


def test_an_adapter_that_fails_later_does_not_keep_the_others_from_their_runs(
    written: Path, parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = evaluate_stage.evaluate

    def fail_for_the_second(config: EvaluateConfig, *others: Any) -> Run:
        if config.adapter == ("second",):
            raise ServerError("the server is away.")
        return evaluate(config, *others)

    monkeypatch.setattr(evaluate_stage, "evaluate", fail_for_the_second)
    with_comma, second = copy(written, "rank 8, first"), copy(written, "second")
    change_weights(second, lambda key, value: (key, 2 * value))
    result = call([str(with_comma), "second", "none"], parameters)
    assert result.exit_code == 2
    error = result.stderr.strip().splitlines()[-1]
    assert error == "Error: 1 of 3 adapters are not evaluated ('second': the server is away)."
    assert f"adapter {with_comma}\n" in result.stdout
    evaluated = {run.data.tags["isogloss.condition"]: run for run in runs("evaluate")}
    assert set(evaluated) == {"tuned", "base"}
    assert evaluated["tuned"].info.run_name.endswith(str(with_comma)[-40:])
    assert {run.info.status for run in evaluated.values()} == {"FINISHED"}
    (parent,) = runs("evaluations")
    cells = [evaluated[name].info.run_id for name in ("tuned", "base")]
    assert parent.data.tags["isogloss.cells"].split() == cells
    assert parent.info.status == "FAILED"


def test_no_run_is_opened_where_no_adapter_can_be_evaluated(
    written: Path, parameters: dict[str, str]
) -> None:
    for name in ("one", "two"):
        misnamed(copy(written, name))
    for adapter, message in (("one,two", "2 of 2 adapters cannot be"), ("one", "does not fit")):
        with pytest.raises(ModelError, match=message):
            run_evaluate(EvaluateConfig(adapter=adapter, **parameters))
    assert not runs("evaluations")
    assert not runs("evaluate")


def test_another_base_and_another_template_are_accepted_by_name_alone(
    written: Path, parameters: dict[str, str]
) -> None:
    folder = copy(written, "foreign")
    change_config(folder, lambda settings: settings.update(base_model_name_or_path="org/other"))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ModelError, match="does not have; set chat to off"):
        run_evaluate(EvaluateConfig(adapter="foreign", **parameters))
    with pytest.raises(ModelError, match="set allow_base to 'org/other'"):
        run_evaluate(EvaluateConfig(adapter="foreign", chat="off", **parameters))
    assert not runs("evaluate")
    allowed = EvaluateConfig(adapter="foreign", chat="off", allow_base="org/other", **parameters)
    (run_id,) = run_evaluate(allowed)
    assert mlflow.get_run(run_id).data.params["allow_base"] == "org/other"
