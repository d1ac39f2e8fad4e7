"""Write probe_names.csv: the names that the probe's items are drawn from, in every language.

They come from CLDR, through Babel, which isogloss does not need otherwise. Templates state the
locale, the form of months and weekdays, and currencies that CLDR lacks. Changed names change items:
raise PROBE_VERSION then. From the repository:

    pip install babel==2.18.0
    PYTHONPATH=src python -m scripts.build_probe_names
"""

import csv
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from babel import Locale
from babel.core import get_cldr_version

from isogloss.errors import DataError
from isogloss.tasks import probe

NAMES = Path(__file__).parents[1] / "src/isogloss/tasks/probe_names.csv"
# Direction marks; the zero-width non-joiner of Persian is spelling and remains.
MARKS = {"\u061c", "\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\ufeff"}


def main() -> None:
    """Rewrite the table in place."""
    columns = {code: dict(names(code)) for code in probe.languages()}
    with NAMES.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# Names from CLDR {get_cldr_version()}, by scripts/build_probe_names.py. Unicode "
            "License V3: UNICODE_LICENSE.txt\n"
        )
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["placeholder", "id", *columns])
        for key in next(iter(columns.values())):
            writer.writerow([*key, *(column[key] for column in columns.values())])


def names(language: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Placeholder, id and name of each filler in a language that has names."""
    template = probe.read_template(language)
    locale = Locale.parse(template.locale)
    # For a locale without stand-alone forms Babel returns those of the locale loaded last, so the
    # template states which form to use.
    by_placeholder: dict[str, Mapping[Any, str]] = {  # keys differ by table
        "country": locale.territories,
        "language": locale.languages,
        "currency": {**locale.currencies, **template.currencies},
        "month": {str(i): name for i, name in locale.months[template.months]["wide"].items()},
        "weekday": {str(i): name for i, name in locale.days[template.weekdays]["wide"].items()},
    }
    for placeholder in probe.NAMED:
        for filler in (filler for ids in probe.FILLERS[placeholder].values() for filler in ids):
            if filler not in by_placeholder[placeholder]:
                raise DataError(f"CLDR has no name in {language} for {placeholder} {filler}.")
            yield (placeholder, filler), clean(by_placeholder[placeholder][filler])


def clean(name: str) -> str:
    """NFC without direction marks."""
    return unicodedata.normalize("NFC", "".join(c for c in name if c not in MARKS)).strip()


if __name__ == "__main__":
    main()
