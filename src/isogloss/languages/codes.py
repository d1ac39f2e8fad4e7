"""Languages by the codes of other standards: ISO 639-1, ISO 639-3 and BCP 47.

other_codes.csv holds codes that are not the first part of a FLORES-200 code. The code of a
macrolanguage means the standard variety to which CLDR equates it (`ar` is `arb_Arab`); `ps` is the
only Pashto of the table. Several languages in a row mean that the code is ambiguous, none that the
region writes the language in a script which the table lacks.
"""

import csv
import re
from functools import cache
from importlib.resources import files

from isogloss.languages import Language, table

FLORES = re.compile(r"([a-z]{3})[-_]([a-z]{4})", re.IGNORECASE)
TAG = re.compile(
    r"(?P<code>[a-z]{2,3})([-_](?P<script>[a-z]{4}))?([-_](?P<region>[a-z]{2}))?", re.IGNORECASE
)
# A region may mean the dialect spoken there or Standard Arabic as it is written there.
ARABIC = ("ar", "ara", "arb")


@cache
def languages_of(text: str) -> tuple[str, ...]:
    """FLORES-200 codes that a code may mean: one, several if it is ambiguous, none if unknown.

    Case and the separator (`-` or `_`) do not matter: `arb_Arab`, `ARB-ARAB`, `ara`, `ar`, `zh-TW`,
    `zh_Hant`. Without a script, a language written in several is ambiguous, apart from those that
    Belebele also has in Latin transcription.
    """
    if (flores := FLORES.fullmatch(text)) and (code := _joined(*flores.groups())) in table():
        return (code,)
    tag = TAG.fullmatch(text)
    if tag is None:
        return ()
    base = tag["code"].lower()
    rows = [row for row in table().values() if row.code[:3] == base]
    if not rows:
        rows = [table()[code] for code in other_codes().get(base, ())]
    if tag["script"]:
        codes = {_joined(row.code[:3], tag["script"]) for row in rows}
        return tuple(sorted(codes & table().keys()))
    if tag["region"]:
        whole = f"{base}-{tag['region'].upper()}"
        if whole in other_codes():
            return other_codes()[whole]
        if base in ARABIC:
            return tuple(
                row.code
                for row in table().values()
                if "arb_Arab" in (row.code, row.variety_of) and not _is_transcription(row)
            )
    return tuple(row.code for row in rows if not _is_transcription(row))


def _joined(code: str, script: str) -> str:
    return f"{code.lower()}_{script.title()}"


def _is_transcription(row: Language) -> bool:
    """Whether the row is a language in Latin letters whose own row has another script."""
    return (
        row.script == "Latin" and row.variety_of is not None and row.variety_of[:3] == row.code[:3]
    )


@cache
def other_codes() -> dict[str, tuple[str, ...]]:
    """The rows of other_codes.csv: FLORES-200 codes by ISO 639 code, or by code and region."""
    text = (files(__package__) / "other_codes.csv").read_text(encoding="utf-8")
    return {
        row["code"]: tuple(row["languages"].split()) for row in csv.DictReader(text.splitlines())
    }
