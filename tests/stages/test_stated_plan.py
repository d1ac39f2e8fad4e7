"""Whether margin and primary analysis were logged before results existed."""

from collections.abc import Iterable

import mlflow
import pytest
from logged_runs import log_runs
from synthetic_predictions import gains, tables

from isogloss.config import CompareConfig, StudyConfig
from isogloss.stages.compare import run_compare
from isogloss.stages.stated_plan import plan_tags
from isogloss.tracking.tags import PREFIX


def log_study() -> str:
    """The id of a run of study `s`, as it is when it starts."""
    config = StudyConfig.model_validate({"study": "s", "compare": {"margin": 0.05}})
    tags = {"kind": "study", "study": "s", "source": "arb_Arab"}
    with mlflow.start_run() as run:
        tags |= plan_tags(config, ["arb_Arab"])
        mlflow.set_tags({f"{PREFIX}{name}": value for name, value in tags.items()})
    return str(run.info.run_id)


def end_study(study: str, cells: Iterable[str]) -> None:
    mlflow.MlflowClient().set_tag(study, f"{PREFIX}cells", " ".join(cells))


def stated(margin: float = 0.05) -> str:
    run = mlflow.get_run(run_compare(CompareConfig(study=("s",), source="arb_Arab", margin=margin)))
    report = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/report/report.md")
    return next(line for line in report.splitlines() if "stated in advance" in line.lower())


def test_a_plan_is_stated_in_advance_if_it_was_logged_before_the_first_result() -> None:
    study = log_study()
    end_study(study, log_runs(tables(gains(0.1, 0.1), n=40), study="s").values())
    text = stated()
    assert "yes: margin and primary analysis (contrast of arb" in text
    assert "before the first result" in text
    assert "no: margin and primary analysis" in stated(margin=0.02)


def test_a_plan_after_the_results_is_not_in_advance() -> None:
    ids = log_runs(tables(gains(0.1, 0.1), n=40), study="s")
    end_study(log_study(), ids.values())
    assert "no: margin and primary analysis" in stated()


@pytest.mark.parametrize(
    ("sources", "analysis"),
    [
        (("arb_Arab",), "contrast of arb_Arab"),
        (("arb_Arab", "tur_Latn", "hin_Deva"), "contrast of arb_Arab"),
        (("arb_Arab", "heb_Hebr", "tur_Latn", "hin_Deva"), "contrast of arb_Arab"),
        (("arb_Arab", "tur_Latn", "hin_Deva", "rus_Cyrl"), "crossed design"),
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
