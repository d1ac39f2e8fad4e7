"""Evaluate runs: conditions, options and splits, and what raises before a run is opened."""

import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from isogloss import tracking
from isogloss.config import CompareConfig, EvaluateConfig, FinetuneConfig, StudyConfig
from isogloss.errors import ConfigError, DataError, ModelError
from isogloss.models import loading
from isogloss.registry.lookup import AdapterRef, adapter_folder
from isogloss.stages.collect_runs import collect_runs
from isogloss.stages.compare import compare_runs
from isogloss.stages.evaluate import evaluate
from isogloss.stages.evaluate_adapters import run_evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.stages.study import run_study
from isogloss.tracking import read_predictions
from isogloss.training.contamination import RECORD

LANGUAGES = ("arb_Arab", "heb_Hebr", "amh_Ethi", "eng_Latn", "fra_Latn", "tur_Latn")
SENTENCES = [
    "The harbour was closed for three days after the storm, and no boat could leave.",
    "Teachers in the valley asked for a second bridge, since the old one floods each spring.",
    "A museum of clocks opened in the old mill; it shows two hundred of them, all running.",
]


def runs(kind: str) -> list[Run]:
    return mlflow.search_runs(
        filter_string=f"tags.`isogloss.kind` = '{kind}'", output_format="list",
        search_all_experiments=True,
    )  # fmt: skip


@pytest.fixture
def folder(model_folder: Callable[[str], Path]) -> str:
    return str(model_folder("gemma3"))


def evaluate_config(folder: str, **changes: object) -> EvaluateConfig:
    return EvaluateConfig.model_validate(
        {
            "model": folder,
            "dtype": "float32",
            "languages": ("heb_Hebr", "eng_Latn"),
            "limit": 4,
            **changes,
        }
    )


def evaluate_base(config: EvaluateConfig) -> Run:
    return evaluate(config, Session(config.model, "float32"))


def finetune_adapter(folder: str, **changes: object) -> Run:
    config = FinetuneConfig.model_validate(
        {"model": folder, "dtype": "float32", "steps": 2, "batch_size": 2, "limit": 4,
         "dev_limit": 2, "rank": 2, "alpha": 4, **changes}
    )  # fmt: skip
    return finetune(config, Session(folder, "float32"))


def evaluate_adapter(config: EvaluateConfig, adapter: Run) -> Run:
    with adapter_folder(adapter.info.run_id) as path:
        return evaluate(config, Session(config.model, "float32"), AdapterRef.in_folder(path))


