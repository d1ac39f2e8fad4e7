"""The public Python interface, which `import isogloss` exposes.

`compare` judges a DataFrame of results, without MLflow and torch. `run` runs a stage from its
configuration, as its entry point does, and `load_predictions` reads what a run recorded; both use
the MLflow store that `MLFLOW_TRACKING_URI` names.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib import import_module
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, overload

import pandas as pd
from pydantic import BaseModel

from isogloss.analysis.adjusted_contrast import Covariates
from isogloss.analysis.claims import ClaimVerdict, claim_verdicts
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.comparison import compare as compare_tables
from isogloss.analysis.crossed import CrossedComparison
from isogloss.analysis.frames import contrasts_frame, gains_frame, published_frame
from isogloss.analysis.results_frame import tables_of_results
from isogloss.config import (
    CompareConfig,
    EvaluateConfig,
    FinetuneConfig,
    ImportConfig,
    MainConfig,
    PlanConfig,
    RegisterConfig,
    StudyConfig,
    TuneConfig,
)
from isogloss.errors import ConfigError
from isogloss.languages import pooled_source
from isogloss.report.content import report_content
from isogloss.report.note import note
from isogloss.report.omissions import omission_sentence
from isogloss.report.page import figures, write
from isogloss.report.verdict import summary
from isogloss.stats.contrasts import Contrast
from isogloss.types import Condition, Missing, Verdict
from isogloss.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAGES: dict[type[BaseModel], tuple[str, str]] = {
    CompareConfig: ("stages.compare", "run_compare"),
    EvaluateConfig: ("stages.evaluate_adapters", "run_evaluate"),
    FinetuneConfig: ("stages.finetune", "run_finetune"),
    ImportConfig: ("stages.import_results", "run_import"),
    MainConfig: ("launchers.studies", "run_main"),
    PlanConfig: ("stages.plan", "run_plan"),
    RegisterConfig: ("stages.register", "run_register"),
    StudyConfig: ("launchers.studies", "run_study"),
    TuneConfig: ("stages.tune", "run_tune"),
}


@dataclass(frozen=True)
class ComparisonResult:
    """The result of `isogloss.compare`: numbers, tables, figures and the report.

    Accuracies and gains are fractions in the numbers, and points (times 100) in text. `comparison`
    holds every number as nested dataclasses.
    """

    comparison: Comparison

    @property
    def verdict(self) -> Verdict | ClaimVerdict:
        """What the crossed design shows of kinship; the contrast of few sources is described."""
        return claim_verdicts(self.comparison).kinship

    @property
    def contrast(self) -> Contrast:
        """The relatedness contrast of `source` in accuracy: estimate, tests, intervals."""
        return self.comparison.contrast

    @property
    def crossed(self) -> CrossedComparison | None:
        """The effect of kinship over all sources; None with fewer than three branches of them."""
        return self.comparison.crossed

    @property
    def claims(self) -> dict[str, str]:
        """The verdicts on C1 (kinship), C2 (weak baselines) and C3 (chain of thought)."""
        return claim_verdicts(self.comparison).by_claim

    @cached_property
    def gains(self) -> pd.DataFrame:
        """One row per condition, model and language; the columns of gains.csv."""
        return gains_frame(self.comparison)

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """One row per estimate, the primary contrast first; the columns of contrasts.csv."""
        return contrasts_frame(self.comparison)

    @cached_property
    def published(self) -> pd.DataFrame:
        """The published analysis beside ours; the columns of published.csv."""
        return published_frame(self.comparison)

    @property
    def omissions(self) -> list[str]:
        """What the comparison leaves out, one sentence each."""
        return [omission_sentence(omission) for omission in self.comparison.omissions]

    @property
    def summary(self) -> str:
        """The verdict, what it rests on and the claims, as text."""
        return note(self.comparison)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables of the report by title, as text."""
        content = report_content(self.comparison, [], {}, [])
        return {
            table.title: pd.DataFrame(table.rows, columns=list(table.headings))
            for table in (*content.crossed, content.published, *content.numbers)
        }

    @cached_property
    def figures(self) -> "dict[str, Figure]":
        """The figures of the report by name, drawn with matplotlib."""
        return figures(self.comparison)

    def report(self, path: str | PathLike[str]) -> Path:
        """Write the report and return the path of its HTML page.

        A path that ends in .html gets the page alone, which contains its figures. Any other path is
        a folder, which also gets the Markdown version, the figures and the CSV files.
        """
        target = Path(path)
        provenance = {
            "versions": ", ".join(
                [
                    f"isogloss {__version__}",
                    *(f"{name} {version(name)}" for name in ("numpy", "scipy", "pandas")),
                ]
            )
        }
        if target.suffix != ".html":
            return write(self.comparison, target, provenance, [])
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copyfile(write(self.comparison, Path(folder), provenance, []), target)
        return target

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, its numbers, and the table of contrasts."""
        text = summary(self.comparison)
        table = self.tables["Relatedness contrast"].to_html(index=False)
        return (
            f"<p><strong>{escape(text.verdict)}</strong>: {escape(text.headline)}</p>"
            f"<p>{escape(text.numbers)}</p><p>{escape(text.next_steps)}</p>"
            f"<pre>{escape(text.command)}</pre>{table}"
        )


def compare(
    frame: pd.DataFrame,
    *,
    source: str,
    condition: Condition | str = Condition.TUNED,
    against: Condition | str = Condition.BASE,
    branch: str | None = None,
    margin: float | str = 0.03,
    seed: int = 0,
    missing: Missing | str = Missing.REFUSE,
    covariates: Covariates | None = None,
) -> ComparisonResult:
    """Test whether languages gain more from a related source than others, from answers alone.

    With results of several sources, kinship is tested over all of them (the crossed design), and
    the contrast of `source` stands beside it.

    `frame` has one row per model, condition, language and item, with the columns

    - `model`: its name;
    - `condition`: base, tuned, base+cot or tuned+cot;
    - `language`: a FLORES-200 code such as heb_Hebr;
    - `item_id`: the same in every language and run;
    - `correct`: true or false (1 or 0).

    Optional columns are `source` (the language tuned on; default: the parameter), `seed`
    (replicates of a condition), `passage_id` (the cluster of items; default: item_id), `task`,
    `format`, and those of predictions.parquet: `answer`, `valid`, `forced`, `greedy`,
    `gold_logprob`, `tokens`, `words`, `choice_logprobs`. Other columns are ignored.

    `condition` is compared with `against`. Languages of `branch` (default: that of the source) are
    the related ones. `margin` is the smallest difference in gains that matters, stated in advance:
    a fraction, or a percentage of the mean gain such as "20%". `seed` is that of random
    permutations. `missing="drop"` leaves items that some run has no answer to out of all runs; by
    default they are refused. `covariates` holds values of languages that the contrast is adjusted
    for too, by name and language code.

    Raises DataError for a frame that cannot be used, ConfigError for a parameter or a language code
    that is unknown, ComparisonError for runs that cannot be compared with one another.
    """
    condition, against = _condition("condition", condition), _condition("against", against)
    if condition == against:
        raise ConfigError(f"condition {condition.value!r} cannot be compared with itself.")
    source = pooled_source(source)
    return ComparisonResult(
        compare_tables(
            tables_of_results(frame, source),
            source=source,
            margin=margin,
            branch=branch,
            condition=condition,
            against=against,
            seed=seed,
            missing=_missing(missing),
            covariates=covariates,
        )
    )


def _missing(value: str) -> Missing:
    try:
        return Missing(value)
    except ValueError:
        raise ConfigError(
            f"`missing` must be one of {', '.join(Missing)} but is {value!r}."
        ) from None


def _condition(name: str, value: str) -> Condition:
    try:
        return Condition(value)
    except ValueError:
        raise ConfigError(
            f"`{name}` must be one of {', '.join(Condition)} but is {value!r}."
        ) from None


@overload
def run(config: EvaluateConfig | ImportConfig) -> list[str]: ...
@overload
def run(config: CompareConfig | FinetuneConfig | MainConfig | PlanConfig) -> str: ...
@overload
def run(config: RegisterConfig | StudyConfig | TuneConfig) -> str: ...


def run(config: BaseModel) -> str | list[str]:
    """Run a stage as its entry point does, and return the id of the run that holds the result.

    A finished run with the same result is reused. EvaluateConfig and ImportConfig return a list:
    one id per adapter evaluated, or per table imported. MainConfig and StudyConfig return the id of
    the compare run, RegisterConfig the URI of the model version.
    """
    if type(config) not in STAGES:
        names = ", ".join(stage.__name__ for stage in STAGES)
        raise ConfigError(f"expected a configuration ({names}) but got {type(config).__name__}.")
    from isogloss.tracking.store import ensure_store  # imports MLflow

    ensure_store()
    module, name = STAGES[type(config)]
    stage: Callable[[BaseModel], str | list[str]] = getattr(
        import_module(f"isogloss.{module}"), name
    )
    return stage(config)


def load_predictions(run_id: str) -> pd.DataFrame:
    """The predictions of an evaluate run, one row per item and language.

    The columns are those of predictions.parquet (docs/reference/runs.md). Raises ComparisonError if
    the run has none.
    """
    from isogloss.tracking import read_predictions  # imports MLflow

    return read_predictions(run_id)
