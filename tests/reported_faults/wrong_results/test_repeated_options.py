"""A text that repeats the options has not chosen the first of them."""

import pytest

from isogloss.prompts.answer_parser import parse_answer

OPTIONS = ("Paris", "New London", "Rome", "Oslo")
LISTS = {
    "lines": "A: Paris\nB: New London\nC: Rome\nD: Oslo",
    "one line": "A: Paris, B: New London, C: Rome, D: Oslo",
    "brackets": "(A) Paris (B) New London (C) Rome (D) Oslo",
    "numbers": "1. Paris\n2. New London\n3. Rome\n4. Oslo",
    "two of them": "A) Paris\nB) New London",
    "marks": "- **A**: Paris\n- **B**: new  london\n- **C**: Rome\n- **D**: Oslo",
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("before", ["", "Answer: ", "Answer:\n", "The options are "])
def test_a_list_of_options_is_no_answer(name: str, before: str) -> None:
    assert parse_answer(f"{before}{LISTS[name]}", OPTIONS) is None


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "answer", ["\nC", "\n\nThe correct answer is C.", "\n\nAnswer: C: Rome", "\n\nAnswer:\nRome"]
)
def test_the_answer_after_a_list_of_options_counts(name: str, answer: str) -> None:
    assert parse_answer(f"{LISTS[name]}{answer}", OPTIONS) == 2


@pytest.mark.parametrize(
    "text",
    [
        "C: Rome",
        "C: Rome, not A: Paris",
        "C: Rome\nC: Rome",
        "C",
        "Answer: C: Rome\n\nQ: Next?\nA: x",
    ],
)
def test_one_option_with_its_label_is_an_answer(text: str) -> None:
    assert parse_answer(text, OPTIONS) == 2


def test_equal_options_and_options_without_words_are_read_as_before() -> None:
    assert parse_answer("A: ?", ("?", "!")) == 0
    assert parse_answer("B", ("one", "one")) == 1
    assert parse_answer("A A", ("A", "B")) == 0
