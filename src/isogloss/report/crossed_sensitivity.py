"""What the effect of kinship rests on, in words and tables: single sources, and the measure."""

import math
from collections.abc import Iterator

from isogloss.analysis.crossed import CrossedComparison
from isogloss.analysis.crossed_sensitivity import EffectWithout
from isogloss.formatting import decimal, interval_points, listed, p_value, points
from isogloss.languages import source_name
from isogloss.report.effect_cells import bounds
from isogloss.report.estimate_tables import MEASURES
from isogloss.report.table import Table, p_text
from isogloss.types import Interval

DIGITS = 3  # of logits and nats


def sensitivity_lines(crossed: CrossedComparison) -> Iterator[tuple[str, str]]:
    """Labelled lines beside the verdict."""
    if line := without_one_source(crossed):
        yield "Without one source", line
    if line := other_measures(crossed):
        yield "Other measures", line


def most_influential(crossed: CrossedComparison) -> EffectWithout | None:
    """The branch of sources whose omission changes the estimate most; None if none can be."""
    return max(
        crossed.without,
        key=lambda each: abs(each.effect.estimate - crossed.overall.estimate),
        default=None,
    )


def decisive_sources(crossed: CrossedComparison) -> list[str]:
    """Names of the sources without which the others have another verdict."""
    return [
        _name(each)
        for each in crossed.without
        if each.verdict is not None and each.verdict != crossed.overall.verdict
    ]


def without_one_source(crossed: CrossedComparison) -> str:
    """The effect without the most influential source, and whether the verdict needs a source."""
    most = most_influential(crossed)
    if most is None:
        return ""
    effect = most.effect
    others = [each.effect.estimate for each in crossed.without if each is not most]
    verdict = f", {most.verdict}" if most.verdict is not None else ""
    text = (
        f"{_name(most)} matters most, without it the effect is {points(effect.estimate)} points "
        f"({_interval(effect.interval_95)}p {p_value(effect.p)}{verdict})"
    )
    if others:
        text += (
            f"; without any other, {points(min(others))} to {points(max(others))} points"
            if points(min(others)) != points(max(others))
            else f"; without any other, {points(min(others))} points"
        )
    if names := decisive_sources(crossed):
        text += f". The verdict is another one without {_either(names)}"
    return f"{text}."


def other_measures(crossed: CrossedComparison) -> str:
    """The effect on measures besides accuracy, and whether it is found there too."""
    parts = [
        f"{MEASURES[measure].lower()} {decimal(effect.estimate, DIGITS)} (p {p_value(effect.p)})"
        for measure, effect in crossed.measures.items()
    ]
    return f"{'; '.join(parts)}." if parts else ""


def sensitivity_tables(crossed: CrossedComparison) -> list[Table]:
    """The effect without each source, and on other measures."""
    return [
        Table(
            "Effect of kinship without each source",
            ("Left out", "Effect of the others", "95% interval", "p", "90% interval", "Verdict"),
            [
                [
                    f"{_name(each)} ({each.branch})",
                    points(each.effect.estimate),
                    bounds(each.effect.interval_95),
                    p_text(each.effect.p),
                    bounds(each.effect.interval_90),
                    each.verdict or "none",
                ]
                for each in crossed.without
            ],
            "In points. Sources of one branch are left out together; their relatives stay targets.",
        ),
        Table(
            "Effect of kinship on other measures",
            ("Measure", "Effect", "95% interval", "p", "90% interval"),
            [
                [
                    MEASURES[measure],
                    decimal(effect.estimate, DIGITS),
                    bounds(effect.interval_95, 1, DIGITS),
                    p_text(effect.p),
                    bounds(effect.interval_90, 1, DIGITS),
                ]
                for measure, effect in crossed.measures.items()
            ],
            "Over all sources. An effect on accuracy alone may be one of which answer an adapter "
            "prefers where it does not know.",
        ),
    ]


def _name(each: EffectWithout) -> str:
    return listed([source_name(code) for code in each.sources])


def _either(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _interval(interval: Interval) -> str:
    if all(map(math.isinf, interval)):
        return ""
    return f"95% interval {interval_points(interval)}, "
