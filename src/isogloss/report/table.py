"""A table of the report as text."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from isogloss.analysis.gains import LanguageGain
from isogloss.formatting import p_value


class Table(NamedTuple):
    """Headings and rows as text; the first column holds labels, the others numbers or `words`.

    Cells whose text is in `bold` stand out.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: bool = False
    bold: Collection[str] = ()

    @property
    def key(self) -> str:
        """The id of the table in the page."""
        return self.title.lower().replace(" ", "-")


def p_text(p: float) -> str:
    """A p value for a cell; empty where there is none."""
    return "" if math.isnan(p) else p_value(p).removeprefix("= ")


def language_name(row: LanguageGain) -> str:
    """Name and code of a language, as tables show it."""
    return f"{row.name} ({row.code})"
