"""Adapters that cannot be evaluated: named with their reasons, while the others are evaluated."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.entities import Run
from tiny_adapters import ALL, change_config, change_weights, write_adapter

from isogloss.cli.stages import COMMANDS
from isogloss.config import EvaluateConfig
from isogloss.errors import ModelError
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


def test_the_others_are_evaluated_and_the_misfits_named(
    written: Path, parameters: dict[str, str]
) -> None:
    with_comma = copy(written, "rank 8, first")
    for name, spoil in (("untrained", zero), ("misnamed", misnamed)):
        spoil(copy(written, name))
    names = [str(with_comma), "untrained", "none", "misnamed", "absent"]
    options = [f"--adapter={name}" for name in names]
    options += [f"--{name}={value}" for name, value in parameters.items()]
    result = CliRunner().invoke(COMMANDS["evaluate"], options)
    assert result.exit_code == 2
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("Error: 3 of 5 adapters are not evaluated (")
    for name, reason in (
        ("untrained", "is untrained: lora_B is zero in all of its 9 modules"),
        ("misnamed", r"6 of its 18 tensors have no place in the model, first \S+layers.9"),
        ("absent", "is neither a folder, the id of a run nor a models:/ URI"),
    ):
        assert re.search(f"'{name}': adapter '{name}' .*{reason}", error)
    assert "Traceback" not in result.output
    assert f"adapter {with_comma}\n" in result.stdout
    evaluated = {run.info.run_name: run for run in runs("evaluate")}
    assert set(evaluated) == {f"tuned {with_comma}", "base"}
    assert {run.info.status for run in evaluated.values()} == {"FINISHED"}
    (parent,) = runs("evaluations")
    cells = [evaluated[name].info.run_id for name in (f"tuned {with_comma}", "base")]
    assert parent.data.tags["isogloss.cells"].split() == cells
    assert parent.info.status == "FAILED"


def test_no_run_is_opened_where_no_adapter_can_be_evaluated(
    written: Path, parameters: dict[str, str]
) -> None:
    for name in ("one", "two"):
        misnamed(copy(written, name))
    for adapter, message in (("one,two", "2 of 2 adapters are not"), ("one", "does not fit")):
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
