"""A study end to end on a tiny random model: what it leaves in MLflow, and what it reuses."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import probe
from mlflow.entities import Run
from safetensors.torch import load_file, save_file
from tiny_study import LANGUAGES, study_config

from isogloss import tracking
from isogloss.config import CompareConfig, EvaluateConfig, StudyConfig
from isogloss.errors import ComparisonError, ConfigError, ModelError, StudyError
from isogloss.predictions.table import BOUNDED, Prediction
from isogloss.registry.lookup import adapter_folder
from isogloss.registry.register import register
from isogloss.stages.collect_runs import collect_runs
from isogloss.stages.compare import run_compare
from isogloss.stages.evaluate import evaluate
from isogloss.stages.session import Session
from isogloss.stages.study import StudyRuns, lost_sources, models_table, run_study
from isogloss.stages.study_cells import EvaluateCell, study_cells
from isogloss.types import Format

pytestmark = pytest.mark.usefixtures("no_figures")  # but of the study that is there

REAL = Path(os.environ.get("ISOGLOSS_TEST_DATA", "absent")) / "sib200"


def runs(kind: str) -> list[Run]:
    return mlflow.search_runs(
        filter_string=f"tags.`isogloss.kind` = '{kind}'", output_format="list",
        search_all_experiments=True,
    )  # fmt: skip


def test_a_study_of_which_every_cell_fails_names_the_reason(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Run:
        raise ModelError("the server has gone.")

    monkeypatch.setattr("isogloss.stages.study.do_cell", fail)
    with pytest.raises(StudyError, match=r"^3 of 3 cells failed; [^$]*the server has gone"):
        run_study(study_config(model_folder("gemma3")))
    assert not runs("compare")
    assert not runs("evaluate")


def test_a_study_is_one_parent_run_with_base_finetune_tuned_and_compare_as_children(
    study: StudyConfig,
) -> None:
    (parent,) = runs("study")
    children = [*runs("evaluate"), *runs("finetune"), *runs("compare")]
    assert len(children) == 4
    for child in children:
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.status == "FINISHED"
        for name in ("model", "task", "format", "reasoning", "condition", "fingerprint"):
            assert child.data.tags[f"isogloss.{name}"]
        is_base = child.data.tags["isogloss.condition"] == "base"
        assert ("isogloss.source" in child.data.tags) != is_base
    for name in ("model", "source", "adapter", "task", "format", "reasoning", "fingerprint"):
        assert parent.data.tags[f"isogloss.{name}"]
    conditions = {run.data.tags["isogloss.condition"]: run for run in runs("evaluate")}
    assert set(conditions) == {"base", "tuned"}
    assert conditions["base"].data.tags["isogloss.adapter"] == "none"
    (finetuned,) = runs("finetune")
    adapter = finetuned.data.tags["isogloss.adapter"]
    assert conditions["tuned"].data.tags["isogloss.adapter"] == adapter


def test_an_evaluate_run_has_the_metrics_and_predictions_of_the_contract(
    study: StudyConfig,
) -> None:
    for run in runs("evaluate"):
        names = set(run.data.metrics)
        for code in LANGUAGES:
            for metric in ("accuracy", "accuracy_se", "n", "format_valid", "gold_logprob"):
                assert f"{metric}/{code}" in names
            assert f"format_mass/{code}" not in names  # cloze has no letters
        assert "accuracy/mean" in names
        of_groups = {"accuracy_group/related", "accuracy_group/control"}
        is_base = run.data.tags["isogloss.condition"] == "base"
        assert names & of_groups == (set() if is_base else of_groups)
        table = tracking.read_predictions(run.info.run_id)
        fields = [name for name in Prediction.__dataclass_fields__ if name != BOUNDED]
        assert list(table.columns) == fields
        assert len(table) == 6 * len(LANGUAGES)
        accuracy = table.groupby("language")["correct"].mean()
        for code in LANGUAGES:
            assert run.data.metrics[f"accuracy/{code}"] == pytest.approx(accuracy[code])
        assert [data.dataset.name for data in run.inputs.dataset_inputs] == ["probe-test"]
        config = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/config.json")
        assert config["languages"] == list(LANGUAGES)


def test_a_second_run_of_a_study_computes_nothing_and_loads_no_model(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "isogloss.models.loading.load", lambda *_: pytest.fail("the model was loaded")
    )
    run_study(study)
    assert [len(runs(kind)) for kind in ("study", "evaluate", "finetune", "compare")] == [
        2,
        2,
        1,
        1,
    ]
    (compared,) = runs("compare")
    assert compared.data.tags["isogloss.answer"] in capsys.readouterr().out


def test_another_order_limit_format_or_model_is_a_new_run_and_another_source_is_not(
    study: StudyConfig, model_folder: Callable[[str], Path]
) -> None:
    evaluation = EvaluateConfig(
        model=study.model, dtype="float32", languages=LANGUAGES, limit=6, study="tiny"
    )
    before = len(runs("evaluate"))
    evaluate(evaluation, Session(study.model, "float32"))
    evaluate(evaluation.model_copy(update={"seed": 1}), Session(study.model, "float32"))
    assert len(runs("evaluate")) == before  # without shuffled options the seed has no effect
    other = str(model_folder("llama"))
    for change in (
        {"limit": 4},
        {"shuffle_options": True},
        {"shuffle_options": True, "seed": 1},
        {"format": Format.LETTER},
        {"model": other},
    ):
        changed = evaluation.model_copy(update=change)
        evaluate(changed, Session(changed.model, "float32"))
        before += 1
        assert len(runs("evaluate")) == before
    elsewhere = evaluation.model_copy(update={"source": "fra_Latn"})
    evaluate(elsewhere, Session(study.model, "float32"))
    assert len(runs("evaluate")) == before


def test_covariates_of_a_study_file_reach_its_comparison(
    study: StudyConfig, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "own.csv"
    rows = [f"{code},{place**2}" for place, code in enumerate(LANGUAGES)]
    path.write_text("\n".join(["language,speakers", *rows]))
    changed = study_config(model_folder("gemma3"), compare={"covariates": str(path)})
    compared = mlflow.get_run(run_study(changed))
    assert compared.data.params["covariates"] == str(path)


def test_an_unfinished_run_is_never_reused(study: StudyConfig) -> None:
    client = mlflow.MlflowClient()
    for run in runs("evaluate"):
        client.set_terminated(run.info.run_id, "FAILED")
    run_study(study)
    assert len(runs("evaluate")) == 4


def test_the_report_is_one_page_with_its_figures_and_numbers(study: StudyConfig) -> None:
    (run,) = runs("compare")
    folder = Path(
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="report")
    )
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "report.md", "gains.csv", "before_after.png", "gains.png"} <= names
    table = pd.read_csv(folder / "gains.csv")
    assert set(table["code"]) == set(LANGUAGES)
    verdict = run.data.tags["isogloss.verdict"].capitalize()
    assert f"**{verdict}:** " in (folder / "report.md").read_text()
    for code in LANGUAGES:
        row = table.set_index("code").loc[code]
        assert run.data.metrics[f"gain/{code}"] == pytest.approx(row["after"] - row["before"])


def test_a_run_reused_by_another_study_is_found_under_both_names(study: StudyConfig) -> None:
    evaluation = EvaluateConfig(
        model=study.model, dtype="float32", languages=LANGUAGES, limit=6, study="another"
    )
    reused = evaluate(evaluation, Session(study.model, "float32"))
    for name in ("tiny", "another"):
        collected = collect_runs(CompareConfig(study=name)).runs
        assert reused.info.run_id in {run.info.run_id for run in collected}


def test_compare_finds_the_runs_of_a_study_by_name_and_rejects_runs_that_differ(
    study: StudyConfig,
) -> None:
    assert [cell.condition for cell in collect_runs(CompareConfig(study="tiny")).by_key] == [
        "base",
        "tuned",
    ]
    letters = EvaluateConfig(
        model=study.model, dtype="float32", languages=LANGUAGES, limit=6, format="letter"
    )
    evaluate(letters, Session(study.model, "float32"))
    with pytest.raises(ComparisonError, match=r"format is 'letter' in .*; 'cloze' in"):
        collect_runs(CompareConfig())
    assert len(collect_runs(CompareConfig(study="tiny")).by_key) == 2


@pytest.mark.real
def test_a_study_of_several_seeds_and_sources_shares_its_base_and_its_comparison(
    study: StudyConfig, model_folder: Callable[[str], Path]
) -> None:
    languages = (*LANGUAGES, "rus_Cyrl")
    config = study_config(
        model_folder("gemma3"), study="wide", languages=languages, seeds="0,1",
        control_source="eng_Latn", shuffle_options=True, limit=4,
    )  # fmt: skip
    run_study(config)
    (parent,) = [run for run in runs("study") if run.data.tags["isogloss.study"] == "wide"]
    cells = collect_runs(CompareConfig(study="wide")).by_key
    assert [(cell.condition, cell.source, cell.seed) for cell in cells] == [
        ("base", "", ""),
        ("tuned", "arb_Arab", "0"),
        ("tuned", "arb_Arab", "1"),
        ("tuned", "eng_Latn", "0"),
        ("tuned", "eng_Latn", "1"),
    ]
    (compared,) = [run for run in runs("compare") if run.data.tags.get("isogloss.study") == "wide"]
    assert compared.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "double_difference/eng_Latn" in compared.data.metrics
    assert compared.data.metrics["contrast/seeds"] == 2
    (recipe,) = {run.data.tags["isogloss.recipe"] for (run,) in list(cells.values())[1:]}
    assert recipe.startswith("2 steps of 4 of ")


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="set ISOGLOSS_TEST_DATA to a folder with sib200/")
def test_a_study_of_four_sources_is_judged_by_the_crossed_design(
    study: StudyConfig, model_folder: Callable[[str], Path]
) -> None:
    sources = ("deu_Latn", "fra_Latn", "hin_Deva", "arb_Arab")
    relatives = ("dan_Latn", "eng_Latn", "spa_Latn", "ita_Latn", "urd_Arab", "heb_Hebr")
    config = study_config(
        model_folder("gemma3"), study="crossed", sources=",".join(sources), task="sib200",
        data_dir=str(REAL), languages=(*sources, *relatives), limit=4,
    )  # fmt: skip
    compared = mlflow.get_run(run_study(config))
    (parent,) = [run for run in runs("study") if run.data.tags["isogloss.study"] == "crossed"]
    metrics, tags = compared.data.metrics, compared.data.tags
    assert tags["isogloss.source"] == "deu_Latn"
    assert len(tags["isogloss.cells"].split()) == 5
    assert metrics["crossed/related_branches"] == 4
    assert metrics["crossed/targets"] == len(relatives)
    assert metrics["crossed/matchings"] == 24
    assert {f"crossed_source/{source}" for source in sources} <= set(metrics)
    assert "crossed/at_equal_shared_vocabulary" in metrics
    assert parent.data.tags["isogloss.verdict"] == tags["isogloss.verdict_C1"]
    # The same runs, compared by the study's name: the first source and the finished run again.
    again = run_compare(CompareConfig(study="crossed"))
    assert again == compared.info.run_id


def test_the_logged_adapter_is_found_by_run_uri_and_alias_and_answers_as_evaluate_did(
    study: StudyConfig,
) -> None:
    (finetuned,) = runs("finetune")
    uri = finetuned.data.tags["isogloss.adapter_uri"]
    assert register(finetuned.info.run_id, "reader", "champion").uri == "models:/reader/1"
    weights = []
    for name in (finetuned.info.run_id, uri, "models:/reader@champion", "models:/reader/1"):
        with adapter_folder(name) as folder:
            weights.append((folder / "adapter_model.safetensors").read_bytes())
    assert len(set(weights)) == 1
    items = probe("heb_Hebr", "test", 6)
    table = pd.DataFrame(
        [
            {"passage": item.passage, "question": item.question, "options": list(item.options)}
            for item in items
        ]
    )
    served = mlflow.pyfunc.load_model("models:/reader@champion").predict(table)
    (tuned,) = (run for run in runs("evaluate") if tracking.tag(run, "condition") == "tuned")
    logged = tracking.read_predictions(tuned.info.run_id).query("language == 'heb_Hebr'")
    assert list(served["choice"]) == list(logged["prediction"])
    assert list(served["valid"]) == list(logged["valid"])
    for item, probabilities, logprobs in zip(
        items, served["probabilities"], logged["choice_logprobs"], strict=True
    ):
        # The probe ranks options by log-likelihood per character.
        scores = logprobs / [len(option) for option in item.options]
        expected = np.exp(scores - np.logaddexp.reduce(scores))
        assert probabilities == pytest.approx(expected, abs=1e-4)


def test_progress_counts_cells_and_mlflow_logs_everything_about_the_adapter(
    model_folder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    run_study(study_config(model_folder("gemma3"), format=None))
    assert "Failed to log" not in caplog.text
    for line in (
        "cell 1 of 3 · base · Standard Arabic (1 of 6): accuracy 0.",
        "cell 1 of 3 · base · Turkish (6 of 6): accuracy 0.",
        "checking data and models",
        "cell 1 of 3 · base: 36 items in 6 languages",
        "comparing 2 runs",
        "cell 2 of 3 · finetune · Standard Arabic, seed 0: dev accuracy 0.",
        "; the adapter of step ",
        "cell 3 of 3 · tuned · Standard Arabic, seed 0 · Hebrew (2 of 6): accuracy 0.",
    ):
        assert line in caplog.text


def test_no_file_of_the_logged_model_is_a_pickle(study: StudyConfig) -> None:
    (finetuned,) = runs("finetune")
    folder = Path(mlflow.artifacts.download_artifacts(finetuned.data.tags["isogloss.adapter_uri"]))
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    assert "adapter_model.safetensors" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".bin", ".pt"))]


def test_a_run_that_mlflow_run_opened_is_adopted_and_keeps_its_experiment(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = mlflow.create_experiment("elsewhere")
    opened = mlflow.MlflowClient().create_run(experiment)
    mlflow.MlflowClient().log_param(opened.info.run_id, "limit", "'2'")
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    evaluation = EvaluateConfig(
        model=str(model_folder("gemma3")), dtype="float32", languages=("heb_Hebr",), limit=2
    )
    with pytest.raises(ConfigError, match="--experiment-name 'another'"):
        evaluate(
            evaluation.model_copy(update={"experiment": "another"}),
            Session(evaluation.model, "float32"),
        )
    run = evaluate(evaluation, Session(evaluation.model, "float32"))
    assert run.info.run_id == opened.info.run_id
    assert run.info.experiment_id == experiment


def test_a_study_of_a_pooled_source_compares_relatives_of_the_pool(
    model_folder: Callable[[str], Path],
) -> None:
    languages = ("arb_Arab", "heb_Hebr", "amh_Ethi", "tir_Ethi", "eng_Latn", "fra_Latn")
    config = study_config(
        model_folder("gemma3"), source="heb_Hebr+arb_Arab", languages=languages, study="pool",
        limit=2,
    )  # fmt: skip
    compared = mlflow.get_run(run_study(config))
    assert compared.data.tags["isogloss.source"] == "arb_Arab+heb_Hebr"
    note = compared.data.tags["mlflow.note.content"]
    assert "Standard Arabic + Hebrew" in note
    table = pd.read_csv(
        mlflow.artifacts.download_artifacts(
            run_id=compared.info.run_id, artifact_path="report/gains.csv"
        )
    ).set_index("code")
    assert list(table.loc[list(languages), "group"]) == [
        "source", "source", "related", "related", "control", "control",
    ]  # fmt: skip


def test_a_control_source_may_be_pooled(model_folder: Callable[[str], Path]) -> None:
    languages = ("arb_Arab", "heb_Hebr", "amh_Ethi", "eng_Latn", "fra_Latn", "tur_Latn", "fin_Latn")
    config = study_config(
        model_folder("gemma3"), control_source="fra_Latn+eng_Latn", languages=languages, limit=2
    )
    compared = mlflow.get_run(run_study(config))
    assert "double_difference/eng_Latn.fra_Latn" in compared.data.metrics


def test_a_failing_model_does_not_stop_the_others_and_is_run_again(
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sound = model_folder("gemma3") / "model.safetensors"
    broken = Path(shutil.copytree(model_folder("gemma3"), tmp_path / "broken"))
    (broken / "other.txt").write_text("the revision of another model")
    weights = broken / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    models = [
        {"model": str(model_folder("gemma3")), "label": "first,whole"},
        {"model": str(broken), "label": "second"},
        {"model": str(model_folder("llama")), "label": "third"},
    ]
    languages = ("heb_Hebr", "amh_Ethi", "eng_Latn", "fra_Latn")
    config = study_config(
        model_folder("gemma3"), models=models, study="three", languages=languages, limit=2
    )
    with pytest.raises(StudyError) as caught:
        run_study(config)
    message = str(caught.value)
    assert message.startswith("3 of 9 cells failed")
    assert "- second · base; second · finetune" in message
    assert "cannot be loaded" in message
    warned, started = (
        caplog.text.index(part)
        for part in ("cannot be run, and the other cells are", "cell 1 of 9")
    )
    assert warned < started  # found before the first cell is run
    (parent,) = runs("study")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["isogloss.failed"] == "3"
    (compared,) = runs("compare")
    report = mlflow.artifacts.load_text(f"{compared.info.artifact_uri}/report/report.md")
    failed = "'second · base', 'second · finetune · Standard Arabic, seed 0' and 'second · tuned"
    assert f"The cells {failed} · Standard Arabic, seed 0' failed: model" in report
    table = pd.read_csv(f"{parent.info.artifact_uri}/models.csv", index_col="model")
    assert list(table.columns) == ["base", "tuned on arb_Arab"]
    assert list(table.index) == ["first,whole", "second", "third"]
    assert list(table.loc["second"]) == ["failed", "failed"]
    for run in runs("evaluate"):
        if run.data.tags["isogloss.model"] == models[0]["model"]:
            column = "base" if run.data.tags["isogloss.condition"] == "base" else table.columns[1]
            accuracy = run.data.metrics["accuracy/mean"]
            assert float(table.loc["first,whole", column]) == pytest.approx(accuracy, abs=6e-4)
    assert "second" in capsys.readouterr().out

    # What only loading shows is found in the middle; the finished cells of the others are reused.
    tensors = {name: tensor * float("nan") for name, tensor in load_file(sound).items()}
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(StudyError, match=r"3 of 9 cells failed[^-]*\n- second .* that are NaN"):
        run_study(config)
    assert len(runs("finetune")) == 2

    weights.write_bytes(whole)
    # The revision of the folder is another now.
    compared = mlflow.get_run(run_study(config))
    assert len(runs("finetune")) == 3
    labels = {"first,whole", "second", "third"}
    assert set(compared.data.tags["isogloss.model"].split(", ")) == labels
    by_name = collect_runs(CompareConfig(study="three"))
    assert {key.model for key in by_name.by_key} == labels


def test_a_model_without_a_chat_template_is_refused_before_the_first_run(
    model_folder: Callable[[str], Path],
) -> None:
    models = [str(model_folder("gemma3")), {"model": str(model_folder("llama")), "chat": "on"}]
    with pytest.raises(ConfigError, match="has no chat template"):
        run_study(study_config(model_folder("gemma3"), models=models))
    assert not runs("study")


def test_two_models_of_a_study_with_the_same_files_are_refused(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(model_folder("gemma3"), tmp_path / "copy")
    models = [str(model_folder("gemma3")), str(copy)]
    with pytest.raises(ConfigError, match="have the same files"):
        run_study(study_config(model_folder("gemma3"), models=models))


def test_a_study_with_shared_passages_says_so(model_folder: Callable[[str], Path]) -> None:
    config = study_config(
        model_folder("gemma3"), study="shared", test_items=6, share_passages=True, limit=None
    )
    compared = mlflow.get_run(run_study(config))
    for run in (*runs("evaluate"), *runs("finetune")):
        assert run.data.tags["isogloss.share_passages"] == "true"
    report = mlflow.artifacts.load_text(f"{compared.info.artifact_uri}/report/report.md")
    assert "shared by training and test items" in report


def test_a_source_of_which_every_adapter_failed_is_lost_and_the_first_reason_is_given() -> None:
    config = StudyConfig.model_validate(
        {"study": "s", "model": "m", "sources": "arb_Arab,tur_Latn", "seeds": "0,1"}
    )
    done = StudyRuns()
    for cell in study_cells(config):
        if "Turkish" in cell.label:
            done.failed[cell] = "no memory." if "finetune" in cell.label else "no adapter."
        elif cell.label.endswith("seed 1"):
            done.failed[cell] = "killed."
        elif isinstance(cell, EvaluateCell):
            done.evaluated[cell] = SimpleNamespace()  # type: ignore[assignment]
    assert lost_sources(config, done) == {"no memory.": ["tur_Latn"]}


def test_a_mean_over_fewer_seeds_than_asked_says_so() -> None:
    config = StudyConfig.model_validate(
        {"study": "s", "models": [{"model": "a", "label": "A, small"}, "b"], "seeds": "0,1"}
    )
    cells = study_cells(config)
    finished = StudyRuns()
    for cell in cells:
        if isinstance(cell, EvaluateCell) and (cell.finetuned is None or cell.label.endswith("0")):
            run = SimpleNamespace(data=SimpleNamespace(metrics={"accuracy/mean": 0.5}))
            finished.evaluated[cell] = run  # type: ignore[assignment]
    assert models_table(cells, finished) == [
        ("model", "base", "tuned on arb_Arab"),
        ("A, small", "0.500", "0.500 (1 of 2)"),
        ("b", "0.500", "0.500 (1 of 2)"),
    ]
