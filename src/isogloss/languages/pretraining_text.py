"""How much text of each language public pre-training corpora hold.

pretraining_text.csv has the training split of FineWeb2 (Penedo et al. 2025, arXiv:2506.20920;
ODC-By 1.0), a corpus of web text in 1,900 languages and scripts. It has no English, which is in
FineWeb; docs/reference/languages.md lists what else is missing.
"""

import csv
from functools import cache
from importlib.resources import files


def pretraining_words(code: str) -> int | None:
    """Number of words in a language, by its FLORES-200 code; None if the corpus lacks it."""
    return _words().get(code)


@cache
def _words() -> dict[str, int]:
    text = (files(__package__) / "pretraining_text.csv").read_text(encoding="utf-8")
    return {row["code"]: int(row["words"]) for row in csv.DictReader(text.splitlines())}
