"""Checks of a single-source contrast: placebo branches, whole branches and families, and floor.

Sentences for the summary, and tables.
"""

import math
from collections.abc import Iterator, Sequence

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.placebo import FEWEST_TARGETS
from isogloss.analysis.score_matrix import first_few
from isogloss.analysis.unit_permutations import PermutedUnit
from isogloss.formatting import interval_points, listed, p_value, points
from isogloss.languages import language
from isogloss.predictions.positions import other_ways_to_ask
from isogloss.report.evidence import contrast_evidence, contrast_interval
from isogloss.report.table import Table, p_text
from isogloss.stats.permutation import ALPHA
from isogloss.types import Interval

ORDINALS = {1: "st", 2: "nd", 3: "rd"}
PLURALS = {
    PermutedUnit.LANGUAGE: "languages",
    PermutedUnit.BRANCH: "branches",
    PermutedUnit.FAMILY: "families",
}
MOST_NAMES = 12  # languages named in a sentence


def check_lines(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Label and sentence of each check."""
    yield "Placebo branches", _placebo(comparison)
    if whole := _whole_units(comparison):
        yield "Whole branches, families", whole
    if left_out := _left_out(comparison):
        yield "Floor and ceiling", left_out


def check_tables(comparison: Comparison) -> list[Table]:
    """Placebo branches, units permuted, and the contrast without floor and ceiling."""
    return [_placebo_table(comparison), _unit_table(comparison), _informative_table(comparison)]


def one_option_line(comparison: Comparison) -> str:
    """The runs that answer with one option, whatever the question, and what to try."""
    runs = first_few(f"{run} answers {own}" for run, own in comparison.one_position.items())
    return (
        f"{runs}, whatever the question; accuracy then says at which place the right answers are; "
        f"try {other_ways_to_ask(comparison.format)}."
    )


def ordinal(number: int) -> str:
    """A number as 1st, 2nd, 3rd, 4th."""
    teens = 10 <= number % 100 <= 20
    return f"{number}{'th' if teens else ORDINALS.get(number % 10, 'th')}"


def placebo_rank(comparison: Comparison) -> str:
    """The place of the relatives of the source among all branches, as `4th of 18`."""
    return f"{ordinal(comparison.placebo.rank)} of {comparison.placebo.n}"


def _placebo(comparison: Comparison) -> str:
    placebo = comparison.placebo
    if not placebo.others:
        return (
            f"none; no other branch has {FEWEST_TARGETS} or more of these languages, so nothing "
            f"shows how much branches differ without any help from the source."
        )
    if len(placebo.others) == 1:
        (other,) = placebo.others
        return (
            f"with {other.branch}, the only other branch of {FEWEST_TARGETS} or more languages, in "
            f"the place of the relatives p {p_value(other.p)}; the difference of "
            f"{comparison.branch} is the {'larger' if placebo.rank == 1 else 'smaller'} one."
        )
    significant = sum(row.p <= ALPHA for row in placebo.others)
    return (
        f"with each other branch of {FEWEST_TARGETS} or more languages in the place of the "
        f"relatives, {significant} of {len(placebo.others)} have p ≤ {ALPHA}, though none holds "
        f"relatives of the source; by size of the difference {comparison.branch} is "
        f"{placebo_rank(comparison)} branches."
    )


def _whole_units(comparison: Comparison) -> str:
    tests = comparison.unit_permutations
    parts = [
        f"whole {PLURALS[row.unit]}, p {p_value(row.p)} (lowest possible {p_text(row.lowest_p)})"
        for row in tests.rows
        if row.unit != PermutedUnit.LANGUAGE
    ]
    if not parts:
        return ""
    alone = len(tests.alone)
    text = (
        f"permuting {'; permuting '.join(parts)}. Languages of a branch tend to gain together, "
        f"which a permutation of single languages ignores"
    )
    if not alone:
        return f"{text}."
    if alone == 1:
        return f"{text}; 1 language is the only one of its family."
    return f"{text}; {alone} languages are the only ones of their families."


def _left_out(comparison: Comparison) -> str:
    result = comparison.informative
    few = set(result.too_few_items)
    parts = []
    for codes, is_there, end in (
        (result.floor or (), "not shown to be above chance, either before or after", "chance"),
        (result.ceiling, "at 100% or too close to tell, both before and after", "100%"),
    ):
        if there := [code for code in codes if code not in few]:
            parts.append(f"{_counted(there)} {is_there} ({_names(there)})")
        if untold := [code for code in codes if code in few]:
            several = "1 language has" if len(untold) == 1 else f"{len(untold)} languages have"
            parts.append(f"{several} too few items to tell accuracy from {end} ({_names(untold)})")
    if not parts:
        return ""
    text = listed(parts)
    them = "it" if len(result.left_out) == 1 else "them"
    if result.contrast is None:
        return f"{text}; without {them} no contrast is possible."
    return (
        f"{text}; without {them} the contrast is {points(result.contrast.estimate)} points "
        f"({contrast_evidence(result.contrast)})."
    )


def _interval(interval: Interval) -> str:
    """An interval in points; none where there are too few units for one."""
    return interval_points(interval) if math.isfinite(interval.low) else "none"


def _counted(codes: Sequence[str]) -> str:
    return "1 language is" if len(codes) == 1 else f"{len(codes)} languages are"


def _names(codes: Sequence[str]) -> str:
    names = [language(code).name for code in codes[:MOST_NAMES]]
    more = len(codes) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _placebo_table(comparison: Comparison) -> Table:
    placebo = comparison.placebo
    own = f"{comparison.branch} (relatives)"
    rows = [
        [
            own if row.is_source else row.branch,
            str(len(row.languages)),
            points(row.estimate),
            _interval(row.interval),
            p_text(row.p),
        ]
        for row in placebo.rows
    ]
    return Table(
        "Placebo branches",
        ("Branch", "Languages", "Difference, points", "95% interval", "p"),
        rows if placebo.others else [],
        f"Mean gain of a branch minus that of all other related and control languages; branches "
        f"of {FEWEST_TARGETS} or more. By size of the difference, the relatives of "
        f"{comparison.source_name} are {placebo_rank(comparison)}; {placebo.n_significant} of "
        f"{placebo.n} branches have p ≤ {ALPHA}.",
    )


def _unit_table(comparison: Comparison) -> Table:
    tests = comparison.unit_permutations
    alone = f" Alone in the family: {_names(tests.alone)}." if tests.alone else ""
    return Table(
        "Whole branches and families",
        ("Permuted", "Related", "Control", "Difference, points", "95% interval", "p", "Lowest p"),
        [
            [
                PLURALS[row.unit].capitalize(),
                str(row.n_related),
                str(row.n_control),
                points(row.estimate),
                _interval(row.interval),
                p_text(row.p),
                p_text(row.lowest_p),
            ]
            for row in tests.rows
        ],
        f"Each unit counts once, with the mean gain of its languages. Lowest p: the lowest that "
        f"this number of units allows.{alone}",
    )


def _informative_table(comparison: Comparison) -> Table:
    result = comparison.informative
    compared = [("All languages", comparison.contrast)]
    if result.contrast is not None:
        compared.append((f"Without {len(result.left_out)}", result.contrast))
    return Table(
        "Without floor and ceiling",
        ("Languages", "Related", "Control", "Difference, points", "95% interval", "p"),
        [
            [
                label,
                str(contrast.n_related),
                str(contrast.n_control),
                points(contrast.estimate),
                contrast_interval(contrast),
                p_text(contrast.permutation.p),
            ]
            for label, contrast in compared
            if result.contrast is not None
        ],
        f"Left out: {_names(result.left_out)}. Where accuracy is not shown to be above chance, or "
        f"below 100%, either before or after, nothing is shown about transfer.",
    )
