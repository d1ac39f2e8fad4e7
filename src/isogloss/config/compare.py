"""Parameters of the entry point `compare`."""

from typing import Annotated, Literal

from pydantic import Field

from isogloss.config import fields
from isogloss.config.words import NoneWord, separated, text
from isogloss.types import Condition, Missing


class CompareConfig(fields.Config):
    """Test whether related languages gain more.

    Compares two conditions of evaluate runs: relatedness contrast, claims, figures and a report.
    """

    study: Annotated[
        tuple[Annotated[str, text("the name of a study")], ...] | None,
        separated(),
        NoneWord("none"),
        Field(description="studies to compare, separated by commas; none: runs of any study"),
    ] = None
    experiment: Annotated[
        tuple[Annotated[str, text("the name of an experiment")], ...] | None,
        separated(),
        NoneWord("auto"),
        Field(
            description="MLflow experiments to search, separated by commas; auto: the one "
            "`mlflow run` or the environment names, else isogloss; isogloss and Default are "
            "searched together"
        ),
    ] = None
    tags: Annotated[
        tuple[Annotated[str, text("NAME=VALUE")], ...] | None,
        separated(),
        NoneWord("none"),
        Field(
            description="use only runs with these tags: NAME=VALUE, separated by commas; or none"
        ),
    ] = None
    runs: Annotated[
        tuple[Annotated[str, text("the id of a run")], ...] | None,
        separated(),
        NoneWord("auto"),
        Field(
            description="use exactly these evaluate runs: ids separated by commas; auto: search by "
            "study, experiment and tags"
        ),
    ] = None
    without: Annotated[
        tuple[Annotated[str, text("the id of a run")], ...] | None,
        separated(),
        NoneWord("none"),
        Field(
            description="leave out these evaluate runs, such as one that cannot be compared with "
            "the others: ids separated by commas; or none"
        ),
    ] = None
    condition: Annotated[
        Literal[Condition.TUNED, Condition.BASE_COT, Condition.TUNED_COT],
        Field(description="condition whose gain is measured: tuned, base+cot or tuned+cot"),
    ] = Condition.TUNED
    against: Annotated[
        Literal[Condition.BASE, Condition.BASE_COT, Condition.TUNED],
        Field(description="condition it is compared with: base, base+cot or tuned"),
    ] = Condition.BASE
    source: Annotated[
        fields.SourceName | None,
        NoneWord("auto"),
        Field(
            description="language fine-tuned on, or several pooled ones joined by +, whose "
            "relatives the single-source contrast compares with controls; auto: the only one of "
            "the runs, else the first of `sources` or of the study"
        ),
    ] = None
    sources: Annotated[
        tuple[fields.SourceName, ...] | None,
        separated(),
        NoneWord("auto"),
        Field(
            description="languages fine-tuned on, separated by commas: runs of other adapters are "
            "left out; with several, the crossed design tests kinship over all of them; auto: all "
            "that the runs have"
        ),
    ] = None
    branch: fields.Branch = None
    margin: fields.Margin = 0.03
    missing: Annotated[
        Missing,
        Field(
            description="items that some runs have no answer to: refuse them, or drop them from "
            "all runs, which the report says"
        ),
    ] = Missing.REFUSE
    covariates: fields.Covariates = None
    allow_versions: fields.AllowVersions = False
