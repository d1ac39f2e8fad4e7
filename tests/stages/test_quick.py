"""quick=true: what is cut, how it is marked, and what is kept apart."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from logged_runs import log_run
from synthetic_predictions import BASE, TUNED, gains, tables

from isogloss.analysis.comparison import QuickLook
from isogloss.config import CompareConfig, EvaluateConfig, FinetuneConfig, MainConfig, StudyConfig
from isogloss.errors import ComparisonError
from isogloss.languages import group
from isogloss.stages.collect_runs import collect_runs
from isogloss.stages.compare import plan_comparison, run_compare
from isogloss.stages.configured_study import command_without_quick, configured_study
from isogloss.stages.evaluation_plan import evaluation_tags, plan_evaluation
from isogloss.stages.finetune_plan import plan_finetune
from isogloss.stages.quick import quick_finetune, quick_languages, quick_study
from isogloss.stages.search_runs import search_runs
from isogloss.stages.session import Session
from isogloss.stages.study_cells import study_cells

LANGUAGES = "amh_Ethi,arb_Arab,eng_Latn,fin_Latn,fra_Latn,heb_Hebr,mlt_Latn,swh_Latn"


def test_a_study_keeps_two_relatives_three_controls_and_an_adapter_of_each_of_two_sources(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = StudyConfig.model_validate(
        {"study": "s", "models": ["a", "b"], "sources": ["arb_Arab", "heb_Hebr", "eng_Latn"], "seeds": [3, 4],
         "languages": LANGUAGES, "limit": 32, "reasoning": "both", "finetune": {"steps": 12}}
    )  # fmt: skip
    cells = study_cells(quick_study(config))
    assert [cell.label for cell in cells] == [
        "base", "finetune · Standard Arabic, seed 3", "tuned · Standard Arabic, seed 3",
        "finetune · English, seed 3", "tuned · English, seed 3",
    ]  # fmt: skip
    base, training, tuned, *_ = (cell.config for cell in cells)
    assert base.languages == tuned.languages
    assert base.languages == (
        "amh_Ethi",
        "arb_Arab",
        "eng_Latn",
        "fin_Latn",
        "fra_Latn",
        "heb_Hebr",
    )
    assert (base.limit, training.steps, training.batch_size, base.study) == (4, 4, 4, "s-quick")
    assert base.quick
    assert training.quick
    assert (
        "quick: 1 models instead of 2, 2 sources instead of 3, 1 seeds instead of 2, 6 languages "
        "instead of 8, 4 items per language instead of 32, 4 steps instead of 12, 4 items per "
        "step instead of 16 and 4 dev items instead of 60; for a look, not for a result"
    ) in caplog.text
    assert "no chain of thought" in caplog.text


def test_what_is_small_already_is_not_made_larger() -> None:
    config = FinetuneConfig(steps=2, batch_size=1, dev_limit=2, eval_every=1)
    quick = quick_finetune(config)
    assert quick == config.model_copy(update={"quick": True})


def test_languages_of_a_quick_study_of_few_are_all_of_them() -> None:
    targets = ["heb_Hebr", "eng_Latn"]
    assert quick_languages("arb_Arab", targets=targets) == targets
    assert group("heb_Hebr", "arb_Arab") == "related"


def test_the_controls_of_a_crossed_study_are_the_second_source_and_its_relatives() -> None:
    targets = [*LANGUAGES.split(","), "azj_Latn", "kaz_Cyrl", "kir_Cyrl", "tur_Latn"]
    chosen = quick_languages("arb_Arab", "tur_Latn", targets=targets)
    assert chosen == ["amh_Ethi", "arb_Arab", "heb_Hebr", "azj_Latn", "kaz_Cyrl", "tur_Latn"]


@pytest.mark.parametrize(
    ("sources", "kept"),
    [
        ({"source": "arb_Arab"}, ["arb_Arab"]),
        ({"source": "arb_Arab", "control_source": "eng_Latn"}, ["arb_Arab", "eng_Latn"]),
        ({"sources": ["arb_Arab", "heb_Hebr"]}, ["arb_Arab"]),  # of one branch
        ({"sources": ["arb_Arab", "eng_Latn+fin_Latn", "fin_Latn"]}, ["arb_Arab", "fin_Latn"]),
        ({"sources": ["arb_Arab+eng_Latn", "fin_Latn"]}, ["arb_Arab+eng_Latn"]),
    ],
)
def test_a_study_keeps_a_second_source_of_another_branch(
    sources: dict[str, object], kept: list[str]
) -> None:
    config = StudyConfig.model_validate({"study": "s", "languages": LANGUAGES, **sources})
    assert [own.source for own in quick_study(config).sources or ()] == kept


def test_the_parameter_of_main_cuts_the_study(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"study: s\nlanguages: [{LANGUAGES}]\n", "utf-8")
    assert configured_study(MainConfig(study=str(path))).limit is None
    assert configured_study(MainConfig(study=str(path), quick="true")).limit == 4


def test_the_command_without_quick_keeps_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"study: s\nlanguages: [{LANGUAGES}]\n", "utf-8")
    config = MainConfig(study=str(path), limit="8", quick="true")
    command = f"mlflow run . -e main --env-manager local -P study={path} -P limit=8"
    assert command_without_quick(config) == command
    path.write_text(f"study: s\nlanguages: [{LANGUAGES}]\nquick: true\n", "utf-8")
    assert command_without_quick(config) == f"{command} -P quick=false"


@pytest.mark.usefixtures("no_figures")
def test_a_comparison_of_quick_runs_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    predictions = tables(gains(0.1, 0.05), n=20)
    for key in (BASE, TUNED):
        log_run(key, predictions[key], quick="true")
    run = mlflow.get_run(run_compare(CompareConfig()))
    printed = capsys.readouterr().out
    assert printed.lstrip().startswith("Quick look: 20 items per language and a few steps show ")
    assert "verdict" not in printed
    assert run.data.tags["isogloss.quick"] == "true"
    assert run.data.tags["mlflow.note.content"] in printed
    collected = collect_runs(CompareConfig())
    plans = [
        plan_comparison(collected, CompareConfig(), look)
        for look in (None, QuickLook(4), QuickLook(4, "mlflow run ."))
    ]
    assert len({plan.fingerprint for plan in plans}) == 3


def test_fingerprints_and_tags_keep_a_quick_run_apart_from_an_equal_one(
    model_folder: Callable[[str], Path],
) -> None:
    values = {"model": str(model_folder("gemma3")), "dtype": "float32", "limit": 4}
    plans = {}
    for quick in (False, True):
        evaluating = EvaluateConfig(**values, languages=("heb_Hebr",), quick=quick)
        session = Session.of(evaluating)
        evaluation = plan_evaluation(evaluating, session, None)
        training = plan_finetune(FinetuneConfig(**values, steps=2, quick=quick), session)
        tags = [evaluation_tags(evaluation, session, None).as_dict(), training.tags.as_dict()]
        assert [own.get("quick") for own in tags] == [("true" if quick else None)] * 2
        plans[quick] = (evaluation.fingerprint, training.fingerprint)
    assert not set(plans[False]) & set(plans[True])


def test_compare_leaves_quick_runs_out_and_refuses_a_mixture() -> None:
    table = tables(gains(0.1, 0.05), n=20)
    full = log_run(BASE, table[BASE])
    quick = log_run(TUNED, table[TUNED], quick="true")
    found = search_runs(CompareConfig()).runs
    assert [run.info.run_id for run in found] == [full]
    with pytest.raises(ComparisonError, match="quick"):
        collect_runs(CompareConfig(runs=(full, quick)))
