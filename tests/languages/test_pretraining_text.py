"""The shipped table of pre-training text."""

from isogloss.languages import table
from isogloss.languages.pretraining_text import pretraining_words

MISSING = {
    *("ace_Arab", "acq_Arab", "ajp_Arab", "aka_Latn", "eng_Latn"),
    *("knc_Arab", "min_Arab", "prs_Arab", "sin_Latn"),
}


def test_all_but_nine_of_the_languages_have_a_number():
    assert {code for code in table() if pretraining_words(code) is None} == MISSING


def test_numbers_are_those_of_fineweb2():
    # From fineweb2-language-distribution.csv of 27 October 2025.
    assert pretraining_words("arb_Arab") == 32_812_858_120
    assert pretraining_words("mlt_Latn") == 286_548_586
    assert pretraining_words("ace_Latn") == 2_454_325
    assert pretraining_words("est_Latn") == 6_564_292_000  # ekk_Latn there
    assert pretraining_words("zho_Hans") == pretraining_words("zho_Hant") == 543_543_038_750
