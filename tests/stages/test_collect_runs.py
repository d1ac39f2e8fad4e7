"""Which runs are judged together, and which are refused or left out, by name."""

from collections.abc import Mapping

import mlflow
import pandas as pd
import pytest
from synthetic_predictions import CONTROL, RELATED, gains, study, tables

from isogloss import tracking
from isogloss.analysis.score_matrix import RunKey
from isogloss.config import CompareConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.report.omissions import omission_sentence
from isogloss.stages.collect_runs import pull, read, source_of
from isogloss.stages.compare import run_compare
from isogloss.types import Condition

TAGS = {
    "task": "belebele",
    "format": "letter",
    "normalisation": "none",
    "prompt_version": "2",
    "prompt_language": "english",
    "chat": "false",
    "revision": "r1",
    "dtype": "float32",
}


def log(cell: RunKey, table: pd.DataFrame, status: str = "FINISHED", **tags: str | None) -> str:
    tuned = cell.condition.startswith("tuned")
    labels: dict[str, str | None] = {
        **TAGS,
        "kind": "evaluate",
        "model": cell.model,
        "condition": cell.condition,
        "source": cell.source or "arb_Arab",
        "seed": cell.seed or None,
        "adapter": f"{cell.model}{cell.source}{cell.seed}" if tuned else "none",
        "fingerprint": str(hash((cell, len(table), tuple(sorted(tags.items()))))),
        **tags,
    }
    with mlflow.start_run() as run:
        mlflow.set_tags({f"isogloss.{key}": value for key, value in labels.items() if value})
        accuracy = table.groupby("language")["correct"].mean()
        mlflow.log_metrics({f"accuracy/{code}": float(value) for code, value in accuracy.items()})
        tracking.log_predictions(table)
    mlflow.MlflowClient().set_terminated(run.info.run_id, status)
    return str(run.info.run_id)


def log_all(made: Mapping[RunKey, pd.DataFrame], **tags: str | None) -> dict[RunKey, str]:
    return {cell: log(cell, table, **tags) for cell, table in made.items()}


@pytest.fixture
def two() -> dict[RunKey, pd.DataFrame]:
    return tables(gains(0.1, 0.05), n=20)


def test_runs_become_cells_and_predictions_are_read_as_they_were_logged(two) -> None:
    log_all(two)
    pulled = pull(CompareConfig())
    assert list(pulled.cells) == [
        RunKey("m", Condition.BASE),
        RunKey("m", Condition.TUNED, "arb_Arab", "0"),
    ]
    assert source_of(pulled, CompareConfig()) == "arb_Arab"
    found = read(pulled)
    for cell, table in two.items():
        pd.testing.assert_series_equal(found[cell]["correct"], table["correct"])
    assert "prediction" not in found[cell]  # only what is needed is read


def test_nothing_to_judge_is_said(two) -> None:
    with pytest.raises(ComparisonError, match="the experiment has no finished evaluate run"):
        pull(CompareConfig())
    log(RunKey("m", Condition.BASE), two[RunKey("m", Condition.BASE)], status="RUNNING")
    with pytest.raises(ComparisonError, match=r"study 'mine' has no finished evaluate run\."):
        pull(CompareConfig(study="mine"))
    with pytest.raises(ComparisonError, match=r"no finished evaluate run \(1 are not finished\)"):
        pull(CompareConfig())


def test_runs_are_chosen_by_study_experiment_tags_and_ids(two) -> None:
    ids = log_all(two, study="one")
    other = log(
        RunKey("m", Condition.BASE),
        two[RunKey("m", Condition.BASE)],
        study="two",
        team="x",
        revision="r2",
    )
    assert {run.info.run_id for run in pull(CompareConfig(study="one")).runs} == set(ids.values())
    chosen = pull(CompareConfig(tags="isogloss.team=x, isogloss.study=two"))
    assert [run.info.run_id for run in chosen.runs] == [other]
    assert len(pull(CompareConfig(runs=",".join(ids.values()))).runs) == 2
    mlflow.set_experiment("elsewhere")
    with pytest.raises(ComparisonError, match="no finished evaluate run"):
        pull(CompareConfig())
    assert len(pull(CompareConfig(experiment="Default,elsewhere", study="one")).runs) == 2
    with pytest.raises(ComparisonError, match="there is no experiment 'nowhere'"):
        pull(CompareConfig(experiment="nowhere"))
    with pytest.raises(ConfigError, match="expected NAME=VALUE, separated by commas, but got 'a'"):
        pull(CompareConfig(tags="a"))


