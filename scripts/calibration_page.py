"""The page docs/explanation/calibration.md, from the rows of calibration.csv."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scripts.crossed_simulation import CrossedPopulation
from scripts.simulation import Design

TITLES = {
    "rejects": (
        "False positives",
        "Share of studies with p ≤ 0.05, in percent; target 3 to 7 (with Holm's adjustment at "
        "most 7).",
    ),
    "covers": (
        "Coverage",
        "Share of 95% intervals that contain the true value, in percent; target 93 to 97.",
    ),
    "equivalent at margin": (
        "False claims of equivalence",
        "Share of studies called equivalent although the true contrast is 3.0 points, which is the "
        "margin, in percent; target at most 5.",
    ),
    "bias": ("Bias of slopes", "Median estimate minus the slope of the population."),
    "share": ("Not estimated", "Share of studies, in percent."),
    "power": (
        "Power at a true contrast of six points",
        "Detected, and predicted by `plan` from the mean squared spread, in percent; spread and "
        "minimum detectable effect in points.",
    ),
}
CROSSED_TITLES = {
    "crossed rejects": (
        "False positives",
        "Share of studies with p ≤ 0.05, in percent; target 3 to 7. `crossed` is the test of "
        "matchings; `one source` the contrast of the first source alone, and `double difference` "
        "that against the second source, both by permutation of languages. A verdict of kinship is "
        "`related gain more` or `related gain less`.",
    ),
    "crossed covers": (
        "Coverage",
        "Share of 95% intervals that contain the true effect, in percent; target 93 to 97. "
        "`matchings` is the interval of the verdict, `clustered errors` the one beside it.",
    ),
    "crossed equivalent": (
        "False claims of equivalence",
        "Share of studies called equivalent although the true effect is 3.0 points, which is the "
        "margin, in percent; target at most 5. Two 90% intervals must lie within the margin: that "
        "of the test of matchings and that with clustered errors.",
    ),
    "crossed power": (
        "Power",
        "Share of studies with p ≤ 0.05 at a true effect of three and of six points, in percent; "
        "`predicted` by `plan` from the spread of pilots of that design.",
    ),
}


CHECK_TITLES = {
    "gates": (
        "Nothing to compare",
        "Share of studies in which the gate before every claim says that there is nothing to "
        "compare, in percent; target at most 5 where 11 points were learnt, at least 93 elsewhere.",
    ),
    "levels": (
        "Equal gains of several models",
        "Whether tuning gains as much as chain of thought (claim C3), in six models of one study, "
        "adjusted by Holm's method, in percent. `some model has a verdict` is the share of studies "
        "in which tuning or chain of thought gains more in any model though both gain the same; "
        "target at most 7. `some model is called equal` is the share in which any model is called "
        "equal though the difference is the margin; target at most 5.",
    ),
    "checks reject": (
        "Checks of one source",
        "Share of studies without an effect of kinship in which the contrast of one source is "
        "below 0.05, in percent; target at most 7. Languages, or whole families, are permuted; "
        "`rank among branches` counts the share of branches that differ as much.",
    ),
}


def page(
    rows: pd.DataFrame,
    designs: Mapping[str, Design],
    populations: Mapping[str, CrossedPopulation],
    gates: Mapping[str, Design],
    checks: Mapping[str, CrossedPopulation],
) -> str:
    """The page: the designs, then two tables per question, one row per design; crossed designs."""
    studies = int(rows[rows["name"] == "Welch, accuracy"]["n"].max())
    lines = [*_introduction(studies), *_settings(designs, Design())]
    for kind, (title, explanation) in TITLES.items():
        for sound, suffix in ((True, ""), (False, ", assumptions violated")):
            part = rows[(rows["kind"] == kind) & (rows["sound"] == sound)]
            if len(part):
                lines += ["", f"## {title}{suffix}", "", explanation, "", *_table(part, kind)]
    lines += _crossed(rows, populations)
    lines += _checks(rows, gates, checks)
    return "\n".join(lines) + "\n"


def _crossed(rows: pd.DataFrame, populations: Mapping[str, CrossedPopulation]) -> list[str]:
    """The section on crossed designs."""
    crossed = rows[rows["kind"].isin(CROSSED_TITLES)]
    counts = sorted(set(crossed[crossed["kind"] == "crossed rejects"]["n"]))
    numbers = " or ".join(f"{n:,}" for n in counts)
    error = 100 * np.sqrt(0.05 * 0.95 / min(counts))
    lines = [
        "",
        "## Crossed designs",
        "",
        f"Several sources, each of a branch of its own, and every adapter evaluated on all "
        f"targets (scripts/calibrate_crossed.py). Each design is simulated {numbers} times without "
        f"an effect of kinship and half as many times with an effect of three and of six points. "
        f"Every study has new sources, targets, adapters and items. The Monte Carlo standard error "
        f"of a rate of 5% is {error:.1f} points, that of a power of 75% "
        f"{100 * np.sqrt(0.75 * 0.25 / (min(counts) / 2)):.1f}. "
        f"`python -m scripts.calibrate --crossed NAME` repeats one design.",
        "",
        "Unless a row says otherwise, a design has 6 sources with 4 relatives each, 200 items on "
        "108 passages and four choices. What targets start from and gain, whatever the source, "
        "correlates by 0.5 within branches; an adapter's effect on one target by 0.3. "
        "`CrossedPopulation` in scripts/crossed_simulation.py describes all settings. At the guess "
        "floor a relative gains points only where its accuracy is above chance, so the effect in "
        "points depends on the targets drawn. The error of the test, clustered by source, allows "
        "for that, and for kinship that helps from some sources and harms from others, as far as "
        "six sources show how their effects vary.",
        *_settings(populations, CrossedPopulation()),
    ]
    for kind, (title, explanation) in CROSSED_TITLES.items():
        part = crossed[crossed["kind"] == kind]
        lines += ["", f"### {title}", "", explanation, "", *_table(part, kind)]
    return lines


def _checks(
    rows: pd.DataFrame, gates: Mapping[str, Design], checks: Mapping[str, CrossedPopulation]
) -> list[str]:
    """The section on gates, levels of models, and checks of one source."""
    lines = [
        "",
        "## Gates and checks",
        "",
        "What stands before and beside the verdicts (scripts/calibrate_checks.py). Gates and "
        "levels of models change the default design at the top of this page, checks of one source "
        "the default crossed design: it has three relatives, and there are 39 other branches of "
        "three languages, each a family of its own. `python -m scripts.calibrate --checks` repeats "
        "them.",
        *_settings(gates, Design()),
        *_settings(checks, CrossedPopulation()),
    ]
    for kind, (title, explanation) in CHECK_TITLES.items():
        part = rows[rows["kind"] == kind]
        lines += ["", f"### {title}", "", explanation, "", *_table(part, kind)]
    return lines


def _introduction(studies: int) -> list[str]:
    error = 100 * np.sqrt(0.05 * 0.95 / studies)
    return [
        "# Calibration",
        "",
        f"Each design is simulated {studies:,} times without an effect of kinship, and half as "
        f"many times for equivalence, power and tests of one language (`make calibrate`, "
        f"scripts/calibrate.py). Every study has new languages, items and seeds. Items are the "
        f"same in all languages of a study; answers before and after tuning share the difficulty "
        f"of the item. The Monte Carlo standard error of a rate of 5% is {error:.1f} points. "
        f"Values outside the target range, before rounding, are **bold**. calibration.csv has the "
        f"same numbers with their errors.",
        "",
        "Unless a row says otherwise, a design has 4 related and 12 control languages, 900 items "
        "on 488 passages, four choices, one model and one seed; the gains of languages, in "
        "log-odds, have a standard deviation of 0.25. `Design` in scripts/simulation.py describes "
        "all settings.",
    ]


def _settings(
    designs: Mapping[str, Design] | Mapping[str, CrossedPopulation],
    default: Design | CrossedPopulation,
) -> list[str]:
    """A table of what distinguishes each design from the default."""
    lines = ["", "| design | settings |", "|---|---|"]
    for name, design in designs.items():
        changes = [
            f"{field} {_setting(value)}"
            for field, value in vars(design).items()
            if value != getattr(default, field)
        ]
        lines.append(f"| {name} | {', '.join(changes) or 'default'} |")
    return lines


def _setting(value: float | tuple[int, ...]) -> str:
    if isinstance(value, tuple) and len(value) > 9 and len(set(value)) == 1:
        return f"{value[0]} in each of {len(value)} branches"
    if isinstance(value, tuple):
        return " + ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _table(part: pd.DataFrame, kind: str) -> list[str]:
    names = list(dict.fromkeys(part["name"]))
    texts = {
        (design, name): _text(float(value), kind, bool(in_range))
        for design, name, value, in_range in zip(
            part["design"], part["name"], part["value"], part["in_range"], strict=True
        )
    }
    lines = [f"| design | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for design in dict.fromkeys(part["design"]):
        cells = [texts.get((design, name), "") for name in names]
        lines.append(f"| {design} | {' | '.join(cells)} |")
    return lines


def _text(value: float, kind: str, in_range: bool) -> str:
    if kind == "bias":
        return f"{value:+.2f}".replace("-", "−")
    text = f"{100 * value:.1f}"
    return text if in_range else f"**{text}**"
