"""Prediction: normalisations, generated answers and reasoning, against the reference scorer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import probe

from isogloss.inference import backend
from isogloss.inference.generation import Generated, IsComplete
from isogloss.inference.predict import predict
from isogloss.inference.progress import extrapolated
from isogloss.inference.reference import reference_scores
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.predictions.metrics import evaluation_metrics
from isogloss.predictions.table import frame
from isogloss.prompts.answer_parser import answer_start, parse_answer
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import Prompt, prompt, reasoning_prompt
from isogloss.prompts.tokenisation import label_tokens
from isogloss.tasks import Item


def test_a_generated_answer_is_parsed_and_the_forced_choice_is_recorded_too(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = probe("eng_Latn", "test", 4)
    texts = [" B", f" {items[1].options[3]}\nQ: next", " none\nQ: next\nAnswer: A", " C."]
    monkeypatch.setattr(
        backend, "generate", lambda *_, **__: [Generated(text, True) for text in texts]
    )
    generated = predict(tiny, items, Protocol("generate"), "probe")
    letters = predict(tiny, items, Protocol("letter"), "probe")
    assert [prediction.greedy for prediction in generated] == [1, 3, -1, 2]
    assert [prediction.prediction for prediction in generated] == [1, 3, -1, 2]
    assert [prediction.valid for prediction in generated] == [True, True, False, True]
    assert [prediction.text for prediction in generated] == texts
    for prediction, letter, item in zip(generated, letters, items, strict=True):
        assert prediction.correct == (prediction.greedy == item.answer)
        assert prediction.forced == letter.prediction
        assert prediction.choice_logprobs == pytest.approx(letter.choice_logprobs, abs=2e-4)
        assert prediction.gold_logprob == pytest.approx(letter.gold_logprob, abs=2e-4)
        assert letter.text is None
    values = evaluation_metrics(frame(generated), "arb_Arab")
    assert values["unparsed/eng_Latn"] == 0.25
    assert values["format_valid/eng_Latn"] == 0.75
    assert "unparsed/eng_Latn" not in evaluation_metrics(frame(letters), "arb_Arab")


@pytest.mark.parametrize("format", ["letter", "cloze", "generate"])
def test_choices_are_scored_after_the_generated_reasoning(
    format: str, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = probe("heb_Hebr", "test", 3)
    protocol = Protocol(format, reasoning="cot", max_new_tokens=12)
    texts = [" It says so.\nAnswer: C\n", " One may say (B)", " So:\nAnswer: A"]
    generated = [Generated(text, text != texts[1]) for text in texts]
    monkeypatch.setattr(backend, "generate", lambda *_, **__: generated)
    predictions = predict(tiny, items, protocol, "probe")
    for item, prediction, text in zip(items, predictions, texts, strict=True):
        reasoning = text[: answer_start(text)].rstrip()
        context = f"{reasoning_prompt(item, protocol)}{reasoning}\nAnswer:"
        choices = item.options if format == "cloze" else "ABCD"
        entry = Prompt(context, tuple(f" {choice}" for choice in choices))
        expected = reference_scores(tiny, entry).loglikelihoods
        assert prediction.choice_logprobs == pytest.approx(expected, abs=2e-4)
        parsed = parse_answer(text, item.options, ended=text != texts[1])
        assert prediction.greedy == (-1 if parsed is None else parsed)
        expected_choice = prediction.greedy if format == "generate" else prediction.forced
        assert prediction.prediction == expected_choice
        assert prediction.text == text
    # The second text was cut off, so the letter in it is not its answer.
    assert [prediction.greedy for prediction in predictions] == [2, -1, 0]


@pytest.mark.parametrize("reasoning", ["direct", "cot"])
def test_generation_gets_the_protocols_limit_and_stops_at_a_complete_answer(
    reasoning: str, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = probe("heb_Hebr", "test", 1)[0]
    protocol = Protocol("generate", prompt_language="target", reasoning=reasoning, max_new_tokens=7)
    texts = {"direct": (" א", " א\n"), "cot": (" כי\nתשובה: א", " כי\nתשובה: א\n")}[reasoning]
    counts: list[int] = []

    def generate(
        model: LanguageModel,
        contexts: list[str],
        max_new_tokens: int,
        is_complete: list[IsComplete],
        *,
        chat: bool,
        progress: Callable[[int], object],
    ) -> list[Generated]:
        direct = prompt(item, protocol).context
        assert contexts == [direct if reasoning == "direct" else reasoning_prompt(item, protocol)]
        assert max_new_tokens == 7
        assert [is_complete[0](text) for text in texts] == [False, True]
        assert not chat
        progress(1)
        return [Generated(texts[1], True)]

    monkeypatch.setattr(backend, "generate", generate)
    (prediction,) = predict(tiny, [item], protocol, "probe", progress=counts.append)
    assert prediction.greedy == 0
    assert counts == [1]


def test_the_generated_reasoning_is_recorded(tiny: LanguageModel) -> None:
    protocol = Protocol("cloze", reasoning="cot", max_new_tokens=6)
    for prediction in predict(tiny, probe("eng_Latn", "test", 3), protocol, "probe"):
        assert prediction.text
        assert prediction.forced == prediction.prediction


def test_cloze_ranks_options_by_the_chosen_normalisation(tiny: LanguageModel) -> None:
    items = probe("eng_Latn", "test", 12)
    by_name = {
        name: predict(tiny, items, Protocol("cloze", name), "probe")
        for name in ("none", "length", "unconditional")
    }
    for index, item in enumerate(items):
        none, length, unconditional = (by_name[name][index] for name in by_name)
        raw_C = np.array(none.choice_logprobs)
        assert length.choice_logprobs == pytest.approx(raw_C.tolist(), abs=1e-9)
        assert none.prediction == raw_C.argmax()
        assert none.unconditional_logprobs is None
        n_characters_C = np.array([len(option) for option in item.options])
        assert length.prediction == (raw_C / n_characters_C).argmax()
        entry = Prompt("Answer:", tuple(f" {option}" for option in item.options))
        expected = reference_scores(tiny, entry).loglikelihoods
        assert unconditional.unconditional_logprobs == pytest.approx(expected, abs=2e-4)
        assert unconditional.prediction == (raw_C - np.array(expected)).argmax()
    chosen = {tuple(row.prediction for row in rows) for rows in by_name.values()}
    assert len(chosen) > 1


def test_identical_options_are_all_scored(tiny: LanguageModel) -> None:
    item = Item("i", "p", "eng_Latn", "Text.", "What?", ("same", "same", "other"), 1)
    for format in ("letter", "cloze", "generate"):
        (prediction,) = predict(tiny, [item], Protocol(format, "unconditional"), "files")
        assert len(prediction.choice_logprobs) == 3
    assert label_tokens(tiny.tokenizer, [item], Protocol("letter"))


def test_predictions_describe_their_item_and_prompt(tiny: LanguageModel) -> None:
    first, second = probe("eng_Latn", "test", 2)
    second = Item("q", "q", "eng_Latn", "", second.question, second.options, 2)
    counts: list[int] = []
    left, right = predict(
        tiny, [first, second], Protocol("letter"), "named",
        shortened=frozenset({("eng_Latn", "q"), ("heb_Hebr", first.item_id)}),
        progress=counts.append,
    )  # fmt: skip
    assert (left.shortened, right.shortened) == (False, True)
    assert {left.task, right.task} == {"named"}
    assert (right.item_id, right.passage_id, right.answer) == ("q", "q", 2)
    context = prompt(second, Protocol("letter")).context
    assert right.prompt_tokens == len(tiny.tokenizer(context).input_ids)
    for prediction, text in ((left, first.passage), (right, second.question)):
        ids = tiny.tokenizer(text, add_special_tokens=False).input_ids
        assert (prediction.tokens, prediction.words) == (len(ids), len(text.split()))
        letter_logprobs = np.array(prediction.choice_logprobs)
        assert prediction.format_mass == pytest.approx(np.exp(letter_logprobs).sum())
        gold = letter_logprobs[prediction.answer] - np.logaddexp.reduce(letter_logprobs)
        assert prediction.gold_logprob == pytest.approx(gold)
    assert sum(counts) == 2


def test_in_bfloat16_letters_are_scored_by_a_float32_head(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(locate(str(model_folder("gemma3"))), "bfloat16")
    options: list[bool] = []
    score = backend.score

    def recorded(*arguments: object, float32_head: bool = False, **others: object) -> object:
        options.append(float32_head)
        return score(*arguments, float32_head=float32_head, **others)

    monkeypatch.setattr(backend, "score", recorded)
    for format in ("letter", "cloze"):
        predict(model, probe("eng_Latn", "test", 1), Protocol(format), "probe")
    assert options == [True, False]


def test_progress_of_one_process_is_extrapolated_to_all_items() -> None:
    counts: list[int] = []
    progress = extrapolated(counts.append, n_items=10, n_own=3)
    for _ in range(3):
        progress(1)
    assert counts == [3, 4, 3]
