"""Data that may be evaluated and not trained on: Global PIQA."""

import importlib
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from isogloss.cli.main import program
from isogloss.config import EvaluateConfig, FinetuneConfig, StudyConfig, TuneConfig
from isogloss.errors import ConfigError
from isogloss.registry.lookup import AdapterRef, adapter_folder
from isogloss.stages.evaluate import evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.stages.task_data import evaluation_data
from isogloss.stages.training_inputs import source_data
from isogloss.tracking import read_predictions
from isogloss.types import EVALUATION_ONLY

DEMO = str(Path(__file__).parents[2] / "configs" / "demo.yaml")
LICENCE = "the licence of Global PIQA allows evaluation alone"
TRAINER = "{kind: command, train: 'python train.py {train} {output}'}"
SERVER = "{kind: vllm, base_url: 'http://127.0.0.1:9/v1', train: 'python t.py {train} {output}'}"


@pytest.fixture
def study(tmp_path: Path) -> str:
    path = tmp_path / "study.yaml"
    path.write_text("study: x\ntask: global_piqa_parallel\n")
    return str(path)


def write_questions(folder: Path, codes: dict[str, str]) -> str:
    """The nonparallel set, six questions in each language."""
    folder.mkdir()
    for name, text in codes.items():
        rows = [
            {"prompt": f"{text} {number}", "solution0": "a b", "solution1": "c d",
             "label": number % 2, "language": name, "example_id": number, "supplement": "{}"}
            for number in range(6)
        ]  # fmt: skip
        pd.DataFrame(rows).to_csv(folder / f"nonparallel_{name}.tsv", sep="\t", index=False)
    return str(folder)


@pytest.mark.parametrize("task", EVALUATION_ONLY)
@pytest.mark.parametrize("engine", ["auto", TRAINER, SERVER])
@pytest.mark.parametrize("command", ["finetune", "tune"])
def test_training_is_refused_in_one_sentence_before_anything_is_read(
    command: str, engine: str, task: str
) -> None:
    main = importlib.import_module(f"entrypoints.{command}").main
    result = CliRunner().invoke(main, ["--task", task, "--engine", engine, "--model", "nowhere"])
    assert result.exit_code == 2
    [line] = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert "task should be a task to train on" in line
    assert LICENCE in line
    assert line.endswith(f"but got '{task}'.")
    assert mlflow.search_runs(search_all_experiments=True).empty


@pytest.mark.parametrize(
    "arguments",
    [["main"], ["main", "--dry_run", "true"], ["cells"], ["cell"]],
    ids=lambda words: " ".join(words),
)
def test_a_study_is_refused(arguments: list[str], study: str) -> None:
    command, *options = arguments
    words = ["main", "--study", study] if command == "main" else [command, study]
    words += ["0000000000000000"] if command == "cell" else []
    result = CliRunner().invoke(program, [*words, *options])
    assert (result.exit_code, LICENCE in result.output) == (2, True), result.output
    assert len(result.output.splitlines()) == 1


def test_a_study_is_not_moved_to_it() -> None:
    result = CliRunner().invoke(
        program, ["main", "--study", DEMO, "--task", "global_piqa_nonparallel"]
    )
    assert (result.exit_code, LICENCE in result.output) == (2, True)


def test_python_refuses_it_too() -> None:
    for config_class in (FinetuneConfig, TuneConfig):
        with pytest.raises(ValidationError, match=LICENCE):
            config_class(task="global_piqa_parallel")
    with pytest.raises(ValidationError, match=LICENCE):
        StudyConfig(study="x", task="global_piqa_nonparallel")


@pytest.mark.parametrize("config_class", [FinetuneConfig, TuneConfig])
@pytest.mark.parametrize("name", ["mrlbenchmarks/global-piqa-parallel", "MRLBenchmarks/Global-PIQA-nonparallel"])  # fmt: skip
def test_a_description_of_the_data_on_the_hub_is_refused(
    config_class: type[FinetuneConfig | TuneConfig], name: str, tmp_path: Path
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(
        f"name: mine\nhub: {name}\nconfig: '{{language}}'\nlanguages: {{eng_Latn: eng_latn}}\n"
    )
    config = config_class(task="files", data_dir=str(path), source="eng_Latn")
    with pytest.raises(ConfigError, match=r"of task 'mine' allows evaluation alone; train on anot"):
        source_data(config)


def test_an_adapter_trained_elsewhere_is_evaluated_and_gains_are_of_single_languages(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = str(model_folder("gemma3"))
    data_dir = write_questions(tmp_path / "piqa", {"eng_latn": "How", "fra_latn_fran": "Comment"})
    trained = finetune(
        FinetuneConfig.model_validate(
            {"model": folder, "dtype": "float32", "steps": 1, "batch_size": 2, "limit": 4,
             "dev_limit": 2, "rank": 2, "alpha": 4}
        ),
        Session(folder, "float32"),
    )  # fmt: skip
    config = EvaluateConfig.model_validate(
        {"model": folder, "dtype": "float32", "task": "global_piqa_nonparallel",
         "data_dir": data_dir}
    )  # fmt: skip
    session = Session(folder, "float32")
    base = evaluate(config, session)
    with adapter_folder(trained.info.run_id) as path:
        tuned = evaluate(config, session, AdapterRef.in_folder(path))
    tables = [read_predictions(run.info.run_id) for run in (base, tuned)]
    for table in tables:
        assert table.groupby("language").size().to_dict() == {"eng_Latn": 6, "fra_Latn": 6}
        assert table["item_id"].is_unique
        assert (table["passage_id"].str.split("/").str[0] == table["language"]).all()
    assert set(tables[0]["item_id"]) == set(tables[1]["item_id"])


def test_the_question_of_afrixnli_is_english_in_every_language(tmp_path: Path) -> None:
    (tmp_path / "amh").mkdir()
    (tmp_path / "amh" / "test.tsv").write_text("premise\thypothesis\tlabel\nA.\tB.\t0\n")
    values = {"task": "afrixnli", "data_dir": str(tmp_path)}
    config = EvaluateConfig.model_validate({**values, "prompt_language": "target"})
    with pytest.raises(ConfigError, match="'afrixnli' is in English in every language; expected"):
        evaluation_data(config)
    _, shown = evaluation_data(EvaluateConfig.model_validate(values))
    assert [item.question for item in shown["amh_Ethi"]] == ["B. True, False, or Neither?"]