def test_a_run_that_is_no_evaluate_run_is_refused(two) -> None:
    ids = log_all(two)
    with mlflow.start_run() as run:
        mlflow.set_tag("isogloss.kind", "compare")
    with pytest.raises(ComparisonError, match="is not an evaluate run, but a compare run"):
        pull(CompareConfig(runs=run.info.run_id))
    with pytest.raises(ComparisonError, match="'nothing' is not the id of a run"):
        pull(CompareConfig(runs="nothing"))
    client = mlflow.MlflowClient()
    (base, _) = ids.values()
    client.set_terminated(base, "FAILED")
    with pytest.raises(ComparisonError, match="is not finished: it is failed"):
        pull(CompareConfig(runs=base))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("task", "task is 'other'"),
        ("format", "format is 'other'"),
        ("prompt_version", "prompt_version is 'other'"),
        ("prompt_language", "prompt_language is 'other'"),
        ("normalisation", "normalisation is 'other'"),
        ("revision", "the runs of m may not be judged together: revision is 'other'"),
        ("dtype", "the runs of m may not be judged together: dtype is 'other'"),
        ("chat", "the runs of m may not be judged together: chat is 'other'"),
    ],
)
def test_runs_that_differ_are_refused_by_what_differs_and_where(two, name, message) -> None:
    base, tuned = two.items()
    first = log(*base)
    second = log(*tuned, **{name: "other"})
    with pytest.raises(ComparisonError, match=message) as refused:
        pull(CompareConfig())
    assert first in str(refused.value)
    assert second in str(refused.value)


def test_models_may_differ_in_revision_and_template(two) -> None:
    log_all(two)
    log_all({cell._replace(model="n"): table for cell, table in two.items()}, revision="r9",
            chat="true")  # fmt: skip
    assert len(pull(CompareConfig()).cells) == 4


def test_other_items_under_one_language_are_refused_by_digest(two) -> None:
    base, tuned = two.items()
    log(*base, language_digests="amh_Ethi:1 heb_Hebr:2")
    log(*tuned, language_digests="amh_Ethi:1 heb_Hebr:3 deu_Latn:4")
    with pytest.raises(ComparisonError, match=r"items are different in heb_Hebr .*3 in .*; 2 in"):
        pull(CompareConfig())


def test_other_recipes_and_other_adapters_of_one_seed_are_refused(two) -> None:
    base, (cell, table) = two.items()
    log(*base)
    log(cell, table, recipe="40 steps")
    other = log(cell._replace(seed="1"), table, recipe="80 steps")
    with pytest.raises(ComparisonError, match=r"recipe is '80 steps' in .*; '40 steps' in"):
        pull(CompareConfig())
    mlflow.delete_run(other)
    log(cell, table, recipe="40 steps", adapter="another")
    with pytest.raises(ComparisonError, match="are of different adapters, and nothing tells them"):
        pull(CompareConfig())


def test_unfinished_runs_are_left_out_by_name_and_do_no_harm(two) -> None:
    log_all(two)
    running = log(
        RunKey("m", Condition.TUNED, "arb_Arab", "1"),
        two[RunKey("m", Condition.BASE)],
        status="RUNNING",
    )
    pulled = pull(CompareConfig())
    assert len(pulled.cells) == 2
    (omission,) = pulled.omissions
    assert omission_sentence(omission) == (
        f"Run {running} (m, tuned on arb_Arab, seed 1) is left out: it is running."
    )


def test_a_cell_may_be_spread_over_runs_and_the_newest_of_a_language_counts(two) -> None:
    (base, table), tuned = two.items()
    wrong = table.assign(correct=False)
    log(base, wrong)
    log(base, table[table["language"] != "heb_Hebr"])
    log(*tuned)
    found = read(pull(CompareConfig()))[base]
    right = found.groupby("language")["correct"].mean()
    assert right["heb_Hebr"] == 0
    assert right["amh_Ethi"] == table.groupby("language")["correct"].mean()["amh_Ethi"]
    assert len(found) == len(table)


