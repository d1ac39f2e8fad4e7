"""The sentences on kinship: what a contrast shows, what it cannot, and why nothing is compared."""

import math

from isogloss.analysis.claims import ClaimVerdict, ClaimVerdicts
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.learning import Learning, Obstacle
from isogloss.formatting import decimal, interval_points, points
from isogloss.types import Verdict

HEADLINES: dict[Verdict | ClaimVerdict, str] = {
    Verdict.EQUIVALENT: "{relatives} gained as much as the other languages, to within ±{margin} "
    "points",
    Verdict.RELATED_GAIN_MORE: "{relatives} gained more than the other languages",
    Verdict.RELATED_GAIN_LESS: "{relatives} gained less than the other languages",
    ClaimVerdict.NO_DIFFERENCE_SEEN: "{relatives} were seen neither to gain differently from the "
    "other languages nor to gain equally",
}
CAUSE_OPEN = "which {few} cannot be told from what these languages gain from anything"
ONE_SOURCE: dict[Verdict | ClaimVerdict, str] = {
    Verdict.EQUIVALENT: "which is no verdict on kinship, since {few} it cannot be told from what "
    "these languages gain from anything",
    Verdict.RELATED_GAIN_MORE: CAUSE_OPEN,
    Verdict.RELATED_GAIN_LESS: CAUSE_OPEN,
    ClaimVerdict.NO_DIFFERENCE_SEEN: "and {few} either would be no verdict on kinship, since it "
    "cannot be told from what these languages gain from anything",
}
UNTUNED = "which says nothing of transfer, since nothing was fine-tuned"


def kinship_headline(comparison: Comparison, verdicts: ClaimVerdicts) -> str:
    """What the contrast of few sources shows, in a sentence that follows the verdict's name."""
    if verdicts.obstacle:
        return f"{obstacle_text(verdicts.obstacle, comparison.learning, comparison)}."
    different = verdicts.kinship == ClaimVerdict.DIFFERENCE_SEEN
    verdict = comparison.contrast.verdict if different else verdicts.kinship
    text = HEADLINES[verdict].format(
        relatives=f"relatives of {comparison.source_name}",
        margin=points(comparison.margin, signed=False),
    )
    if not comparison.condition.tuned:
        return f"{text}, {UNTUNED}."
    cause = ONE_SOURCE[verdict].format(few=_few_sources(comparison))
    return f"{text}, {cause} ({placebo_rank(comparison)})."


def kinship_conclusion(comparison: Comparison, verdicts: ClaimVerdicts) -> str:
    """The conclusion on C1 where the crossed design does not decide, or nothing was learnt."""
    if verdicts.obstacle:
        reason = obstacle_text(verdicts.obstacle, comparison.learning, comparison)
        return f"Nothing to compare: {reason}."
    without = (
        f"{_few_sources(comparison)} it cannot be told from what these languages gain from anything"
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


def obstacle_text(obstacle: Obstacle, learnt: Learning, comparison: Comparison) -> str:
    """Why there is nothing to compare, with the numbers."""
    before, after = (points(mean.estimate, signed=False) for mean in (learnt.before, learnt.after))
    gain = points(learnt.gain.estimate)
    chance = points(comparison.chance or math.nan, signed=False)
    margin = points(comparison.margin, signed=False)
    return {
        Obstacle.AT_CHANCE: f"accuracy is not above chance ({chance}%) before ({before}%) or after "
        f"({after}%)",
        Obstacle.EVERYONE_RIGHT: f"almost everything was right before ({before}%) and after "
        f"({after}%), which leaves no room for a gain of {margin} points",
        Obstacle.NO_GAIN: f"the mean gain of {gain} points does not differ from zero (95% interval "
        f"{interval_points(learnt.gain.interval_95)})",
        Obstacle.LARGE_MARGIN: f"the margin of {margin} points is not small beside the mean gain "
        f"of {gain} points, so that equal to within it would say little",
    }[obstacle]


def placebo_rank(comparison: Comparison) -> str:
    """The place of the contrast among those of all branches."""
    placebo = comparison.placebo
    if placebo.n == 1:
        return "no other branch here has three languages to compare it with"
    return f"number {placebo.rank} of {placebo.n} branches by size of the difference"


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
            f"those of the controls correlate by "
            f"{decimal(correlation.of_controls, 2, signed=False)} within their branches"
        )
    if correlation.control_families < contrast.n_control:
        parts.append(
            f"one control per family is best, and these {contrast.n_control} are of "
            f"{correlation.control_families} branches"
        )
    return f"{'; '.join(parts)}."


def _few_sources(comparison: Comparison) -> str:
    return "with so few sources" if comparison.double_differences else "without other sources"
