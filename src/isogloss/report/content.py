"""What a report says, in the order of the page; page and Markdown twin render it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from isogloss.analysis.comparison import Comparison
from isogloss.report.checks import check_tables
from isogloss.report.claims import ClaimText, claim_texts
from isogloss.report.crossed import crossed_tables
from isogloss.report.estimate_tables import estimate_tables
from isogloss.report.explanations import CAPTIONS, CROSSED_FIGURES, HOW_TO_READ
from isogloss.report.language_tables import language_tables, names_table
from isogloss.report.model_order import by_baseline
from isogloss.report.omissions import omission_sentence
from isogloss.report.published import beside_table, published_tables
from isogloss.report.table import Table
from isogloss.report.verdict import Summary, summary


class Content(NamedTuple):
    """The texts and tables of a report.

    `crossed` are the figures (captions by name) and tables of the crossed design, empty with a
    single source. `published` shows the published analysis beside ours; `numbers` and `texts` are
    tables.
    """

    title: str
    summary: Summary
    crossed_captions: Mapping[str, str]
    crossed: Sequence[Table]
    claims: Sequence[ClaimText]
    published: Table
    captions: Mapping[str, str]
    numbers: Sequence[Table]
    omissions: Sequence[str]
    texts: Sequence[Table]
    how_to_read: Mapping[str, str]


def report_content(
    comparison: Comparison,
    figures: Sequence[str],
    provenance: Mapping[str, str],
    runs: Sequence[Sequence[str]],
    run_id: str = "",
) -> Content:
    """The content of a report with those figures; see `page.write`."""
    comparison = by_baseline(comparison)
    names = names_table(comparison)
    crossed = crossed_tables(comparison)
    numbers = [*([names] if names else []), *estimate_tables(comparison)]
    numbers += check_tables(comparison)
    numbers += [*language_tables(comparison), *published_tables(comparison)]
    return Content(
        title=_title(comparison),
        summary=summary(comparison, run_id),
        crossed_captions={name: CAPTIONS[name] for name in figures if name in CROSSED_FIGURES},
        crossed=[table for table in crossed if table.rows],
        claims=claim_texts(comparison),
        published=beside_table(comparison),
        captions={name: CAPTIONS[name] for name in figures if name not in CROSSED_FIGURES},
        numbers=[table for table in numbers if table.rows],
        omissions=[omission_sentence(omission) for omission in comparison.omissions],
        texts=[
            *([Table("Runs used", runs[0], runs[1:], words=True)] if runs else []),
            Table("Provenance", ("Property", "Value"), list(provenance.items()), words=True),
        ],
        how_to_read=HOW_TO_READ,
    )


def _title(comparison: Comparison) -> str:
    if crossed := comparison.crossed:
        return (
            f"Does the gain from fine-tuning follow kinship, over {len(crossed.sources)} sources?"
        )
    return f"Does the gain with {comparison.change} follow kinship?"
