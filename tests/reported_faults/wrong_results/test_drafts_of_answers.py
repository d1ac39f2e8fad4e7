"""What a model writes in a block of reasoning is a draft, and no answer."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_templates import GPT_OSS, QWEN_3_THINKING
from conftest import probe

from isogloss.inference import backend
from isogloss.inference.generation import Generated
from isogloss.inference.predict import has_direct_answer, predict
from isogloss.inference.reference import reference_scores
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.answer_parser import answer_start, is_complete, parse_answer
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.reasoning_blocks import open_block
from isogloss.prompts.render import Prompt, prompt, reasoning_prompt
from isogloss.prompts.tokenisation import decoded, hidden_tokens
from isogloss.training.batches import training_rows

OPTIONS = ("Rome", "Paris", "New York", "York")
ANALYSIS, END = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"

# text, how its prompt ends, answer, where the answer begins
CASES = {
    "draft": ("<think>Answer: B\nBut", "", None, None),
    "draft, opened by the prompt": ("Answer: B\nBut", "<think>\n", None, None),
    "draft, closed": ("<think>Answer: B</think>\n\n", "", None, None),
    "answer after a draft": ("<think>Answer: B</think>\n\nC.", "", 2, None),
    "answer with a marker": ("So B.</think>\nAnswer: C\n", "<think>\n", 2, "Answer"),
    "closed, never opened": ("Answer: B</think>\nAnswer: C\n", "", 2, "Answer"),
    "two blocks": ("<think>A</think>Answer: B\n<think>Answer: C", "", None, None),
    "Mistral": ("[THINK]Answer: B[/THINK]Answer: C", "", 2, "Answer"),
    "Mistral, open": ("[THINK]Answer: B", "", None, None),
    "Cohere": ("Answer: B<|END_THINKING|><|START_RESPONSE|>Answer: C", "<|START_THINKING|>", 2, "Answer"),
    "gpt-oss": (f"{ANALYSIS}Answer: B{END}{FINAL}Answer: C", "<|start|>assistant", 2, "Answer"),
    "gpt-oss, open": (f"{ANALYSIS}Answer: B", "<|start|>assistant", None, None),
    "gpt-oss, between": (f"{ANALYSIS}Answer: B{END}", "<|start|>assistant", None, None),
    "plain": ("So it is Paris. Answer: B\n", "", 1, "Answer"),
    "not a block": ("I think [think] Answer: B\n", "", 1, "Answer"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_only_what_follows_the_reasoning_is_an_answer(case: str) -> None:
    text, opened, answer, marker = CASES[case]
    for ended in (True, False) if answer is None else (True,):
        assert parse_answer(text, OPTIONS, ended=ended, opened=opened) == answer
    start = answer_start(text, opened=opened)
    assert start == (None if marker is None else text.rindex(marker))
    assert is_complete(f"{text}\n", opened=opened) is (marker is not None)


def test_a_direct_answer_may_follow_an_empty_block() -> None:
    assert not has_direct_answer("<think>\n")
    assert not has_direct_answer("<think>\nB\n")
    assert not has_direct_answer("<think>\n\n</think>\n\n")
    assert has_direct_answer("<think>\n\n</think>\n\nB\n")
    assert has_direct_answer("B\nC")


@pytest.fixture
def thinker(model_folder: Callable[[str], Path]) -> LanguageModel:
    """A tiny model whose template opens a block of reasoning."""
    model = load(locate(str(model_folder("llama"))), "float32")
    model.tokenizer = copy.deepcopy(model.tokenizer)
    model.tokenizer.chat_template = QWEN_3_THINKING
    return model


TEXTS = {
    "draft": ("So it is {B}.\nAnswer: B\nOr not", -1, "So it is {B}.\nAnswer: B\nOr not\n</think>"),
    "answer": ("It is {B}.\nAnswer: B\n</think>\n\nAnswer: C\n", 2, "It is {B}.\nAnswer: B\n</think>"),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("format", ["letter", "generate"])
def test_a_prediction_counts_the_answer_and_not_the_draft(
    thinker: LanguageModel, case: str, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, answer, scored_after = TEXTS[case]
    item = probe("eng_Latn", "test", 1)[0]
    protocol = Protocol(format, chat=True, reasoning="cot", max_new_tokens=64)
    contexts: list[str] = []

    def generate(
        model: LanguageModel, prompts: list[str], *arguments: object, **options: object
    ) -> list[Generated]:
        contexts.extend(prompts)
        return [Generated(text, answer >= 0)]

    monkeypatch.setattr(backend, "generate", generate)
    (prediction,) = predict(thinker, [item], protocol, "probe")
    context = reasoning_prompt(item, protocol, thinker.tokenizer)
    assert contexts == [context]
    assert context.endswith("assistant\n<think>\n")
    assert (prediction.greedy, prediction.valid) == (answer, answer >= 0)
    entry = Prompt(f"{context}{scored_after}\nAnswer:", (" A", " B", " C", " D"))
    reference = reference_scores(thinker, entry, chat=True)
    assert prediction.choice_logprobs == pytest.approx(reference.loglikelihoods, abs=2e-4)


def test_marks_of_reasoning_stay_in_generated_text_if_they_are_special_tokens(
    thinker: LanguageModel,
) -> None:
    tokenizer = thinker.tokenizer
    assert hidden_tokens(tokenizer) is None
    ids = tokenizer(["Answer: B<eos>"], add_special_tokens=False).input_ids
    assert decoded(tokenizer, ids, None) == ["Answer: B"]
    marks = ["<|start|>", "<|end|>", "<|channel|>", "<|message|>", "<|call|>", "[THINK]"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    text = f"{ANALYSIS}Answer: B{END}{FINAL}[THINK]C<|call|><eos>"
    ids = tokenizer([text], add_special_tokens=False).input_ids
    hidden = hidden_tokens(tokenizer)
    assert decoded(tokenizer, ids, hidden) == [text.removesuffix("<|call|><eos>")]


def test_an_end_of_a_turn_alone_does_not_stay(thinker: LanguageModel) -> None:
    thinker.tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    assert hidden_tokens(thinker.tokenizer) is None


def test_the_direct_letters_of_gpt_oss_are_scored_in_the_final_channel(
    thinker: LanguageModel,
) -> None:
    thinker.tokenizer.chat_template = GPT_OSS
    item = probe("eng_Latn", "test", 1)[0]
    (prediction,) = predict(thinker, [item], Protocol("letter", chat=True), "probe")
    letter = Protocol("letter", chat=True)
    context = prompt(item, letter, thinker.tokenizer).context
    assert context.endswith(f"<|start|>assistant{FINAL}")
    reference = reference_scores(thinker, Prompt(context, tuple("ABCD")), chat=True)
    assert prediction.choice_logprobs == pytest.approx(reference.loglikelihoods, abs=2e-4)


@pytest.mark.parametrize("template", [QWEN_3_THINKING, GPT_OSS])
def test_training_targets_the_answer_where_it_is_scored(
    thinker: LanguageModel, template: str
) -> None:
    thinker.tokenizer.chat_template = template
    item = probe("eng_Latn", "train", 1)[0]
    protocol = Protocol("letter", chat=True)
    (row,) = training_rows(thinker, [item], protocol)
    ((node, target),) = row.targets
    path = row.tree.paths_to([node])[0]
    text = thinker.tokenizer.decode([row.tree.tokens[at] for at in path])
    assert text == prompt(item, protocol, thinker.tokenizer).context
    assert open_block(text) is None
    assert text.endswith(("</think>\n\n", FINAL))
    assert thinker.tokenizer.decode([target]) == "ABCD"[item.answer]
