"""Parameters of the entry point `plan`."""

from typing import Annotated

from pydantic import Field, PositiveInt

from isogloss.config import fields
from isogloss.config.words import NoneWord, separated, text

NumberOfLanguages = Annotated[int, Field(ge=2, le=1000)]


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
        PositiveInt | None,
        NoneWord("auto"),
        Field(description="items per language; auto: 900, or as many as `like` has"),
    ] = None
    passages: Annotated[
        PositiveInt | None,
        NoneWord("auto"),
        Field(description="passages per language; auto: 488 per 900 items, as in Belebele"),
    ] = None
    seeds: Annotated[
        PositiveInt | None,
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
    margin: fields.Margin = 0.03
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
    study: fields.StudyName = None
    experiment: fields.Experiment = None
