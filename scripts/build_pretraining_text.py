"""Take from FineWeb2's table of languages the rows of the languages of table.csv.

    git clone https://github.com/huggingface/fineweb-2 /tmp/fineweb-2
    python -m scripts.build_pretraining_text /tmp/fineweb-2/fineweb2-language-distribution.csv

docs/reference/languages.md names the release, its licence and how to cite it.
"""

import csv
import sys
from pathlib import Path

from isogloss.languages import table

TARGET = Path(__file__).parents[1] / "src/isogloss/languages/pretraining_text.csv"
COLUMNS = ("words", "documents", "utf8_bytes")
# FineWeb2's name where it is another; both scripts of Chinese are one subset there.
SUBSETS = {
    "est_Latn": "ekk_Latn",
    "grn_Latn": "gug_Latn",
    "kon_Latn": "ktu_Latn",
    "pes_Arab": "fas_Arab",
    "tgl_Latn": "fil_Latn",
    "yue_Hant": "yue_Hani",
    "zho_Hans": "cmn_Hani",
    "zho_Hant": "cmn_Hani",
}


def main(path: Path) -> None:
    """Write one row per language that FineWeb2 has: the numbers of its training split."""
    with path.open(encoding="utf-8", newline="") as file:
        subsets = {row["subset"]: row for row in csv.DictReader(file) if row["split"] == "train"}
    with TARGET.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("code", "subset", *COLUMNS))
        for code in sorted(table()):
            subset = SUBSETS.get(code, code)
            if subset in subsets:
                writer.writerow((code, subset, *(subsets[subset][name] for name in COLUMNS)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
