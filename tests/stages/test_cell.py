"""One cell of a study as one command: its id, its run, and what it needs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import yaml
from click.testing import CliRunner
from mlflow.entities import Run

from isogloss.cli.main import program
from isogloss.config import StudyConfig
from isogloss.errors import ConfigError, LeaseLostError, StudyError
from isogloss.stages import evaluate as evaluate_stage
from isogloss.stages.cell import cell_id, cell_states, cells_by_id, run_cell
from isogloss.stages.session import Session
from isogloss.stages.study import run_study
from isogloss.stages.study_cells import study_cells

pytestmark = pytest.mark.usefixtures("no_figures")

LANGUAGES = "arb_Arab,heb_Hebr,amh_Ethi,eng_Latn,fra_Latn"


def config(**changes: object) -> StudyConfig:
    return StudyConfig.model_validate({"study": "small", **changes})


@pytest.fixture
def study(model_folder: Callable[[str], Path]) -> StudyConfig:
    return config(
        model=str(model_folder("gemma3")), dtype="float32", languages=LANGUAGES, limit=4,
        finetune={"steps": 2, "batch_size": 2, "dev_limit": 2, "rank": 2},
    )  # fmt: skip


def runs() -> list[Run]:
    return mlflow.search_runs(output_format="list", search_all_experiments=True)


def test_ids_say_model_kind_source_and_seed() -> None:
    wide = config(source="arb_Arab+heb_Hebr", control_source="eng_Latn", reasoning="both", seed=3)
    assert list(cells_by_id(wide)) == [
        "embedded.base",
        "embedded.base-cot",
        "embedded.finetune.arb_Arab-heb_Hebr.seed3",
        "embedded.tuned.arb_Arab-heb_Hebr.seed3",
        "embedded.tuned-cot.arb_Arab-heb_Hebr.seed3",
        "embedded.finetune.eng_Latn.seed3",
        "embedded.tuned.eng_Latn.seed3",
        "embedded.tuned-cot.eng_Latn.seed3",
    ]


def test_ids_are_unique_and_safe_also_where_names_of_models_end_alike() -> None:
    names = ["a/gemma", "b/gemma", "gemma", "/models/gemma", "/models/gemma/", "x/γ gemma: 27 B",
             "http://host:8000/v1#gemma", "x" * 300]  # fmt: skip
    wide = config(models=[{"model": name} for name in names], seeds="0,1")
    ids = [cell_id(cell) for cell in study_cells(wide)]
    assert len(set(ids)) == len(ids) == len(names) * 5
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,120}", own) for own in ids)
    assert "gemma.base" in ids
    assert "gemma-c273c8.base" in ids  # sha256 of a/gemma


def test_a_label_names_the_model() -> None:
    models = [{"model": "/models/a", "label": "small"}, {"model": "/models/b"}]
    assert list(cells_by_id(config(models=models)))[1] == "small.finetune.arb_Arab.seed0"


def test_cells_run_one_by_one_are_those_of_the_study(study: StudyConfig) -> None:
    session = Session(study.model, study.dtype)
    own = {name: run_cell(study, name, session=session) for name in cells_by_id(study)}
    assert [run.info.status for run in own.values()] == ["FINISHED"] * 3
    again = [run_cell(study, name, session=session).info.run_id for name in own]
    assert again == [run.info.run_id for run in own.values()]
    states = cell_states(study)
    assert [state.finished for state in states] == [True] * 3
    assert [state.run for state in states] == again
    run_study(study)
    kinds = [run.data.tags["isogloss.kind"] for run in runs()]
    assert sorted(kinds) == ["compare", "evaluate", "evaluate", "finetune", "study"]


def test_an_adapter_that_is_not_trained_names_the_cell_to_run_first(study: StudyConfig) -> None:
    (name,) = [name for name in cells_by_id(study) if ".tuned." in name]
    with pytest.raises(StudyError, match=r"run cell '\S+\.finetune\.arb_Arab\.seed0' first\.$"):
        run_cell(study, name)
    assert runs() == []
    states = {state.id: (state.finished, state.needs) for state in cell_states(study)}
    assert states[name] == (False, name.replace("tuned", "finetune"))


def test_a_run_becomes_a_child_of_the_given_parent_and_of_its_experiment(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow.MlflowClient()
    parent = client.create_run(client.create_experiment("elsewhere"))
    other = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", other.info.run_id)  # of the launcher under `mlflow run`
    run = run_cell(study, next(iter(cells_by_id(study))), parent=parent.info.run_id)
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run.info.experiment_id == parent.info.experiment_id
    assert client.get_run(other.info.run_id).data.tags.get("isogloss.kind") is None
    with pytest.raises(ConfigError, match=r"parent is 'f0', but MLflow at .* has no such run"):
        run_cell(study, next(iter(cells_by_id(study))), parent="f0")


def test_an_unknown_id_names_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no cell 'x'; it has embedded\.base, embedded\.fine"):
        run_cell(config(), "x")


def test_the_commands(study: StudyConfig, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study.model_dump(mode="json", exclude_none=True)), "utf-8")
    result = CliRunner().invoke(program, ["cells", str(file), "--seeds", "0,1", "--json"])
    assert result.exit_code == 0, result.output
    listed = json.loads(result.stdout)
    assert [row["finished"] for row in listed] == [False] * 5
    base = listed[0]["id"]
    result = CliRunner().invoke(program, ["cell", str(file), base])
    assert result.exit_code == 0, result.output
    (run,) = runs()
    assert result.stdout.splitlines() == [f"cell {base}", f"run {run.info.run_id}"]
    result = CliRunner().invoke(program, ["cells", str(file)])
    assert re.search(rf"^{base} +evaluate +yes +{run.info.run_id}$", result.stdout, re.MULTILINE)
    assert result.stdout.endswith("1 of 3 cells have finished.\n")
    result = CliRunner().invoke(program, ["cell", str(file), "x"])
    assert result.exit_code == 2
    assert "has no cell 'x'" in result.output


def test_a_cell_that_another_process_took_over_returns_the_run_of_the_other(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = evaluate_stage.evaluate
    calls = []

    def lose_the_first(*args: object, **kwargs: object) -> Run:
        calls.append(evaluate(*args, **kwargs))  # as the other process does
        if len(calls) == 1:
            raise LeaseLostError("another process has taken over evaluate-0.")
        return calls[-1]

    monkeypatch.setattr(evaluate_stage, "evaluate", lose_the_first)
    run = run_cell(study, next(iter(cells_by_id(study))))
    assert [call.info.run_id for call in calls] == [run.info.run_id] * 2