def test_several_adapters_and_the_base_are_evaluated_with_one_load(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adapters = [finetune_adapter(folder, seed=seed) for seed in (0, 1)]
    loads: list[str] = []
    load = loading.load
    monkeypatch.setattr(loading, "load", lambda *args: (loads.append("once"), load(*args))[1])
    names = ["none", *(run.info.run_id for run in adapters)]
    run_evaluate(evaluate_config(folder, adapter=",".join(names)))
    assert loads == ["once"]
    (parent,) = runs("evaluations")
    evaluated = [mlflow.get_run(run_id) for run_id in parent.data.tags["isogloss.cells"].split()]
    assert [run.data.tags["isogloss.adapter"] for run in evaluated] == [
        "none", *(run.data.tags["isogloss.adapter"] for run in adapters)
    ]  # fmt: skip
    assert [run.info.run_name for run in evaluated] == [
        "base · gemma3 · probe",
        *(f"tuned · gemma3 on Standard Arabic, seed {seed} · probe" for seed in (0, 1)),
    ]
    assert {run.data.tags["mlflow.parentRunId"] for run in evaluated} == {parent.info.run_id}
    printed = capsys.readouterr().out
    assert all(f"adapter {name}\n" in printed for name in names)
    together = [read_predictions(run.info.run_id) for run in evaluated]
    mlflow.set_experiment("alone")
    for adapter, predictions in zip(adapters, together[1:], strict=True):
        alone = evaluate_adapter(evaluate_config(folder), adapter)
        assert read_predictions(alone.info.run_id).equals(predictions)
    with pytest.raises(ModelError, match="nothing-of-the-kind"):
        run_evaluate(evaluate_config(folder, adapter="none,nothing-of-the-kind"))
    with pytest.raises(ConfigError, match="adapter names 'none' more than once"):
        run_evaluate(evaluate_config(folder, adapter="none, none"))


@pytest.mark.real
def test_reasoning_both_makes_four_conditions_and_each_is_compared_with_the_base(
    folder: str,
) -> None:
    config = StudyConfig.model_validate(
        {
            "study": "four",
            "model": folder,
            "dtype": "float32",
            "languages": LANGUAGES,
            "reasoning": "both",
            "format": "generate",
            "max_new_tokens": 6,
            "limit": 4,
            "finetune": {"steps": 2, "batch_size": 2, "dev_limit": 2, "rank": 2, "alpha": 4},
        }
    )
    run_study(config)
    evaluated = {run.data.tags["isogloss.condition"]: run for run in runs("evaluate")}
    assert sorted(evaluated) == ["base", "base+cot", "tuned", "tuned+cot"]
    for condition, run in evaluated.items():
        table = tracking.read_predictions(run.info.run_id)
        assert table["text"].notna().all()
        for code in LANGUAGES:
            metrics = run.data.metrics
            assert metrics[f"unparsed/{code}"] == 1 - metrics[f"format_valid/{code}"]
            rows = table[table["language"] == code]
            for kind in ("free", "forced"):
                choice = rows["greedy" if kind == "free" else "forced"]
                expected = (choice == rows["answer"]).mean()
                assert metrics[f"accuracy_{kind}/{code}"] == pytest.approx(expected)
            assert (f"tokens_per_item/{code}" in metrics) == (condition == "base")
    (compared,) = runs("compare")
    assert compared.data.tags["isogloss.condition"] == "tuned"
    note = compared.data.tags["mlflow.note.content"]
    verdicts = "Nothing to compare|Equivalent|Difference seen|No difference seen"
    assert re.match(rf"({verdicts}): .*Arabic", note, re.DOTALL)
    assert re.search(r"C3: .*from tuning.* from chain of thought", note)
    gains = [
        compared.data.metrics[f"{name}/heb_Hebr"]
        for name in ("gain_free", "gain_format", "gain_comprehension")
    ]
    assert gains[0] == pytest.approx(gains[1] + gains[2])
    for name in ("base_cot", "tuned_cot"):
        assert f"contrast_{name}/accuracy" in compared.data.metrics
    for condition, against, words in (
        ("base+cot", "base", "With chain of thought,"),
        ("tuned+cot", "base", "With fine-tuning on Standard Arabic and chain of thought,"),
        ("tuned+cot", "tuned", "With chain of thought,"),
        ("tuned", "base+cot", "With fine-tuning on Standard Arabic and no chain of thought,"),
    ):
        config = CompareConfig(study="four", condition=condition, against=against)
        note = compare_runs(collect_runs(config), config).data.tags["mlflow.note.content"]
        assert note.splitlines()[2].startswith(words)
    (study,) = runs("study")
    assert len(study.data.tags["isogloss.cells"].split()) == 4


def test_every_option_that_changes_the_result_has_its_own_run_and_tags(
    folder: str,
) -> None:
    changes: list[dict[str, object]] = [
        {},
        {"prompt_language": "target"},
        {"format": "letter"},
        {"format": "letter", "shuffle_options": True},
        {"format": "letter", "shuffle_options": True, "seed": 1},
        {"normalisation": "unconditional"},
        {"normalisation": "none"},
        {"format": "generate"},
        {"format": "generate", "max_new_tokens": 4},
        {"max_length": 4000},
        {"split": "dev"},
    ]
    evaluated = [evaluate_base(evaluate_config(folder, **change)) for change in changes]
    assert len({run.data.tags["isogloss.fingerprint"] for run in evaluated}) == len(changes)
    assert evaluated[1].data.tags["isogloss.prompt_language"] == "target"
    assert evaluated[5].data.tags["isogloss.normalisation"] == "unconditional"
    assert evaluated[2].data.tags["isogloss.choices"].startswith("' A' [")
    assert "isogloss.choices" not in evaluated[0].data.tags
    answers = [
        tracking.read_predictions(run.info.run_id)["answer"].tolist() for run in evaluated[2:5]
    ]
    assert answers[0] != answers[1] != answers[2]
    assert "position_bias/heb_Hebr" in evaluated[2].data.metrics
    assert evaluate_base(evaluate_config(folder)).info.run_id == evaluated[0].info.run_id


def test_a_split_with_training_data_is_rejected_in_every_language(folder: str) -> None:
    adapter = finetune_adapter(folder)
    before = len(runs("evaluate"))
    for languages in (("heb_Hebr",), ("arb_Arab", "eng_Latn")):
        for split in ("train", "all"):
            config = evaluate_config(folder, languages=languages, split=split)
            with pytest.raises(DataError, match="was trained on probe in arb_Arab, and 2 of the 2"):
                evaluate_adapter(config, adapter)
    assert len(runs("evaluate")) == before
    evaluate_adapter(evaluate_config(folder), adapter)
    assert len(runs("evaluate")) == before + 1


def test_shared_sentences_of_another_task_are_rejected(
    folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def write(name: str, code: str, texts: list[str]) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        rows = [
            {"item_id": str(at), "passage": text, "question": "What?", "option_1": "one",
             "option_2": "two", "answer": 1, "split": "dev" if at == 0 else split}
            for at, text in enumerate(texts)
            for split in [name]
        ]  # fmt: skip
        pd.DataFrame(rows).to_csv(tmp_path / name / f"{code}.csv", index=False)

    write("train", "eng_Latn", ["Nothing that anybody would ask about twice.", *SENTENCES])
    write("test", "eng_Latn", ["Another text.", "More.", f"Rain. {SENTENCES[2]} End."])
    write("test", "fra_Latn", ["Un autre texte.", "Encore.", "La pluie. Un musée. Fin."])
    adapter = finetune_adapter(
        folder, task="files", data_dir=str(tmp_path / "train"), source="eng_Latn", dev_limit=1
    )
    parameters = {
        "task": "files",
        "data_dir": str(tmp_path / "test"),
        "languages": ("fra_Latn",),
        "source": "eng_Latn",
    }
    with pytest.raises(ConfigError, match="was trained on eng_Latn, but `source` is arb_Arab"):
        evaluate_adapter(evaluate_config(folder, **{**parameters, "source": "arb_Arab"}), adapter)
    with pytest.raises(DataError, match=r"1 of the 2 passages of test .* '2' \(as '3'\)"):
        evaluate_adapter(evaluate_config(folder, **parameters), adapter)
    (tmp_path / "test" / "eng_Latn.csv").unlink()
    evaluate_adapter(evaluate_config(folder, **parameters), adapter)
    assert "whether the two tasks share passages is not checked" in caplog.text


def test_an_adapter_without_a_training_record_is_evaluated_with_a_warning(
    folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    with adapter_folder(finetune_adapter(folder).info.run_id) as path:
        (path / RECORD).unlink()
        config = evaluate_config(folder)
        evaluate(config, Session(folder, "float32"), adapter=AdapterRef.in_folder(path))
    assert "the adapter has no training record" in caplog.text


def test_a_study_that_would_evaluate_its_training_data_is_rejected_before_any_run(
    folder: str,
) -> None:
    config = StudyConfig.model_validate(
        {"study": "x", "model": folder, "dtype": "float32", "languages": LANGUAGES, "split": "all"}
    )
    with pytest.raises(DataError, match="were in its training data"):
        run_study(config)
    assert not mlflow.search_runs(search_all_experiments=True, output_format="list")


def test_prompts_longer_than_the_window_are_rejected_before_a_run_or_shortened_and_counted(
    folder: str,
) -> None:
    with pytest.raises(DataError, match="8 of 8 prompts are longer than the context window of 60"):
        evaluate_base(evaluate_config(folder, max_length=60, format="letter"))
    assert not runs("evaluate")
    run = evaluate_base(
        evaluate_config(folder, max_length=220, format="letter", long_inputs="shorten")
    )
    table = tracking.read_predictions(run.info.run_id)
    assert table["shortened"].any()
    assert (table["prompt_tokens"] < 220).all()
    for code, rows in table.groupby("language"):
        assert run.data.metrics.get(f"shortened/{code}", 0) == rows["shortened"].sum()


def test_a_language_without_wording_is_rejected_before_the_model_is_located() -> None:
    config = EvaluateConfig(
        model="nowhere/at-all", task="files", data_dir="data", source="lug_Latn",
        prompt_language="target",
    )  # fmt: skip
    Path("data").mkdir()
    Path("data/lug_Latn.csv").write_text("question,option_1,option_2,answer\nWhat?,one,two,1\n")
    with pytest.raises(ConfigError, match="no wording in 'lug_Latn'"):
        evaluate_base(config)


def test_a_study_without_two_related_languages_or_with_an_unknown_branch_is_rejected_first(
    folder: str,
) -> None:
    study = {"study": "x", "model": folder, "dtype": "float32"}
    for changes, message in (
        ({"languages": ("heb_Hebr", "eng_Latn", "fra_Latn")}, "1 are related to Standard Arabic"),
        ({"compare": {"branch": "Semitics"}}, "unknown branch 'Semitics'"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_study(StudyConfig.model_validate({**study, **changes}))
    assert not mlflow.search_runs(search_all_experiments=True, output_format="list")


def test_a_summary_leaves_values_of_languages_to_the_table(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_id,) = run_evaluate(evaluate_config(folder, metrics="summary"))
    run = mlflow.get_run(run_id)
    accuracy = read_predictions(run_id).groupby("language")["correct"].mean()
    printed = capsys.readouterr().out
    for code, value in accuracy.items():
        assert f"{code}   {value:.3f}" in printed
    assert not [name for name in run.data.metrics if not name.endswith("/mean")]
    assert run.data.metrics["accuracy/mean"] == pytest.approx(accuracy.mean())
    table = mlflow.load_table("languages.json", run_ids=[run_id]).set_index("language")
    assert dict(table["accuracy"]) == pytest.approx(dict(accuracy))
    # The choice decides no result.
    assert run_evaluate(evaluate_config(folder, metrics="all")) == [run_id]


def test_a_model_that_answers_with_one_option_is_warned_of_once(
    folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One question asked 24 times, of which the key says something else each time."""
    rows = [
        {"question": "Which?", "options": ["one", "two", "three", "four"], "answer": 1 + i % 4,
         "passage": "A text.", "passage_id": f"p{i}", "item_id": f"q{i}", "split": "test"}
        for i in range(24)
    ]  # fmt: skip
    for code in ("heb_Hebr", "eng_Latn"):
        pd.DataFrame(rows).to_json(tmp_path / f"{code}.jsonl", orient="records", lines=True)
    config = evaluate_config(
        folder, task="files", data_dir=str(tmp_path), source="arb_Arab", limit=None,
        format="letter",
    )  # fmt: skip
    predictions = read_predictions(evaluate_base(config).info.run_id)
    chosen = "ABCD"[predictions["prediction"].mode()[0]]
    (warning,) = (text for text in caplog.messages if "whatever the question" in text)
    assert warning == (
        f"base: the model answers option {chosen} in 48 of 48 items, whatever the question; try "
        "shuffle_options=true or format=cloze"
    )
