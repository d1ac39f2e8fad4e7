"""The sentences on kinship: what a contrast shows, what it cannot, and why nothing is compared."""

import math
from typing import NamedTuple

from isogloss.analysis.claims import ClaimVerdict, ClaimVerdicts
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.learning import Grounds, Obstacle
from isogloss.formatting import decimal, interval_points, points, sentence
from isogloss.report.checks import placebo_rank
from isogloss.types import Verdict

HEADLINES: dict[Verdict | ClaimVerdict, str] = {
    Verdict.EQUIVALENT: "{relatives} gained as much as the other languages, to within ±{margin} "
    "points",
    Verdict.RELATED_GAIN_MORE: "{relatives} gained more than the other languages",
    Verdict.RELATED_GAIN_LESS: "{relatives} gained less than the other languages",
    ClaimVerdict.NO_DIFFERENCE_SEEN: "these runs show neither that {relatives} gained differently "
    "from the other languages nor that they gained equally",
}


class Parts(NamedTuple):
    """What has a gain of its own, in the plural, and the preposition before its name."""

    name: str
    preposition: str


SOURCES, MODELS = Parts("sources", "from"), Parts("models", "in")
UNTUNED = "It says nothing of transfer, since nothing was fine-tuned."


def kinship_headline(comparison: Comparison, verdicts: ClaimVerdicts) -> str:
    """One sentence on what the contrast of few sources shows; it follows the verdict's name."""
    if verdicts.kinship_grounds:
        return f"{grounds_text(verdicts.kinship_grounds, comparison)}."
    different = verdicts.kinship == ClaimVerdict.DIFFERENCE_SEEN
    verdict = comparison.contrast.verdict if different else verdicts.kinship
    text = HEADLINES[verdict].format(
        relatives=f"relatives of {comparison.source_name}",
        margin=points(comparison.margin, signed=False),
    )
    return f"{text}."


def kinship_caveat(comparison: Comparison, verdicts: ClaimVerdicts) -> str:
    """One sentence on what the contrast of few sources cannot show; empty without a contrast."""
    if verdicts.kinship_grounds:
        return ""
    if not comparison.condition.tuned:
        return UNTUNED
    return (
        f"{sentence(_few_sources(comparison))} this is no verdict on kinship: it is not known "
        f"whether these languages would gain as much from any source."
    )


def kinship_conclusion(comparison: Comparison, verdicts: ClaimVerdicts) -> str:
    """The conclusion on C1 where the crossed design does not decide, or nothing was learnt."""
    if verdicts.kinship_grounds:
        return f"Nothing to compare: {grounds_text(verdicts.kinship_grounds, comparison)}."
    without = (
        f"{_few_sources(comparison)} it is not known whether these languages would gain as much "
        f"from any source"
        if comparison.condition.tuned
        else "it says nothing of transfer, since nothing was fine-tuned"
    )
    return {
        ClaimVerdict.DIFFERENCE_SEEN: "A difference between these groups of languages was seen; "
        f"{without}.",
        ClaimVerdict.NO_DIFFERENCE_SEEN: "No difference between these groups of languages was "
        f"seen, and it was not shown that they gain equally; {without}.",
        Verdict.EQUIVALENT: "These groups of languages gained equally, to within "
        f"±{points(comparison.margin, signed=False)} points; {without}.",
    }[verdicts.kinship]


def grounds_text(grounds: Grounds, comparison: Comparison, parts: Parts = SOURCES) -> str:
    """Why there is nothing to compare, with the numbers of the gain that decided."""
    learnt, tests = grounds.learnt, grounds.tests
    several, label = tests > 1, learnt.label
    before, after = (points(mean.estimate, signed=False) for mean in (learnt.before, learnt.after))
    seen = f"{before}%" if before == after else f"{before}% before and {after}% after"
    gain = f"{points(learnt.gain.estimate)} points"
    chance = points(comparison.chance or math.nan, signed=False)
    margin = points(comparison.margin, signed=False)
    interval = interval_points(learnt.gain.adjusted_interval(tests))
    adjusted = f", adjusted for {tests} {parts.name}" if several else ""
    gains = (
        f"the mean gains from {grounds.affected} of {tests} sources (the largest {gain}, from "
        f"{label})"
        if several
        else f"the mean gain of {gain}"
    )
    text = {
        Obstacle.AT_CHANCE: f"accuracy is not shown to be above chance ({chance}%), neither before "
        f"({before}%) nor after ({after}%)",
        Obstacle.TOO_FEW_ITEMS: f"too few items to tell {seen} from chance ({chance}%)",
        Obstacle.EVERYONE_RIGHT: f"almost everything was right before ({before}%) and after "
        f"({after}%), which leaves no room for a gain of {margin} points",
        Obstacle.NO_GAIN: f"the mean gain of {gain} does not differ from zero (95% interval "
        f"{interval}{adjusted})",
        Obstacle.LARGE_MARGIN: f"the margin of {margin} points is not small beside {gains}, so "
        f"that equal to within it would say little",
        Obstacle.FEW_SOURCES: f"something was learnt from only {tests - grounds.affected} of the "
        f"{tests} sources that have relatives, and equal gains from sources that taught nothing "
        f"say nothing",
    }[grounds.obstacle]
    if not several or grounds.obstacle in (Obstacle.LARGE_MARGIN, Obstacle.FEW_SOURCES):
        return text
    return (
        f"none of {tests} {parts.name} has a gain to compare: {parts.preposition} {label}, {text}"
    )


def placebo_sentence(comparison: Comparison) -> str:
    """The place of the contrast among those of all branches."""
    if not comparison.placebo.others:
        return "No other branch here has three languages to compare it with."
    return (
        f"{comparison.branch} is {placebo_rank(comparison)} branches by the size of this "
        "difference."
    )


def family_line(comparison: Comparison) -> str:
    """The correlation within families at which the verdict falls, and that of the controls."""
    correlation, contrast = comparison.family_correlation, comparison.contrast
    parts = []
    if contrast.verdict == Verdict.INCONCLUSIVE:
        parts.append("correlation within families would only widen the interval")
    elif correlation.falls_at is None:
        parts.append("no correlation within families would change this result")
    else:
        parts.append(
            f"this result falls if gains correlate by "
            f"{decimal(correlation.falls_at, 2, signed=False)} or more within families, which the "
            f"test takes to be zero"
        )
    if math.isfinite(correlation.of_controls):
        parts.append(
            f"gains of the controls correlate by "
            f"{decimal(correlation.of_controls, 2, signed=False)} within their branches"
        )
    if correlation.control_families < contrast.n_control:
        parts.append(
            f"one control per family is best, and these {contrast.n_control} are of "
            f"{correlation.control_families} branches"
        )
    return f"{'; '.join(parts)}."


def _few_sources(comparison: Comparison) -> str:
    return "with so few sources" if comparison.other_sources else "without other sources"
