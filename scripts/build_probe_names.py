"""Add to probe_names.csv the names of languages that have a template and no column yet.

Names come from CLDR, through Babel, which isogloss does not need otherwise. Templates state the
locale, the form of months and weekdays, and currencies that CLDR lacks. Columns that exist stay as
they are, because CLDR's versions differ and changed names change items; `--all` writes them too:
raise PROBE_VERSION then. From the repository:

    pip install babel==2.18.0
    PYTHONPATH=src python -m scripts.build_probe_names
"""

import argparse
import csv
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isogloss.errors import DataError, IsoglossError
from isogloss.tasks import probe
from isogloss.types import Split

NAMES = Path(__file__).parents[1] / "src/isogloss/tasks/probe_names.csv"
# Direction marks; the zero-width non-joiner of Persian is spelling and remains.
MARKS = {"\u061c", "\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\ufeff"}
LICENCE = "by scripts/build_probe_names.py. Unicode License V3: UNICODE_LICENSE.txt"


def main() -> None:
    """Write the table in place, and show an item of each added language."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="write columns that exist, too")
    try:
        added = update(NAMES, rewrite=parser.parse_args().all)
        for code in added:
            item = probe.load(code, Split.TEST, 1)[0]
            print(f"{code}: {item.passage} {item.question} {', '.join(item.options)}")
    except IsoglossError as error:
        raise SystemExit(f"Error: {error}") from None
    print(f"columns written: {', '.join(added) or 'none, every template has one'}")


def update(file: Path, *, rewrite: bool) -> list[str]:
    """Write the columns that the table lacks, or all; return their codes. DataError: no name."""
    from babel.core import get_cldr_version

    comments, columns = ([], {}) if rewrite else read(file)
    codes = [code for code in probe.languages() if code not in columns]
    columns |= {code: dict(names(code)) for code in codes}
    if codes:
        of = "" if rewrite else f" of {', '.join(codes)}"
        comments.append(f"# Names{of} from CLDR {get_cldr_version()}, {LICENCE}\n")
    with file.open("w", encoding="utf-8", newline="") as out:
        out.writelines(comments)
        writer = csv.writer(out, lineterminator="\n")
        in_order = [code for code in probe.languages() if code in columns]
        writer.writerow(["placeholder", "id", *in_order])
        for key in columns[in_order[0]]:
            writer.writerow([*key, *(columns[code][key] for code in in_order)])
    return codes


def read(file: Path) -> tuple[list[str], dict[str, dict[tuple[str, str], str]]]:
    """The table's comments, and its names by language, placeholder and id."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    comments = [line for line in lines if line.startswith("#")]
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    codes = [name for name in rows[0] if name not in ("placeholder", "id")]
    return comments, {
        code: {(row["placeholder"], row["id"]): row[code] for row in rows} for code in codes
    }


def names(language: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Placeholder, id and name of each filler in a language that has names."""
    from babel import Locale

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
