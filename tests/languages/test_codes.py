"""Codes of ISO 639 and BCP 47 mean the languages that CLDR says, or are ambiguous."""

import pytest
from babel.core import get_global

from isogloss.languages import table
from isogloss.languages.codes import languages_of, other_codes

ALIASES = get_global("language_aliases")  # of CLDR: arb is ar, swh is sw
# Where CLDR chooses one member of a macrolanguage of which the table has several, or has no alias.
OWN = {"ku", "kur", "no", "nor", "ps", "pus", "ak", "tw"}


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("arb_Arab", "arb_Arab"),
        ("ARB-ARAB", "arb_Arab"),
        ("arb_Latn", "arb_Latn"),
        ("ar", "arb_Arab"),
        ("ara", "arb_Arab"),
        ("arb", "arb_Arab"),
        ("sw", "swh_Latn"),
        ("swa", "swh_Latn"),
        ("hi", "hin_Deva"),
        ("hi-Latn", "hin_Latn"),
        ("pt-BR", "por_Latn"),
        ("de_DE", "deu_Latn"),
        ("zh-Hant", "zho_Hant"),
        ("zh_CN", "zho_Hans"),
        ("zh-TW", "zho_Hant"),
        ("zh", "zho_Hans zho_Hant"),
        ("zho", "zho_Hans zho_Hant"),
        ("no", "nno_Latn nob_Latn"),
        ("nb", "nob_Latn"),
        ("ku", "ckb_Arab kmr_Latn"),
        ("tw", "twi_Latn"),
        ("fa", "pes_Arab"),
        ("fa-AF", "prs_Arab"),
        ("ace", "ace_Arab ace_Latn"),
        ("pa", "pan_Guru"),
        ("pa-PK", ""),
        ("sr-Latn", ""),
        ("arc", ""),
        ("arabic", ""),
        ("br", ""),
        ("", ""),
    ],
)
def test_the_languages_of_a_code(text: str, codes: str) -> None:
    assert languages_of(text) == tuple(codes.split())


def test_arabic_of_a_country_may_be_a_dialect() -> None:
    assert languages_of("ar-EG")[:2] == ("acm_Arab", "acq_Arab")
    assert {"arb_Arab", "arz_Arab"} <= set(languages_of("ar-EG"))
    assert "arb_Latn" not in languages_of("ar-EG")


def test_every_code_of_flores_means_itself() -> None:
    assert [languages_of(code) for code in table()] == [(code,) for code in table()]


def testother_codes_are_those_of_cldr() -> None:
    for code, languages in other_codes().items():
        if "-" in code or code in OWN:
            continue
        canonical = ALIASES.get(code, code)
        assert languages, code
        for flores in languages:
            assert ALIASES.get(flores[:3], flores[:3]) == canonical, code


def test_regions_have_the_scripts_of_cldr() -> None:
    likely = get_global("likely_subtags")
    scripts = {"Hans": "Han", "Hant": "Han", "Arab": "Arabic"}
    for code, languages in other_codes().items():
        if "-" not in code:
            continue
        tag = code.replace("-", "_")
        base = code.partition("-")[0]
        script = likely.get(tag, likely.get(base, "")).split("_")[1]
        if languages:
            (flores,) = languages
            assert flores[4:] == script, code
            assert table()[flores].script == scripts[script]
        else:
            own = [ALIASES.get(flores[:3]) == base and flores[4:] for flores in table()]
            assert script not in own, code
