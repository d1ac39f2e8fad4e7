"""The answer parser: letters, digits and option texts, in many scripts and ways of answering."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import DataError
from isogloss.prompts.answer_parser import answer_start, is_complete, parse_answer
from isogloss.prompts.answer_patterns import ENUMERATIONS, LOOKS_LIKE
from isogloss.prompts.wording import languages, wording

CITIES = ("Paris", "London", "Berlin", "Rome")
WORDS = tuple(wording(code).answer for code in languages())
TEN = ("apple", "river", "cloud", "house", "tiger", "green", "seven", "music", "table", "winter")


def parse(text: str, options: tuple[str, ...] = CITIES) -> int | None:
    return parse_answer(text, options, WORDS)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        (" B", 1),
        (" B: London", 1),
        (" B. London is meant", 1),
        (" B\nP: A passage", 1),
        ("b", 1),
        ("b)", 1),
        ("(b) London", 1),
        ("**B**", 1),
        ("C. as it says", 2),
        ("Paris", 0),
        ("LONDON.", 1),
        ('"London"', 1),
        ("2", 1),
        ("2. London", 1),
        ("ג. כי", 2),
    ],
)
def test_a_direct_answer_is_parsed_at_the_start(text, index):
    assert parse(text) == index


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Answer: B", 1),
        ("Answer: (b)", 1),
        ("ANSWER: b.", 1),
        ("**Answer:** B.", 1),
        ("**Answer**: B", 1),
        ("Answer: **B: London**", 1),
        ("Answer:\n\nB", 1),
        ("**Final Answer**\n\nB", 1),
        ("Answer: $\\boxed{C}$", 2),
        ("Answer: Option B: London", 1),
        ("Answer: the correct option is B.", 1),
        ("Answer: Paris", 0),
        ("Answer: “Paris”", 0),
        ("Answer: B. Rome", 1),
        ("Answer: B because Paris was not", 1),
        ("the answer is B", 1),
        ("The answer is A because", 0),
        ("The answer is: B", 1),
        ("The final answer is therefore (B).", 1),
        ("The answer is London.", 1),
        ("A and B are wrong.\nAnswer: D", 3),
        ("Answer: A\nThat was wrong.\nAnswer: B", 1),
        ("Answer: B. This is my final answer.", 1),
        ('I must write "Answer:" and the letter.\nAnswer: B', 1),
        ("Answer: C'est Paris", 0),
        ("Answer: A dog in Paris", 0),
    ],
)
def test_an_answer_is_parsed_after_the_last_marker(text, index):
    assert parse(text) == index


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("الإجابة: ب", 1),
        ("فالإجابة هي ب.", 1),
        ("الإجابة: إ", 0),
        ("الإجابة: بـ", 1),
        ("الإجابة: الخيار ج", 2),
        ("الإجابة: ٣", 2),
        ("پاسخ: الف", 0),
        ("پاسخ: پ", 2),
        ("پاسخ: ۴", 3),
        ("תשובה: ג", 2),
        ("התשובה היא ב'.", 1),
        ("መልስ፦ ሐ", 2),
        ("መልስ: ፪", 1),
        ("Ответ: Б", 1),
        ("Ответ: г)", 3),
        ("Απάντηση: Γ", 2),
        ("उत्तर: ख", 1),
        ("उत्तर: ब", 1),
        ("उत्तर: विकल्प ग।", 2),
        ("उत्तर: २", 1),
        ("উত্তর: গ", 2),
        ("பதில்: இ", 2),
        ("คำตอบคือ ข้อ ค", 2),
        ("정답: 나", 1),
        ("정답은 나입니다.", 1),
        ("정답은 2번입니다.", 1),
        ("정답: ㄷ", 2),
        ("答え: イ", 1),
        ("答えはBです。", 1),
        ("答案：C", 2),
        ("答案：Ｃ", 2),
        ("答案是乙。", 1),
        ("答案：②", 1),
        ("Réponse : B", 1),
        ("Odpowiedź to B", 1),
        ("Respuesta: opción B", 1),
        ("Trả lời: B. London", 1),
        ("ìdáhùn: D", 3),
    ],
)
def test_answers_are_parsed_in_many_scripts(text, index):
    assert parse(text) == index


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Answer:",
        "A dog ran. I saw it.",
        "I think so.",
        "Answer: A dog",
        "Answer: I do not know",
        "Answer: A or B",
        "Answer: It could be B or C",
        "Answer: B/C",
        "Answer: E",
        "Answer: 5",
        "Answer: 2.5",
        "Answer: Madrid",
        "Answer: none",
        "Answer: not B",
        "Answer: Bern",
        "Trả lời: Bộ",
        "Réponse: D’après le texte",
        "الإجابة: و باريس",
        "पेरिस",
    ],
)
def test_running_text_and_unknown_options_are_not_an_answer(text):
    assert parse(text) is None


@pytest.mark.parametrize("text", ["I think so.", "Answer: I think so", "the answer is I think"])
def test_the_english_i_is_not_the_ninth_letter(text):
    assert parse(text, TEN) is None
    assert parse("Answer: I", TEN) == 8


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Ответ: А", 0),
        ("Ответ: С", 2),
        ("Ответ: В", None),
        ("Ответ: в", 2),
        ("Ответ: В. Berlin", 2),
        ("Ответ: В. London", 1),
        ("А или Б? Ответ: В", 2),
    ],
)
def test_an_ambiguous_cyrillic_letter_needs_evidence(text, index):
    assert parse(text) == index


def test_an_ambiguous_letter_is_parsed_if_only_one_meaning_is_an_option():
    assert parse_answer("Ответ: В", ("да", "нет"), ["Ответ"]) == 1


def test_the_last_letter_in_parentheses_or_after_option_counts():
    assert parse("It is not (C) but (B) I think") == 1
    assert parse("so option C fits") == 2
    assert parse("first (A), then option B, then (d) again") == 3
    assert parse("\\boxed{C}") == 2


def test_the_only_option_in_the_last_line_is_the_answer():
    assert parse("Paris is nice, but not it.\nSo London") == 1
    assert parse("Paris or London") is None
    assert parse("1. First, think.\n2. Then Rome") == 3


def test_the_longest_of_nested_options_is_the_answer():
    assert parse("It says New York", ("York", "New York")) == 1
    assert parse("Answer: new  york", ("York", "New York")) == 1
    assert parse("Answer: York", ("York", "New York")) == 0
    assert parse("York, not New York", ("York", "New York")) is None


def test_the_first_of_identical_options_is_the_answer():
    assert parse("Answer: rain", ("snow", "rain", "Rain")) == 1
    assert parse("so it is rain", ("snow", "rain", "Rain")) == 1


def test_numbers_are_option_texts_if_options_contain_numbers():
    assert parse("Answer: 2", ("5", "7", "1", "2")) == 3
    assert parse("Answer: 3", ("5", "7", "1", "2")) is None
    assert parse("٢", ("5", "7", "1", "٢")) == 3
    assert parse("Answer: 3 kg", ("2 kg", "3 kg")) == 1
    assert parse("Answer: 2", ("3 kg", "2 kg")) is None


def test_letters_of_the_prompt_take_precedence_over_options_that_are_letters():
    assert parse("Answer: C", ("B", "C", "A", "D")) == 2
    assert parse("C", ("B", "C", "A", "D")) == 2
    assert parse("Answer: c", ("B", "C", "A", "D")) == 1


def test_a_long_option_takes_precedence_over_the_letter_it_begins_with():
    assert parse("Answer: B vitamins", ("iron", "zinc", "B vitamins")) == 2
    assert parse("Answer: It holds vitamin C.", ("vitamin C", "iron", "zinc")) == 0


def test_options_are_compared_without_points_marks_and_direction_characters():
    assert parse("תשובה: שָׁלוֹם", ("ערב", "שלום")) == 1
    assert parse("الإجابة: مَدْرَسَة", ("بيت", "مدرسة")) == 1
    assert parse("الإجابة: كتـــاب\u200f.", ("بيت", "كتاب")) == 1
    assert parse("Answer: e\u0301te\u0301", ("hiver", "été")) == 1


@pytest.mark.parametrize(
    ("text", "index"),
    [
        (" B\nP: more\nQ: what?\nA: x\nB: y\nAnswer: C", 1),
        (" B. London was it\nC: Berlin\nQ: what?\nAnswer: C", 1),
        ("B\n\nP: more\nAnswer: D", 1),
        ("London\n\nQ: what?\nAnswer: Paris", 1),
        ("Answer: B\n\nQ: what?\nAnswer: C", 1),
        ("Answer: B because\nQ: what?\nAnswer: C", 1),
        ("So the answer is B.\n\nQ: what?\nAnswer: C", 1),
        ("תשובה: ב\nשאלה: מה?\nתשובה: ג", 1),
        ("答案：B\n问题：什么？\n答案：C", 1),
        ("The answer is not A.\n\nThe answer is B.", 1),
        ("A: Paris is not meant.\nIt says: London.\nB: right.\nAnswer: B", 1),
        ("The first is B, I think.\n\nLet me see.\n\nAnswer: C", 2),
        ("Answer: B\nCâu hỏi: gì?\nAnswer: C", 1),
        ("Answer: B\nThen it says: gì?\nAnswer: C", 2),
        ("The answer is B\nCâu hỏi: gì?\nAnswer: C", 2),
    ],
)
def test_a_next_question_is_removed_only_after_an_answer(text, index):
    assert parse(text) == index


@pytest.mark.parametrize("number", [0, 1, 11])
def test_fewer_than_two_or_more_than_ten_options_are_rejected(number):
    with pytest.raises(DataError, match=f"2 to 10 options but got {number}"):
        parse_answer("A", ["x"] * number)


def test_an_empty_option_is_never_the_answer():
    assert parse("something", ("", "rain")) is None
    assert parse("Answer: something", ("", "rain")) is None


@pytest.mark.parametrize(
    "text",
    [
        "Answer: B.",
        "Answer: B\n",
        "Answer: Paris.",
        "Answer: Paris\nQ",
        "**Answer:** B\n",
        "The answer is B.",
        "תשובה: ב.",
        "答案：C。",
        "उत्तर: ख।",
        "Answer: 3\n",
    ],
)
def test_a_finished_answer_is_complete(text):
    assert is_complete(text, WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B.\n",
        "Answer:",
        "Answer:\n",
        "Answer: B",
        "Answer: Par",
        "Answer: 3.",
        "Answer: Dr. Who",
        "The answer is clear.",
        "I will answer B.\n",
        'a line with "Answer:" and the letter.\n',
    ],
)
def test_an_answer_that_may_continue_is_not_complete(text):
    assert not is_complete(text, WORDS)


@pytest.mark.parametrize(
    ("reasoning", "rest"),
    [
        ("It says so. ", "Answer: B"),
        ("It says so.\n", "**Answer:** B"),
        ("So ", "the answer is B."),
        ("Answer: A, or so\nNo. ", "Answer: B"),
        ("e\u0301 ﬁ \u200f", "תשובה: ב"),
        ("理由。", "答案：C"),
        ("", "Answer: B\n\nQ: what?\nAnswer: C"),
    ],
)
def test_the_reasoning_ends_where_the_last_answer_starts(reasoning, rest):
    assert answer_start(reasoning + rest, WORDS) == len(reasoning)


def test_a_text_without_an_answer_has_no_answer_start():
    assert answer_start("I cannot answer that", WORDS) is None
    assert answer_start("", WORDS) is None


@given(st.data())
def test_every_letter_of_every_enumeration_is_parsed_after_every_answer_word(data):
    name = data.draw(st.sampled_from(sorted(ENUMERATIONS)))
    letters = ENUMERATIONS[name].split()
    number = data.draw(st.integers(2, 10))
    index = data.draw(st.integers(0, min(number, len(letters)) - 1))
    marker = data.draw(st.sampled_from(["Answer", *WORDS]))
    end = data.draw(st.sampled_from(["", ".", "\n", ")", "**", f": {TEN[index]}"]))
    parsed = parse_answer(f"Let me see... {marker}: {letters[index]}{end}", TEN[:number], [marker])
    ambiguous = name == "Cyrillic" and letters[index] in LOOKS_LIKE and TEN[index] not in end
    assert parsed == index or (ambiguous and parsed is None)


@given(st.integers(2, 10), st.data())
def test_digits_of_every_script_are_parsed(number, data):
    index = data.draw(st.integers(0, min(number, 9) - 1))
    zero = data.draw(st.sampled_from("0٠۰०০௦๐０"))
    assert parse_answer(f"Answer: {chr(ord(zero) + index + 1)}", TEN[:number]) == index


TEXTS = st.text(
    st.characters(categories=["Lu", "Ll", "Lo", "Nd"], max_codepoint=0xFFFF), min_size=2, max_size=9
)


def alike(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@given(st.lists(TEXTS, min_size=2, max_size=10, unique_by=alike), st.data())
def test_the_text_of_an_option_is_parsed_as_that_option(options, data):
    index = data.draw(st.integers(0, len(options) - 1))
    marker = data.draw(st.sampled_from(["Answer", *WORDS]))
    assert parse_answer(f"So ... {marker}: {options[index]}", options, [marker]) == index
    assert parse_answer(f"So ... {marker}: {options[index]}.\n", options, [marker]) == index


@given(st.text(max_size=80), st.lists(st.text(max_size=12), min_size=2, max_size=10))
def test_any_text_is_parsed_without_an_error(text, options):
    parsed = parse_answer(text, options, WORDS)
    assert parsed is None or 0 <= parsed < len(options)
    start = answer_start(text, WORDS)
    assert start is None or 0 <= start < len(text)
    assert is_complete(text, WORDS) in (True, False)


@given(st.text(st.characters(categories=["P", "S", "Z", "Cc", "Cf"]), max_size=40))
def test_a_text_without_letters_and_digits_is_not_an_answer(text):
    if not any(char.isalnum() for char in unicodedata.normalize("NFKC", text)):
        assert parse(text) is None


@pytest.mark.parametrize("piece", ["*", "# ", "answer ", "Answer: x\n", "(", "A B C ", "\n"])
def test_repetitive_texts_are_parsed_in_linear_time(piece):
    text = piece * (4000 // len(piece))
    began = time.perf_counter()
    parse(text)
    answer_start(text, WORDS)
    is_complete(text, WORDS)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("text", ["It may be (B)", "I think of Paris", "B. That is"])
def test_only_a_marked_answer_or_a_whole_first_line_counts_in_a_text_that_was_cut_off(
    text: str,
) -> None:
    options = ("Rome", "Paris", "Oslo")
    assert parse_answer(text, options) == 1
    assert parse_answer(text, options, ended=False) is None
    assert parse_answer(f"{text}\nAnswer: C", options, ended=False) == 2
    assert parse_answer(f" Paris.\nQ: {text}", options, ended=False) == 1


@pytest.mark.parametrize(
    "text",
    [
        '\n3. The answer is "Answer:"\n4. The answer is "Answer:"\n5. The answer',
        "\n1. Which shop?\nAnswer:\n2. Which shop is it?",
        "So the answer\n3. is not known",
    ],
)
def test_the_number_of_the_next_list_item_is_not_an_answer(text: str) -> None:
    options = ("Rome", "Paris", "Oslo", "Bonn")
    assert parse_answer(text, options, ended=False) is None
    assert parse_answer("Answer:\n2. Paris", options) == 1
    assert parse_answer("Answer:\n2", options) == 1
    assert parse_answer("Answer:\nC. I am sure", options) == 2


def test_an_empty_list_is_not_an_answer() -> None:
    assert parse_answer("\n1.\n2.\n3.\n", ("Rome", "Paris", "Oslo")) is None
    assert parse_answer("1.\n", ("Rome", "Paris", "Oslo")) == 0