def test_adapters_without_a_seed_are_told_by_their_digest(two) -> None:
    base, (cell, table) = two.items()
    log(*base)
    for digest in ("a" * 64, "b" * 64):
        log(cell._replace(seed=""), table, adapter=digest)
    assert [cell.seed for cell in pull(CompareConfig()).cells] == ["", "aaaaaaaa", "bbbbbbbb"]


def test_several_sources_have_to_be_chosen_from(two) -> None:
    base, (cell, table) = two.items()
    log(*base)
    log(cell, table)
    log(cell._replace(source="eng_Latn"), table)
    pulled = pull(CompareConfig())
    with pytest.raises(ComparisonError, match=r"2 sources \(arb_Arab, eng_Latn\); choose with"):
        source_of(pulled, CompareConfig())
    assert source_of(pulled, CompareConfig(source="arb_Arab")) == "arb_Arab"


def test_a_study_has_what_its_newest_run_of_a_model_and_seeds_made(two) -> None:
    base, table = next(iter(two.items()))
    old = log(base, table[table["item_id"] < "item-005"], study="s")
    ids = log_all(two, study="s")
    for cells in (old, " ".join(ids.values())):
        with mlflow.start_run():
            mlflow.set_tags(
                {"isogloss.kind": "study", "isogloss.study": "s", "isogloss.model": "m",
                 "isogloss.source": "arb_Arab", "isogloss.seeds": "0", "isogloss.cells": cells}
            )  # fmt: skip
    assert {run.info.run_id for run in pull(CompareConfig(study="s")).runs} == set(ids.values())


@pytest.mark.real
def test_compare_leaves_verdict_claims_numbers_and_report_and_is_reused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_all(study(5, seeds=1, n=40))
    run_compare(CompareConfig(source="arb_Arab"))
    said = capsys.readouterr().out
    assert "C1: " in said
    assert "C3: Both gains rise together; " in said
    found = mlflow.search_runs(
        filter_string="tags.`isogloss.kind` = 'compare'", output_format="list"
    )
    (run,) = found
    tags = run.data.tags
    assert tags["isogloss.model"] == ", ".join(f"model-{m}" for m in range(5))
    assert tags["isogloss.adapter"] == "several"
    assert tags["isogloss.verdict"] == tags["isogloss.verdict_C1"]
    assert tags["isogloss.verdict_C2"]
    metrics = run.data.metrics
    for name in ("contrast/accuracy", "baseline_slope/models", "cot_slope/models",
                 "double_difference/eng_Latn", "adjusted/baseline", "distance/p"):  # fmt: skip
        assert name in metrics
    artifacts = {item.path for item in mlflow.artifacts.list_artifacts(run_id=run.info.run_id,
                 artifact_path="report")}  # fmt: skip
    assert {"report/report.html", "report/report.md", "report/gains.csv"} <= artifacts
    run_compare(CompareConfig(source="arb_Arab"))
    assert len(mlflow.search_runs(filter_string="tags.`isogloss.kind` = 'compare'")) == 1
    log(RunKey("model-9", Condition.BASE), study(1, n=40)[RunKey("model-0", Condition.BASE)])
    run_compare(CompareConfig(source="arb_Arab"))
    assert "Model model-9 is left out: it has no tuned run" in capsys.readouterr().out


def test_a_condition_is_not_compared_with_itself(two) -> None:
    log_all(two)
    with pytest.raises(ConfigError, match="condition 'tuned' cannot be compared with itself"):
        run_compare(CompareConfig(condition="tuned", against="tuned"))


def test_all_languages_count_that_every_run_has(two) -> None:
    base, (cell, table) = two.items()
    log(*base)
    log(cell, table[table["language"] != CONTROL[0]])
    run_compare(CompareConfig())
    (run,) = mlflow.search_runs(
        filter_string="tags.`isogloss.kind` = 'compare'", output_format="list"
    )
    assert f"because m, tuned on arb_Arab, seed 0 lacks them: {CONTROL[0]}." in run.data.tags[
        "mlflow.note.content"
    ]  # fmt: skip
    assert f"gain/{RELATED[0]}" in run.data.metrics
    assert f"gain/{CONTROL[0]}" not in run.data.metrics
