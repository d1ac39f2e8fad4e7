"""Labels of options in runs: parameter, fingerprint, tags, and what is refused before a run is open."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from isogloss.config import EvaluateConfig, FinetuneConfig, MainConfig, StudyConfig
from isogloss.errors import ComparisonError, ConfigError, DataError
from isogloss.stages.comparable_runs import check_comparable
from isogloss.stages.evaluate import evaluate
from isogloss.stages.evaluation_plan import plan_evaluation
from isogloss.stages.finetune import plan_finetune
from isogloss.stages.session import Session
from isogloss.stages.study import run_main, run_study
from isogloss.tracking import read_predictions

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture
def folder(model_folder: Callable[[str], Path]) -> str:
    return str(model_folder("gemma3"))


def config(folder: str, **changes: object) -> EvaluateConfig:
    return EvaluateConfig.model_validate(
        {"model": folder, "dtype": "float32", "languages": ("heb_Hebr", "eng_Latn"), "limit": 2,
         "format": "letter", **changes}
    )  # fmt: skip


def session(folder: str) -> Session:
    return Session(folder, "float32")


def all_runs() -> list[Run]:
    return list(mlflow.search_runs(search_all_experiments=True, output_format="list"))


def test_labels_are_in_the_fingerprint_the_tags_and_the_scores(folder: str) -> None:
    runs = {
        labels: evaluate(config(folder, labels=labels), session(folder))
        for labels in ("letters", "digits", "native")
    }
    tags = {labels: run.data.tags for labels, run in runs.items()}
    assert len({tag["isogloss.fingerprint"] for tag in tags.values()}) == 3
    assert [tag["isogloss.answer_labels"] for tag in tags.values()] == list(runs)
    assert tags["digits"]["isogloss.choices"].startswith("' 1' [")
    assert "' א' [" in tags["native"]["isogloss.choices"]
    assert "; ' A' [" in tags["native"]["isogloss.choices"]
    scores = {
        labels: read_predictions(run.info.run_id)["choice_logprobs"].map(list).tolist()
        for labels, run in runs.items()
    }
    assert scores["letters"][:2] != scores["native"][:2] != scores["digits"][:2]
    assert scores["letters"][2:] == scores["native"][2:] != scores["digits"][2:]  # English
    again = evaluate(config(folder, labels="digits"), session(folder))
    assert again.info.run_id == runs["digits"].info.run_id
    with pytest.raises(ComparisonError, match="answer_labels is '"):
        check_comparable([runs["letters"], runs["digits"]])


def test_an_adapter_trained_with_other_labels_is_another_one(folder: str) -> None:
    plans = [
        plan_finetune(
            FinetuneConfig.model_validate(
                {"model": folder, "format": "letter", "labels": labels, "limit": 4, "steps": 2}
            ),
            session(folder),
        )
        for labels in ("letters", "digits", "native")
    ]
    assert len({plan.fingerprint for plan in plans}) == 3
    # The fingerprint of letters is that of earlier versions, which had no other labels.
    assert "labels" not in plans[0].protocol.as_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "cloze"}, "labels is 'digits', but prompts in cloze format show no labels"),
        (
            {"reasoning": "cot", "prompt_language": "target"},
            "no wording in 'heb_Hebr' that asks to reason and to answer with a digit",
        ),
    ],
)
def test_digits_that_no_prompt_shows_or_asks_for_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_evaluation(
            config("nowhere/at-all", labels="digits", **changes), session("nowhere/at-all"), None
        )


ROW = "id,question,option_1,option_2,option_3,option_4,option_5,answer\nq7,What?,a,b,c,d,e,1\n"


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("kaz_Cyrl", ConfigError, "'kaz_Cyrl' has no native labels"),
        ("mar_Deva", DataError, "item '.*' in mar_Deva has 5 options, .* there are 4 labels"),
    ],
)
def test_native_labels_that_are_missing_are_refused_before_the_model_is_located(
    code: str, error: type[Exception], message: str
) -> None:
    Path("data").mkdir()
    Path(f"data/{code}.csv").write_text(ROW.replace("id,", "item_id,"))
    changes = {"task": "files", "data_dir": "data", "source": code, "languages": (code,)}
    with pytest.raises(error, match=message):
        plan_evaluation(
            config("nowhere/at-all", labels="native", split="all", **changes),
            session("nowhere/at-all"),
            None,
        )
    assert all_runs() == []


def test_a_study_passes_labels_on_and_refuses_them_before_its_first_run(folder: str) -> None:
    study = {"study": "x", "model": folder, "dtype": "float32", "labels": "digits",
             "format": "letter", "limit": 2,
             "languages": "heb_Hebr,amh_Ethi,eng_Latn,fra_Latn",
             "finetune": {"steps": 1, "batch_size": 2, "limit": 2, "rank": 2, "alpha": 4}}  # fmt: skip
    refused = {**study, "reasoning": "both", "prompt_language": "target"}
    with pytest.raises(ConfigError, match="no wording in 'heb_Hebr' that asks"):
        run_study(StudyConfig.model_validate(refused))
    assert all_runs() == []
    run_study(StudyConfig.model_validate(study))
    runs = {run.data.tags["isogloss.kind"]: run.data.tags for run in all_runs()}
    for kind in ("evaluate", "finetune", "compare"):
        assert runs[kind]["isogloss.answer_labels"] == "digits"


def test_the_labels_of_a_study_file_are_replaced_by_main() -> None:
    Path("study.yaml").write_text("study: x\nlabels: digits\nformat: cloze\nlanguages: heb_Hebr\n")
    with pytest.raises(ConfigError, match="labels is 'digits', but prompts in cloze"):
        run_main(MainConfig(study="study.yaml"))
    with pytest.raises(ConfigError, match="a contrast needs two related"):
        run_main(MainConfig(study="study.yaml", labels="letters"))
