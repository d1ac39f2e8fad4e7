"""Parameters of the entry point `plan`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from isogloss.config import fields
from isogloss.config.numbers import Count, PositiveNumber
from isogloss.config.words import NoneWord, separated, text
from isogloss.stats.margins import is_percentage, share_of_gain

NumberOfLanguages = Annotated[int, Field(ge=2, le=1000)]
NumberOfSources = Annotated[int, Field(ge=3, le=40)]


class PlanConfig(fields.Config):
    """Compute what a design can show before you pay for it: power and the width of intervals.

    Gains are fractions of accuracy (0.03 is three points). See docs/how-to/plan-a-study.md.
    """

    related: Annotated[
        NumberOfLanguages | None,
        NoneWord("auto"),
        Field(description="number of related languages; auto: 4, or as many as `like` has"),
    ] = None
    control: Annotated[
        tuple[NumberOfLanguages, ...],
        separated(),
        Field(description="numbers of control languages to try, separated by commas"),
    ] = (4, 8, 12, 16, 20)
    items: Annotated[
        Count | None,
        NoneWord("auto"),
        Field(description="items per language; auto: 900, or as many as `like` has"),
    ] = None
    passages: Annotated[
        Count | None,
        NoneWord("auto"),
        Field(description="passages per language; auto: 488 per 900 items, as in Belebele"),
    ] = None
    seeds: Annotated[
        Count | None,
        NoneWord("auto"),
        Field(description="number of seeds, one adapter each; auto: 1, or as many as `like` has"),
    ] = None
    spread: Annotated[
        float,
        Field(ge=0, lt=1, description="standard deviation of true gains within a group"),
    ] = 0.04
    seed_spread: Annotated[
        float,
        Field(ge=0, lt=1, description="standard deviation of a language's gain between seeds"),
    ] = 0.02
    gain: Annotated[float, Field(gt=-1, lt=1, description="expected mean gain")] = 0.2
    discordant: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="share of items answered correctly in one condition but not in the other",
        ),
    ] = 0.4
    passage_correlation: Annotated[
        float,
        Field(
            ge=0, le=1, description="correlation between the changes of two items of one passage"
        ),
    ] = 0.1
    margin: Annotated[
        fields.Margin,
        Field(
            description="equivalence margin of the study: a fraction (0.03 is three points), or a "
            "percentage of `gain` such as 20%"
        ),
    ] = 0.03
    effect: Annotated[
        float, Field(gt=0, lt=1, description="true contrast for which power is reported")
    ] = 0.1
    like: Annotated[
        Annotated[str, text("the id of a compare run")] | None,
        NoneWord("none"),
        Field(
            description="id of the compare run of a pilot study, whose estimates replace spread, "
            "gain, discordant, passages and passage_correlation; or none"
        ),
    ] = None
    sources: Annotated[
        tuple[NumberOfSources, ...] | None,
        separated(),
        NoneWord("auto"),
        Field(
            description="numbers of source languages to try, for a crossed design with `related` "
            "relatives of each among the targets; auto: a single source against `control` "
            "languages, or any number with `propose`"
        ),
    ] = None
    branch_spread: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="crossed design: standard deviation of an adapter's effect on all targets "
            "of one branch",
        ),
    ] = 0.01
    propose: Annotated[
        Literal["probe", "sib200", "belebele", "global_mmlu", "afrixnli", "files"] | None,
        NoneWord("none"),
        Field(
            description="task from whose languages sources and targets of a crossed design are "
            "proposed, within `budget` or `budget_hours`; or none"
        ),
    ] = None
    data_dir: fields.DataDir = None
    languages: Annotated[
        fields.Languages, Field(description="languages to propose from; all: those of the task")
    ] = None
    budget: Annotated[
        Count | None,
        NoneWord("none"),
        Field(
            description="number of evaluations that the proposed design may take, each of one "
            "adapter or the base model on one target; or none"
        ),
    ] = None
    budget_hours: Annotated[
        PositiveNumber | None,
        NoneWord("none"),
        Field(
            description="hours on `machine` that the proposed design may take; needs `parameters`; "
            "or none"
        ),
    ] = None
    parameters: Annotated[
        PositiveNumber | None,
        NoneWord("none"),
        Field(
            description="parameters of the model that are active per token, such as 4.3e9, for "
            "the hours of a crossed design; none: no hours"
        ),
    ] = None
    tokens: Annotated[Count, Field(description="tokens per item, for hours")] = 400
    training_items: Annotated[
        Count, Field(description="items that an adapter is trained on, for hours")
    ] = 960
    machine: Annotated[
        Literal["h100", "here"], Field(description="hours of an H100, or of this machine")
    ] = "h100"
    study: fields.StudyName = None
    experiment: fields.Experiment = None

    @model_validator(mode="after")
    def _budget(self) -> Self:
        """A proposal needs a budget, and a budget in hours the size of the model."""
        if self.propose and not (self.budget or self.budget_hours):
            raise PydanticCustomError(
                "no_budget", "propose needs a number of evaluations (budget) or of budget_hours"
            )
        if self.budget_hours and not self.parameters:
            raise PydanticCustomError(
                "no_parameters", "budget_hours needs the number of parameters of the model"
            )
        return self

    @model_validator(mode="after")
    def _margin(self) -> Self:
        """A percentage needs an expected gain: not zero, and not that of a pilot."""
        if is_percentage(self.margin) and (self.like or not self.gain):
            raise PydanticCustomError(
                "margin_of_no_gain",
                "margin {margin} is relative to `gain`, which {why}; give a fraction instead",
                {
                    "margin": self.margin,
                    "why": "`like` replaces" if self.like else "is zero",
                },
            )
        return self

    @property
    def margin_fraction(self) -> float:
        """The margin as a fraction; a percentage is one of the expected gain."""
        if is_percentage(self.margin):
            return share_of_gain(str(self.margin)) * abs(self.gain)
        return float(self.margin)
