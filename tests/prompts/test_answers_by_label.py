"""Answers where prompts show digits or native letters: read as labels, and nothing else is."""

import pytest

from isogloss.prompts.answer_parser import answer_start, is_complete, parse_answer
from isogloss.prompts.labels import DIGITS, native_labels

CITIES = ("Paris", "London", "Berlin", "Rome")
NUMBERS = ("5", "7", "1", "2")
YEARS = ("1939", "1945", "1914", "1918")
WORDS = ("Answer", "Ответ", "תשובה", "الإجابة", "答え", "정답", "उत्तर", "答案")


def by_digit(text: str, options: tuple[str, ...] = CITIES) -> int | None:
    return parse_answer(text, options, WORDS, labels=DIGITS)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("2", 1),
        (" 2\nP: more", 1),
        ("2.", 1),
        ("2: London", 1),
        ("2. London is meant", 1),
        ("**2**", 1),
        ("Answer: 2", 1),
        ("Answer: 2. Rome", 1),
        ("Answer: (3)", 2),
        ("Answer: the right one is (3)", 2),
        ("Answer: $\\boxed{3}$", 2),
        ("Answer: number 2", 1),
        ("Answer: Option 2: London", 1),
        ("Answer: 2 because Paris was not", 1),
        ("The answer is 3 because Paris", 2),
        ("so option 3 fits", 2),
        ("1. First, think.\nAnswer: 2", 1),
        ("Answer: 2\n\nQ: what?\nAnswer: 3", 1),
        ("Answer: 1\nThat was wrong.\nAnswer: 2", 1),
        ("Answer: ٣", 2),
        ("الإجابة: ٢", 1),
        ("उत्तर: २", 1),
        ("答案是2。", 1),
        ("정답은 2번입니다.", 1),
        ("Answer: Paris", 0),
        ("Answer: B", 1),
    ],
)
def test_a_digit_is_read_as_the_label_of_an_option(text: str, index: int) -> None:
    assert by_digit(text) == index


@pytest.mark.parametrize(
    "text",
    [
        "Answer: 5",
        "Answer: 0",
        "Answer: 12",
        "Answer: 1945",
        "In 1945 it was 2 times",
        "Answer: in 2 years",
        "Answer: on May 2",
        "Answer: 2 people",
        "Answer: 2 people in Paris",
        "Answer: 2 Paris",
        "Answer: 2, 3",
        "Answer: 2 or 3",
        "Answer: 2/3",
        "Answer: 2.5",
        "Answer: 2:30",
        "Answer: -2",
        "Answer: 2 °C",
        "Answer: 2%",
        "Answer: 2nd",
        "Answer: 02",
        "answer 2 questions",
        "option 2.5",
        "It was 3",
        "(3) then",
        "1. First, think.\n2. Then think",
        "The answer is in paragraph 2.",
        "Answer: A dog",
    ],
)
def test_quantities_years_and_steps_are_no_labels(text: str) -> None:
    assert by_digit(text) is None


@pytest.mark.parametrize(
    ("text", "options", "index"),
    [
        ("Answer: 2", NUMBERS, 1),
        ("2", NUMBERS, 1),
        ("Answer: 1: 5", NUMBERS, 0),
        ("Answer: 5", NUMBERS, 0),
        ("So there are 2", NUMBERS, None),
        ("Answer: 1945", YEARS, 1),
        ("Answer: 2: 1945", YEARS, 1),
        ("Answer: 2", YEARS, 1),
        ("In 1914 it began", YEARS, 2),
        ("Answer: 1950", YEARS, None),
        ("Answer: 2 kg", ("3 kg", "5 kg", "2 kg"), 2),
        ("Answer: ٢", ("٥", "٧", "١", "٢"), 1),
    ],
)
def test_a_label_goes_before_an_option_that_is_the_same_number_but_not_before_a_longer_one(
    text: str, options: tuple[str, ...], index: int | None
) -> None:
    assert by_digit(text, options) == index


@pytest.mark.parametrize(
    ("code", "text", "index"),
    [
        ("rus_Cyrl", "Ответ: В", 2),
        ("rus_Cyrl", "В. потому", 2),
        ("rus_Cyrl", "Ответ: вариант В подходит", 2),
        ("rus_Cyrl", "Ответ: в", 2),
        ("rus_Cyrl", "Ответ: В Париже", None),  # "in Paris"
        ("rus_Cyrl", "Ответ: B", None),  # Latin: the second letter, or it looks like the third
        ("rus_Cyrl", "Ответ: С", None),
        ("rus_Cyrl", "Ответ: А или Б", None),
        ("rus_Cyrl", "Б\nВопрос: что?\nОтвет: А", 1),
        ("rus_Cyrl", "Ответ: D", 3),
        ("heb_Hebr", "תשובה: ג", 2),
        ("heb_Hebr", "התשובה היא ב'.", 1),
        ("heb_Hebr", "תשובה: בית", None),
        ("arb_Arab", "الإجابة: ا", 0),
        ("arb_Arab", "الإجابة: ت", None),
        ("arb_Arab", "الإجابة: باريس", None),
        ("pes_Arab", "الف", 0),
        ("mar_Deva", "उत्तर: क", 2),  # first in Hindi
        ("mar_Deva", "उत्तर: ख", None),
        ("hin_Deva", "उत्तर: क", 0),
        ("jpn_Jpan", "答え: アメリカ", None),
        ("jpn_Jpan", "アです", 0),
        ("kor_Hang", "정답은 나입니다", 1),
        ("tel_Telu", "Answer: ఈ దేశం", None),  # "this country"
        ("pan_Guru", "(ੲ)", 2),
        ("amh_Ethi", "Answer: 3", 2),
        ("fra_Latn", "Answer: B because", 1),
    ],
)
def test_native_letters_are_those_of_the_language(code: str, text: str, index: int | None) -> None:
    labels = native_labels().get(code, tuple("ABCD"))
    assert parse_answer(text, CITIES, WORDS, labels=labels) == index


def test_an_answer_by_digit_is_complete_once_it_cannot_be_a_decimal() -> None:
    texts = {"Answer: 2": False, "Answer: 2.": False, "Answer: 2\n": True, "The answer is 2.": False,
             "The answer is 2.\n": True, "The answer is 2.5 ": False}  # fmt: skip
    assert {text: is_complete(text, labels=DIGITS) for text in texts} == texts
    assert not is_complete("The answer is 2.\n")


def test_the_reasoning_ends_before_an_answer_by_label() -> None:
    labels = native_labels()["rus_Cyrl"]
    text = "Так.\nОтвет: Б\nВ: Berlin\nОтвет: А"
    assert answer_start(text, WORDS, labels=labels) == text.rindex("Ответ")
    digits = "So.\nThe answer is 2.\n\nQ: what?\nAnswer: 1"
    assert answer_start(digits, WORDS, labels=DIGITS) == digits.index("The answer")
