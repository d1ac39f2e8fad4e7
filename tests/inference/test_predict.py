"""Asking: normalisations, generated answers and reasoning, held to a naive loop."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CONFIGS, probe

from isogloss.inference import generation
from isogloss.inference import predict as predict_module
from isogloss.inference.generation import Generated
from isogloss.inference.predict import predict
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.predictions.metrics import evaluation_metrics, position_bias, token_metrics
from isogloss.predictions.table import frame
from isogloss.prompts.answer_parser import answer_start, parse_answer
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt, reasoning_prompt
from isogloss.prompts.tokenisation import letter_tokens
from isogloss.tasks import Item


def naive_greedy(
    model: LanguageModel, context: str, budget: int, complete: Callable[[str], bool]
) -> str:
    """Greedy decoding of one text with full logits and without a cache."""
    ids = model.tokenizer(context).input_ids
    start = len(ids)
    for _ in range(budget):
        with torch.inference_mode():
            token = int(model.network(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
        text = model.tokenizer.decode(ids[start:], skip_special_tokens=True)
        if token == model.tokenizer.eos_token_id or complete(text):
            break
    return str(model.tokenizer.decode(ids[start:], skip_special_tokens=True))


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_batched_generation_equals_a_naive_greedy_loop(
    architecture: str, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(locate(str(model_folder(architecture))), "float32")
    items = probe("arb_Arab", "test", 3) + probe("eng_Latn", "test", 4)
    contexts = [prompt(item, Protocol("generate")).context for item in items]
    stops: list[Callable[[str], bool]] = [
        (lambda text, most=10 + 5 * at: len(text) > most) for at in range(len(items))
    ]
    expected = [
        naive_greedy(model, context, 24, stop)
        for context, stop in zip(contexts, stops, strict=True)
    ]
    heard: list[int] = []
    found = generation.generate(model, contexts, 24, stops, done=heard.append)
    assert [one.text for one in found] == expected
    for one, stop in zip(found, stops, strict=True):
        assert one.ended or not stop(one.text)
    assert sum(heard) == len(items)
    monkeypatch.setattr(generation, "TOKENS_PER_BATCH", 1)
    assert [one.text for one in generation.generate(model, contexts, 24, stops)] == expected
    monkeypatch.undo()
    model.shares = False
    assert [one.text for one in generation.generate(model, contexts, 24, stops)] == expected
    assert len({len(text) for text in expected}) > 1


def test_nothing_is_generated_from_nothing(tiny: LanguageModel) -> None:
    assert generation.generate(tiny, [], 8, []) == []


def test_a_generated_answer_is_read_and_the_forced_choice_is_kept_beside_it(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = probe("eng_Latn", "test", 4)
    said = [" B", f" {items[1].options[3]}\nQ: next", " none\nQ: next\nAnswer: A", " C."]
    monkeypatch.setattr(
        predict_module, "generate", lambda *_, **__: [Generated(one, True) for one in said]
    )
    found = predict(tiny, items, Protocol("generate"), "probe")
    forced = predict(tiny, items, Protocol("letter"), "probe")
    assert [one.greedy for one in found] == [1, 3, -1, 2]
    assert [one.prediction for one in found] == [1, 3, -1, 2]
    assert [one.valid for one in found] == [True, True, False, True]
    assert [one.text for one in found] == said
    for one, other, item in zip(found, forced, items, strict=True):
        assert one.correct == (one.greedy == item.answer)
        assert one.forced == other.prediction
        assert one.choice_logprobs == pytest.approx(other.choice_logprobs, abs=2e-4)
        assert one.gold_logprob == pytest.approx(other.gold_logprob, abs=2e-4)
        assert other.text is None
    values = evaluation_metrics(frame(found), "arb_Arab")
    assert values["unparsed/eng_Latn"] == 0.25
    assert values["format_valid/eng_Latn"] == 0.75
    assert "unparsed/eng_Latn" not in evaluation_metrics(frame(forced), "arb_Arab")


@pytest.mark.parametrize("format", ["letter", "cloze", "generate"])
def test_after_reasoning_choices_are_scored_behind_what_was_generated(
    format: str, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = probe("heb_Hebr", "test", 3)
    protocol = Protocol(format, reasoning="cot", max_new_tokens=12)
    texts = [" It says so.\nAnswer: C\n", " One may say (B)", " So:\nAnswer: A"]
    written = [Generated(text, text != texts[1]) for text in texts]
    monkeypatch.setattr(predict_module, "generate", lambda *_, **__: written)
    found = predict(tiny, items, protocol, "probe")
    for item, one, text in zip(items, found, texts, strict=True):
        before = text[: answer_start(text)].rstrip()
        context = f"{reasoning_prompt(item, protocol)}{before}\nAnswer:"
        choices = item.options if format == "cloze" else "ABCD"
        for choice, logprob in zip(choices, one.choice_logprobs, strict=True):
            ids = tiny.tokenizer(f"{context} {choice}").input_ids
            start = len(tiny.tokenizer(context).input_ids)
            with torch.inference_mode():
                logprobs_TV = tiny.network(torch.tensor([ids])).logits[0].log_softmax(-1)
            naive = logprobs_TV[range(start - 1, len(ids) - 1), ids[start:]].sum()
            assert logprob == pytest.approx(float(naive), abs=2e-4)
        read = parse_answer(text, item.options, ended=text != texts[1])
        assert one.greedy == (-1 if read is None else read)
        assert one.prediction == (one.greedy if format == "generate" else one.forced)
        assert one.text == text


def test_reasoning_in_earnest_keeps_what_was_generated(tiny: LanguageModel) -> None:
    protocol = Protocol("cloze", reasoning="cot", max_new_tokens=6)
    for one in predict(tiny, probe("eng_Latn", "test", 3), protocol, "probe"):
        assert one.text
        assert one.forced == one.prediction


def test_cloze_ranks_options_by_the_normalisation_asked_for(tiny: LanguageModel) -> None:
    items = probe("eng_Latn", "test", 12)
    found = {
        name: predict(tiny, items, Protocol("cloze", name), "probe")
        for name in ("none", "length", "unconditional")
    }
    bare = [Item("x", "x", item.language, "", "", item.options, 0) for item in items]
    for at, item in enumerate(items):
        raw = np.array(found["none"][at].choice_logprobs)
        assert found["length"][at].choice_logprobs == pytest.approx(raw.tolist(), abs=1e-9)
        assert found["none"][at].prediction == raw.argmax()
        assert found["none"][at].unconditional_logprobs is None
        lengths = np.array([len(option) for option in item.options])
        assert found["length"][at].prediction == (raw / lengths).argmax()
        offsets = []
        for option in bare[at].options:
            ids = tiny.tokenizer(f"Answer: {option}").input_ids
            start = len(tiny.tokenizer("Answer:").input_ids)
            with torch.inference_mode():
                logprobs_TV = tiny.network(torch.tensor([ids])).logits[0].log_softmax(-1)
            offsets.append(float(logprobs_TV[range(start - 1, len(ids) - 1), ids[start:]].sum()))
        one = found["unconditional"][at]
        assert one.unconditional_logprobs == pytest.approx(offsets, abs=2e-4)
        assert one.prediction == (raw - np.array(offsets)).argmax()
    assert len({tuple(one.prediction for one in rows) for rows in found.values()}) > 1


def test_options_that_are_the_same_are_both_scored(tiny: LanguageModel) -> None:
    item = Item("i", "p", "eng_Latn", "Text.", "What?", ("same", "same", "other"), 1)
    for format in ("letter", "cloze", "generate"):
        (one,) = predict(tiny, [item], Protocol(format, "unconditional"), "files")
        assert len(one.choice_logprobs) == 3
    assert letter_tokens(tiny.tokenizer, [item], Protocol("letter"))


def test_free_and_forced_accuracy_and_the_bias_of_positions_are_measured() -> None:
    answer, forced, greedy = (
        np.array(values) for values in ([0, 1, 2, 3], [0, 1, 1, 1], [0, -1, -1, 1])
    )
    assert position_bias(forced, answer) == pytest.approx(0.5)
    assert position_bias(answer, answer) == 0
    # The answers of the items that were answered are at 0 and 3, the choices at 0 and 1.
    assert position_bias(greedy, answer) == pytest.approx(0.5)
    assert math.isnan(position_bias(np.array([-1]), np.array([2])))


def test_tokens_per_word_and_item_are_those_of_the_passages(tiny: LanguageModel) -> None:
    items = probe("eng_Latn", "test", 4) + probe("zho_Hans", "test", 4)
    values = token_metrics(frame(predict(tiny, items, Protocol("cloze"), "probe")))
    for code in ("eng_Latn", "zho_Hans"):
        texts = [item.passage for item in items if item.language == code]
        tokens = [len(tiny.tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
        assert values[f"tokens_per_item/{code}"] == pytest.approx(sum(tokens) / 4)
        assert values[f"prompt_tokens/{code}"] > values[f"tokens_per_item/{code}"]
    words = sum(len(item.passage.split()) for item in items[:4])
    english = 4 * values["tokens_per_item/eng_Latn"] / words
    assert values["tokens_per_word/eng_Latn"] == pytest.approx(english)
    assert "tokens_per_word/zho_Hans" not in values
