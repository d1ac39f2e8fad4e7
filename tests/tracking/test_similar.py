"""Misspelled runs, studies and experiments: what is meant, and where a search has looked."""

import mlflow
import pytest
from logged_runs import log_run, log_runs, log_study
from synthetic_predictions import BASE, TUNED, gains, tables

from isogloss.config import CompareConfig, FinetuneConfig
from isogloss.errors import ComparisonError, ConfigError, IsoglossError, ModelError
from isogloss.registry.lookup import model_uri
from isogloss.stages.collect_runs import collect_runs
from isogloss.stages.plan_pilots import read_crossed_pilot, read_pilot
from isogloss.stages.recipe_by_name import load_recipe
from isogloss.stages.search_runs import search_runs
from isogloss.tracking import RunKind
from isogloss.tracking.similar import similar_experiments, similar_runs

KINDS = (RunKind.EVALUATE, RunKind.FINETUNE, RunKind.TUNE, RunKind.COMPARE)


def log(kind: RunKind, name: str) -> str:
    """A finished run of a kind, by its id."""
    with mlflow.start_run(run_name=name) as run:
        mlflow.set_tag("isogloss.kind", kind)
    return str(run.info.run_id)


def swapped(text: str) -> str:
    """The text with its third and fourth character the other way round, or another third one."""
    third = text[3] if text[3] != text[2] else ("0" if text[2] != "0" else "1")
    return text[:2] + third + text[2] + text[4:]


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_with_a_mistake_or_cut_off_and_a_name_mean_the_run(kind: RunKind) -> None:
    run_id = log(kind, f"{kind} of Swahili")
    others = [log(other, f"{other} of Turkish") for other in KINDS]
    meant = f"; did you mean the {kind} run {run_id} ({kind} of Swahili)?"
    for text in (swapped(run_id), run_id[:8], run_id[:-1], run_id.upper()[:12]):
        assert similar_runs(text, kind) == meant, text
    assert run_id in similar_runs(f"{kind} of Swahilli", kind)
    assert similar_runs("nothing of the kind", kind) == "."
    assert similar_runs(run_id[:3], kind) == "."
    other_kind = KINDS[KINDS.index(kind) - 1]
    assert similar_runs(run_id, other_kind) == "."
    assert len(others) == len(KINDS)


@pytest.mark.parametrize(
    ("kind", "use", "error"),
    [
        (RunKind.EVALUATE, lambda name: search_runs(CompareConfig(runs=name)), ComparisonError),
        (RunKind.EVALUATE, lambda name: search_runs(CompareConfig(without=name)), ComparisonError),
        (RunKind.FINETUNE, model_uri, ModelError),
        (RunKind.TUNE, lambda name: load_recipe(name, FinetuneConfig()), ConfigError),
        (RunKind.COMPARE, read_pilot, ComparisonError),
        (RunKind.COMPARE, read_crossed_pilot, ComparisonError),
    ],
    ids=["runs", "without", "adapter", "recipe", "like", "like, crossed"],
)
def test_every_parameter_that_takes_a_run_says_which_may_be_meant(
    kind: RunKind, use: "object", error: type[IsoglossError]
) -> None:
    run_id = log(kind, "the run")
    with pytest.raises(error) as raised:
        use(swapped(run_id))  # type: ignore[operator]
    assert str(raised.value).endswith(f"; did you mean the {kind} run {run_id} (the run)?")
    with pytest.raises(error) as raised:
        use("f" * 32)  # type: ignore[operator]
    assert str(raised.value).endswith(".")


def test_an_experiment_that_is_not_there_names_the_one_meant_or_all() -> None:
    mlflow.set_experiment("semitic")
    assert similar_experiments("semitc") == "; did you mean 'semitic'?"
    ending = similar_experiments("quite another")
    assert ending.startswith(f"; MLflow at {mlflow.get_tracking_uri()} has ")
    assert "'semitic'" in ending
    assert "'Default'" in ending
    with pytest.raises(ComparisonError, match=r"no experiment 'semitc'; did you mean 'semitic'\?"):
        search_runs(CompareConfig(experiment="semitc"))


def test_a_comparison_that_finds_nothing_says_where_it_has_looked() -> None:
    two = tables(gains(0.1, 0.05), n=4)
    log_runs(two, study="demo")
    log_study([log_run(BASE, two[BASE], study="paper", fingerprint="p")], study="paper")
    mlflow.set_experiment("elsewhere")
    uri = mlflow.get_tracking_uri()
    with pytest.raises(ComparisonError) as raised:
        collect_runs(CompareConfig())
    assert str(raised.value) == (
        "the experiment has no finished evaluate run; searched the experiment 'elsewhere' of "
        f"MLflow at {uri}, which has no study; the experiment 'Default' has evaluate runs too "
        "(set experiment)."
    )
    with pytest.raises(ComparisonError) as raised:
        collect_runs(CompareConfig(experiment="Default", study="dmeo"))
    assert str(raised.value) == (
        "study 'dmeo' has no finished evaluate run; searched the experiment 'Default' of MLflow "
        f"at {uri}, which has the studies 'paper', 'demo'; did you mean 'demo'?"
    )
    with pytest.raises(ComparisonError, match=r"study 'papr' has no .* did you mean 'paper'\?$"):
        collect_runs(CompareConfig(experiment="Default", study="demo,papr"))
    with pytest.raises(ComparisonError, match=r"with tags isogloss.model=x; searched the experim"):
        collect_runs(CompareConfig(experiment="Default", tags="isogloss.model=x"))


def test_a_run_that_blocks_a_comparison_is_left_out_as_the_message_says() -> None:
    two = tables(gains(0.1, 0.05), n=4)
    ids = log_runs(two)
    blocking = log_run(TUNED._replace(seed="1"), two[TUNED], dtype="bfloat16")
    with pytest.raises(ComparisonError) as raised:
        collect_runs(CompareConfig())
    assert f"Leave out what does not belong, such as without={blocking}, name a" in str(
        raised.value
    )
    collected = collect_runs(CompareConfig(without=blocking))
    assert {run.info.run_id for run in collected.runs} == set(ids.values())
    with pytest.raises(ComparisonError, match="is not the id of a run that would be compared"):
        collect_runs(CompareConfig(runs=",".join(ids.values()), without=blocking))
