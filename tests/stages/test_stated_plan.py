"""Whether margin and primary analysis were logged before results existed."""

from collections.abc import Iterable, Sequence

import mlflow
import pytest
from logged_runs import log_runs
from synthetic_predictions import crossed_tables, gains, tables

from isogloss.config import CompareConfig, StudyConfig
from isogloss.stages.compare import run_compare
from isogloss.stages.stated_plan import plan_tags
from isogloss.tracking.tags import PREFIX

pytestmark = pytest.mark.usefixtures("no_figures")

SOURCES = ("arb_Arab", "hin_Deva", "swh_Latn", "tur_Latn")
CROSSED = {key: rows for key, rows in crossed_tables(n=20).items() if key.source != "swh_Latn"}


def log_study(
    study: str = "s", sources: Sequence[str] = ("arb_Arab",), margin: float | str = 0.05
) -> str:
    """The id of a run of a study, as it is when it starts."""
    config = StudyConfig.model_validate({"study": study, "compare": {"margin": margin}})
    tags = {"kind": "study", "study": study, "source": sources[0], "sources": ",".join(sources)}
    with mlflow.start_run() as run:
        tags |= plan_tags(config, sources)
        mlflow.set_tags({f"{PREFIX}{name}": value for name, value in tags.items()})
    return str(run.info.run_id)


def end_study(study: str, cells: Iterable[str]) -> None:
    mlflow.MlflowClient().set_tag(study, f"{PREFIX}cells", " ".join(cells))


def stated(margin: float | str = 0.05, studies: tuple[str, ...] = ("s",)) -> str:
    config = CompareConfig(study=studies, source="arb_Arab", margin=margin)
    run = mlflow.get_run(run_compare(config))
    report = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/report/report.md")
    return next(line for line in report.splitlines() if "stated in advance" in line.lower())


def test_a_plan_is_stated_in_advance_if_it_was_logged_before_the_first_result() -> None:
    study = log_study()
    end_study(study, log_runs(tables(gains(0.1, 0.1), n=40), study="s").values())
    text = stated()
    assert "yes: margin and primary analysis (contrast of arb" in text
    assert "before the first result" in text


def test_another_margin_than_the_stated_one_is_named_with_both() -> None:
    study = log_study()
    end_study(study, log_runs(tables(gains(0.1, 0.1), n=40), study="s").values())
    text = stated(margin=0.02)
    assert "no: a margin of 5 points was stated, but one of 2 points is used (" in text
    assert "the plan was logged on" in text


def test_a_percentage_is_stated_in_advance_and_its_value_is_shown_beside() -> None:
    study = log_study(margin="20 %")
    assert mlflow.get_run(study).data.tags[f"{PREFIX}stated_margin"] == "20%"
    end_study(study, log_runs(tables(gains(0.3, 0.3), n=40), study="s").values())
    config = CompareConfig(study=("s",), source="arb_Arab", margin="20%")
    run = mlflow.get_run(run_compare(config))
    report = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/report/report.md")
    assert "yes: margin and primary analysis (contrast of arb" in report
    assert report.count("20% of the mean gain = 6.0 points (+30.0 points over 16 languages") == 2
    assert run.data.params["margin"] == "20%"
    assert "a margin of 20% of the mean gain was stated, but one of 2 points is used" in stated(
        margin=0.02
    )


def test_a_crossed_design_that_lost_a_source_is_named_with_the_source() -> None:
    study = log_study(sources=SOURCES)
    end_study(study, log_runs(CROSSED, study="s").values())
    assert (
        "no: the crossed design was stated, but the contrast of arb_Arab is shown, since there is "
        "no result of swh_Latn (the plan was logged on"
    ) in stated().replace("\\", "")


def test_a_plan_after_the_results_is_too_late() -> None:
    ids = log_runs(tables(gains(0.1, 0.1), n=40), study="s")
    end_study(log_study(), ids.values())
    text = stated()
    assert "no: margin and primary analysis were logged on" in text
    assert "after the first result" in text


def test_without_a_plan_nothing_was_logged() -> None:
    log_runs(tables(gains(0.1, 0.1), n=40), study="s")
    assert "no: margin and primary analysis were not logged before" in stated()


def test_each_of_several_studies_is_judged_by_its_own_results() -> None:
    early, later, unplanned = (
        {key._replace(model=model): rows for key, rows in tables(gains(0.1, 0.1), n=40).items()}
        for model in ("a", "b", "c")
    )
    end_study(log_study("u"), log_runs(early, study="u").values())
    end_study(log_study("v"), log_runs(later, study="v").values())
    log_runs(unplanned, study="w")
    text = stated(studies=("u", "v", "w"))
    assert "study u: yes: margin" in text
    assert "; study v: yes: margin" in text
    assert "; study w: no: margin and primary analysis were not logged" in text


@pytest.mark.parametrize(
    ("sources", "analysis"),
    [
        (("arb_Arab",), "contrast of arb_Arab"),
        (("arb_Arab", "tur_Latn", "hin_Deva"), "contrast of arb_Arab"),
        (("arb_Arab", "heb_Hebr", "tur_Latn", "hin_Deva"), "contrast of arb_Arab"),
        (("arb_Arab", "tur_Latn", "hin_Deva", "rus_Cyrl"), "crossed design"),
        (("arb_Arab", "tur_Latn", "hin_Deva", "arb_Arab+hin_Deva"), "contrast of arb_Arab"),
    ],
)
def test_sources_of_four_branches_are_a_crossed_design(
    sources: tuple[str, ...], analysis: str
) -> None:
    config = StudyConfig.model_validate({"study": "s"})
    tags = plan_tags(config, sources)
    assert tags == {
        "stated_margin": "0.03",
        "stated_branch": "auto",
        "primary_analysis": analysis,
    }
