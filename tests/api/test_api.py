"""The public interface: what it exposes, that it imports nothing heavy, that it judges frames."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import mlflow
import numpy as np
import pandas as pd
import pytest
from synthetic_predictions import CONTROL, crossed_tables, gains, study, tables

import isogloss
from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import compare as compare_tables
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.analysis.score_matrix import RunKey
from isogloss.api import STAGES
from isogloss.config import CompareConfig, ImportConfig
from isogloss.types import Condition, Verdict

ROOT = Path(__file__).parents[2]
NEGATIVE_CONTROL = "negative_control/sib200_two_systems.csv.gz"
GAINS = {"arb_Arab": 0.15, "ary_Arab": 0.1, **gains(0.1, 0.09)}


def frame_of(runs: dict[RunKey, pd.DataFrame]) -> pd.DataFrame:
    """One frame of results, with a column per part of the key."""
    return pd.concat(
        [table.assign(**run._asdict()) for run, table in runs.items()], ignore_index=True
    )


@pytest.fixture
def frame() -> pd.DataFrame:
    """One model in two conditions, with the five columns that are required."""
    columns = ["model", "condition", "language", "item_id", "correct"]
    return frame_of(tables(GAINS, n=40))[columns]


def test_every_public_name_resolves_and_is_listed() -> None:
    assert set(isogloss.__all__) <= set(dir(isogloss))
    for name in isogloss.__all__:
        assert getattr(isogloss, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'comparison'"):
        isogloss.comparison  # noqa: B018


def test_all_is_what_the_documentation_lists() -> None:
    text = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    _, _, listed = text.partition("## Everything in the package")
    listed, _, _ = listed.partition("\n## ")
    names = {
        name.strip("` ")
        for row in listed.splitlines()
        if row.startswith("| `")
        for name in row.split("|")[1].split(",")
    }
    assert names == set(isogloss.__all__)


def loaded_by(code: str) -> set[str]:
    """Top-level modules in memory after `code` runs in a fresh process."""
    script = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", script],
        check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    return set(result.stdout.split())


def test_importing_the_package_loads_no_dependency() -> None:
    loaded = loaded_by("import isogloss; isogloss.ConfigError, isogloss.Condition.TUNED")
    assert not {"torch", "mlflow", "pandas", "pydantic", "matplotlib", "scipy"} & loaded
    # The enums need numpy's types.
    assert "numpy" not in loaded_by("import isogloss")


def test_judging_a_frame_loads_neither_torch_nor_mlflow() -> None:
    loaded = loaded_by("import isogloss; isogloss.compare")
    assert "pandas" in loaded
    assert not {"torch", "transformers", "peft", "mlflow", "optuna"} & loaded


def test_a_frame_is_judged_as_the_tables_that_it_consists_of() -> None:
    runs = study(2, seeds=2, n=40)
    expected = compare_tables(runs, source="arb_Arab", margin=0.05)
    shuffled = frame_of(runs).sample(frac=1, random_state=0)
    result = isogloss.compare(shuffled, source="arb_Arab", margin=0.05)
    assert repr(result.comparison) == repr(expected)  # NaN differs from itself
    assert result.verdict == claim_verdicts(expected).kinship
    assert result.contrast == expected.contrast
    assert len(result.contrasts) > 5
    assert result.contrasts["estimate"][0] == expected.contrast.estimate
    rows = result.gains.query("condition == 'tuned' and model == 'model-0'")
    assert set(rows["code"]) == {row.code for row in expected.languages}


def test_results_of_several_sources_are_judged_by_the_crossed_design() -> None:
    result = isogloss.compare(frame_of(crossed_tables(0.1, n=40)), source="tur_Latn")
    assert result.crossed is not None
    assert result.verdict == result.claims["C1"] == Verdict.RELATED_GAIN_MORE
    assert result.crossed.overall.estimate == pytest.approx(0.1, abs=0.03)
    assert len(result.tables["Effect of kinship by source"]) == 4


def test_parameters_reach_the_comparison(frame: pd.DataFrame) -> None:
    wide = isogloss.compare(frame, source="eng_Latn", branch="Semitic", margin=0.2, seed=3)
    assert wide.comparison.branch == "Semitic"
    assert wide.contrast.n_related == 5  # the varieties of Arabic count once
    assert wide.contrast.margin == 0.2
    assert wide.contrast.verdict == Verdict.EQUIVALENT
    assert wide.verdict == "nothing to compare"  # the margin exceeds the mean gain
    swapped = isogloss.compare(frame, source="arb_Arab", condition="base", against="tuned")
    plain = isogloss.compare(frame, source="arb_Arab")
    assert swapped.contrast.estimate == pytest.approx(-plain.contrast.estimate)
    assert swapped.comparison.change == "no fine-tuning on Standard Arabic"


def test_own_covariates_are_adjusted_for(frame: pd.DataFrame) -> None:
    codes = sorted(set(frame["language"]))
    own = {"speakers": {code: float(place**2 % 7) for place, code in enumerate(codes)}}
    contrasts = isogloss.compare(frame, source="arb_Arab", covariates=own).contrasts
    adjusted = contrasts.query("kind == 'adjusted' and detail == 'speakers'")
    assert np.isfinite(adjusted["estimate"].item())


def test_optional_columns_have_defaults(frame: pd.DataFrame) -> None:
    result = isogloss.compare(frame, source="arb_Arab")
    row = result.comparison.languages[0]
    assert row.passages == row.n == 40  # each item is its own passage
    assert result.comparison.task == "unnamed task"
    assert result.comparison.format == "unknown"
    named = frame.assign(task="mine", format="cloze", passage_id=frame["item_id"].str[:-1])
    comparison = isogloss.compare(named, source="arb_Arab").comparison
    assert (comparison.task, comparison.format) == ("mine", "cloze")
    assert comparison.languages[0].passages == 4


def test_the_source_of_a_tuned_row_defaults_to_the_parameter_and_of_others_is_ignored(
    frame: pd.DataFrame,
) -> None:
    plain = isogloss.compare(frame, source="arb_Arab").comparison
    for source in ("arb_Arab", np.nan, ""):
        named = isogloss.compare(frame.assign(source=source), source="arb_Arab").comparison
        assert repr(named) == repr(plain)
    with pytest.raises(isogloss.ComparisonError, match="no tuned run"):
        isogloss.compare(frame.assign(source="eng_Latn"), source="arb_Arab")


def test_seeds_read_from_a_csv_file_with_gaps_are_whole_numbers(frame: pd.DataFrame) -> None:
    tuned = frame["condition"] == Condition.TUNED
    seeds = pd.concat(
        [frame.assign(seed=np.where(tuned, 0.0, np.nan)), frame[tuned].assign(seed=1.0)]
    )
    (model,) = isogloss.compare(seeds, source="arb_Arab").comparison.models
    assert model.seeds == ("0", "1")


def test_columns_with_gaps_are_ignored_in_that_run(frame: pd.DataFrame) -> None:
    partial = frame.assign(gold_logprob=-1.0, extra="x")
    partial.loc[3, "gold_logprob"] = np.nan
    result = isogloss.compare(partial, source="arb_Arab")
    assert "gold_logprob" not in result.comparison.overall.contrasts


BAD_FRAMES = {
    "lack the columns item_id, correct; expected model, condition,": lambda f: f.drop(
        columns=["item_id", "correct"]
    ),
    "must be a pandas DataFrame but got list": lambda f: f.to_dict("records"),
    "results have no rows": lambda f: f[:0],
    "unknown language 'heb'": lambda f: f.replace({"language": {"heb_Hebr": "heb"}}),
    r"condition 'tunned' in rows 720, 721, 722 and 717 more is unknown; expected one of base, "
    r"tuned, base\+cot, tuned\+cot": lambda f: f.assign(
        condition=f["condition"].map(lambda value: value.replace("tuned", "tunned"))
    ),
    "predictions of m, base have more than one row for amh_Ethi item-000": lambda f: pd.concat(
        [f, f[(f["language"] == "amh_Ethi") & (f["item_id"] == "item-000")][:1]]
    ),
    r"`correct` must be true or false \(1 or 0\) but is 'yes' in row": lambda f: f.assign(
        correct=["yes", *f["correct"][1:]]
    ),
    "no value of `language` in row 2": lambda f: f.assign(
        language=[*f["language"][:2], None, *f["language"][3:]]
    ),
    "`choice_logprobs` must hold lists of numbers but is": lambda f: f.assign(
        choice_logprobs="[-1, -2]"
    ),
    "the runs cover different items: .* in m, base, not in m, tuned on arb_Arab": lambda f: f[:-1],
}


@pytest.mark.parametrize("message", BAD_FRAMES)
def test_a_frame_that_cannot_be_used_raises_one_sentence(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(isogloss.IsoglossError, match=message) as raised:
        isogloss.compare(BAD_FRAMES[message](frame), source="arb_Arab")
    assert str(raised.value).endswith(".")


def test_unknown_parameters_raise(frame: pd.DataFrame) -> None:
    with pytest.raises(isogloss.ConfigError, match="`condition` must be one of base, tuned"):
        isogloss.compare(frame, source="arb_Arab", condition="fine-tuned")
    with pytest.raises(isogloss.ConfigError, match="'tuned' cannot be compared with itself"):
        isogloss.compare(frame, source="arb_Arab", against="tuned")
    with pytest.raises(isogloss.ConfigError, match="Arabic"):
        isogloss.compare(frame, source="Arabic")
    with pytest.raises(isogloss.ConfigError, match="`margin` must be positive"):
        isogloss.compare(frame, source="arb_Arab", margin=-0.1)


def test_the_result_has_tables_figures_and_text(frame: pd.DataFrame) -> None:
    result = isogloss.compare(frame, source="arb_Arab")
    assert result.tables["Relatedness contrast"].shape[0] == 3  # accuracy, log-odds and ability
    assert "Gains by language" in result.tables
    assert next(iter(result.tables)) == "Published analysis beside ours"
    assert set(result.published["agreement"].dropna()) <= {"agree", "in part", "disagree"}
    assert {"gains", "contrast", "before_after"} <= set(result.figures)
    assert result.verdict.value in result.summary.lower()
    assert set(result.claims) == {"C1", "C2", "C3"}
    assert result.claims["C3"] == "not tested"
    html = result._repr_html_()
    assert "<table" in html
    assert "<script" not in html


def test_omissions_are_sentences(frame: pd.DataFrame) -> None:
    rest = frame[~((frame["language"] == CONTROL[0]) & (frame["condition"] == "tuned"))]
    result = isogloss.compare(rest, source="arb_Arab")
    assert any(CONTROL[0] in sentence for sentence in result.omissions)


def test_names_from_a_frame_are_escaped_in_a_notebook(frame: pd.DataFrame) -> None:
    hostile = frame.assign(task="<script>alert(1)</script>")
    assert "<script" not in isogloss.compare(hostile, source="arb_Arab")._repr_html_()


def test_a_report_is_a_page_or_a_folder(frame: pd.DataFrame, tmp_path: Path) -> None:
    result = isogloss.compare(frame, source="arb_Arab")
    page = result.report(tmp_path / "new" / "page.html")
    assert page == tmp_path / "new" / "page.html"
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    assert "<!doctype html>" in page.read_text(encoding="utf-8")
    folder = result.report(tmp_path / "folder").parent
    assert {"report.html", "report.md", "gains.csv", "contrasts.csv", "published.csv"} <= {
        path.name for path in folder.iterdir()
    }


@pytest.mark.real
def test_the_negative_control_is_judged_as_the_stage_judges_it(
    tmp_path: Path,
) -> None:
    """Two systems that were not tuned on Arabic, on SIB-200: a contrast of 11 points."""
    path = Path(os.environ.get("ISOGLOSS_TEST_DATA", "")) / NEGATIVE_CONTROL
    if not path.is_file():
        pytest.skip("no real data (ISOGLOSS_TEST_DATA)")
    frame = pd.read_csv(path).assign(task="sib200", format="letter")
    (tmp_path / "answers.csv").write_bytes(gzip.decompress(path.read_bytes()))
    isogloss.run(
        ImportConfig(
            path=str(tmp_path / "answers.csv"), task="sib200", format="letter", study="control"
        )
    )
    run_id = isogloss.run(CompareConfig(study="control", source="arb_Arab"))
    stage = mlflow.get_run(run_id)
    result = isogloss.compare(frame, source="arb_Arab")
    assert result.contrast.estimate == pytest.approx(0.110, abs=0.001)
    assert result.contrast.permutation.p == pytest.approx(0.044, abs=0.002)
    assert stage.data.tags["isogloss.verdict"] == result.verdict
    assert stage.data.metrics == pytest.approx(comparison_metrics(result.comparison), nan_ok=True)
    # With one source, the published regression is misled as the contrast is.
    related = result.published.set_index("term").loc["related"]
    assert related["estimate"] == pytest.approx(0.112, abs=0.001)
    assert related["p"] == pytest.approx(0.014, abs=0.001)
    assert related["agreement"] == "agree"


def test_every_stage_returns_the_ids_of_its_runs() -> None:
    for config, (module, name) in STAGES.items():
        stage = getattr(import_module(f"isogloss.{module}"), name)
        many = config in (isogloss.EvaluateConfig, isogloss.ImportConfig)
        assert get_type_hints(stage)["return"] == (list[str] if many else str)


def test_a_stage_runs_and_its_predictions_are_loaded(
    model_folder: Callable[[str], Path],
) -> None:
    config = isogloss.EvaluateConfig(
        model=str(model_folder("gemma3")), dtype="float32", languages=("heb_Hebr",), limit=2
    )
    (run_id,) = isogloss.run(config)
    assert mlflow.get_run(run_id).data.tags["isogloss.kind"] == "evaluate"
    predictions = isogloss.load_predictions(run_id)
    assert list(predictions["language"]) == ["heb_Hebr", "heb_Hebr"]
    plan_id = isogloss.run(isogloss.PlanConfig())
    with pytest.raises(isogloss.ComparisonError, match=plan_id):
        isogloss.load_predictions(plan_id)


def test_only_a_configuration_can_be_run() -> None:
    with pytest.raises(isogloss.ConfigError, match=r"expected a configuration .* but got dict"):
        isogloss.run({"model": "m"})
