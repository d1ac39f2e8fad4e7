"""Prompts of chat templates: the same every day, with the question, and outside of reasoning."""

import copy
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import chat_templates as templates
import pytest
from conftest import probe
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from isogloss.config import EvaluateConfig
from isogloss.errors import ModelError
from isogloss.prompts import chat
from isogloss.prompts.chat import TEMPLATE_DATE, chat_format, dated
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.reasoning_blocks import open_block
from isogloss.prompts.render import (
    after_reasoning,
    prompt,
    reasoning_opened,
    reasoning_prompt,
    unconditional_prompt,
)
from isogloss.stages.evaluation_plan import plan_evaluation
from isogloss.stages.session import Session
from isogloss.tasks import Item

ITEM = Item("i", "p", "eng_Latn", "The cat\n sat. ", "Who sat? ", ("a cat ", "dogs", "no one"), 0)
LETTER = Protocol("letter", chat=True)
COT = Protocol("letter", chat=True, reasoning="cot", max_new_tokens=64)
USER = prompt(ITEM, Protocol("letter")).context

WithTemplate = Callable[[str], PreTrainedTokenizerFast]


@pytest.fixture
def with_template(tokenizer: PreTrainedTokenizerFast) -> WithTemplate:
    """A function that gives a tokenizer with that chat template."""

    def tokenizer_with(template: str) -> PreTrainedTokenizerFast:
        own = copy.deepcopy(tokenizer)
        own.chat_template = template
        return own

    return tokenizer_with


def after_question(tokenizer: PreTrainedTokenizerFast) -> str:
    return prompt(ITEM, LETTER, tokenizer).context.rpartition(USER)[2]


DIRECT = {
    "CHATML": "<|im_end|>\n<|im_start|>assistant\n",
    "LLAMA_3": "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "GPT_OSS": "<|end|><|start|>assistant<|channel|>final<|message|>",
    "QWEN_3": "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "QWEN_3_THINKING": "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "DEEPSEEK_R1": "<｜Assistant｜><think>\n\n</think>\n\n",
    "DEEPSEEK_31": "<｜Assistant｜></think>",
    "GLM_45": "/nothink<|assistant|>\n<think></think>",
    "GRANITE": "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    "SMOLLM_3": "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n",
    "COHERE": (
        "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
        "<|START_THINKING|><|END_THINKING|><|START_RESPONSE|>"
    ),
    "SEED_OSS": "<seed:eos><seed:bos>assistant\n<seed:think>\n</seed:think>",
    "MISTRAL": " [/INST]",
    "LIST_CONTENT": "<end><|assistant|>",
    "LIST_CONTENT_STRICT": "<end><|assistant|>",
}
REASONING = {
    **DIRECT,
    "GPT_OSS": "<|end|><|start|>assistant",
    "QWEN_3": "<|im_end|>\n<|im_start|>assistant\n",
    "QWEN_3_THINKING": "<|im_end|>\n<|im_start|>assistant\n<think>\n",
    "DEEPSEEK_R1": "<｜Assistant｜><think>\n",
    "DEEPSEEK_31": "<｜Assistant｜><think>",
    "GLM_45": "<|assistant|>",
    "SMOLLM_3": "<|im_end|>\n<|im_start|>assistant\n",
    "COHERE": ("<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>"),
    "SEED_OSS": "<seed:eos><seed:bos>assistant\n",
}


@pytest.mark.parametrize("name", DIRECT)
def test_a_direct_answer_follows_the_question_outside_of_reasoning(
    with_template: WithTemplate, name: str
) -> None:
    tokenizer = with_template(getattr(templates, name))
    assert after_question(tokenizer) == DIRECT[name]
    assert open_block(DIRECT[name]) is None
    alone = unconditional_prompt(ITEM, Protocol("cloze", chat=True), tokenizer)
    assert alone.context.endswith(f"Answer:{DIRECT[name]}")


@pytest.mark.parametrize("name", REASONING)
def test_with_chain_of_thought_thinking_is_on(with_template: WithTemplate, name: str) -> None:
    tokenizer = with_template(getattr(templates, name))
    context = reasoning_prompt(ITEM, COT, tokenizer)
    assert context.endswith(REASONING[name])
    assert reasoning_opened(COT, tokenizer) == REASONING[name]
    assert "The cat\n sat. " in context
    assert ("Think between" in context) is (name == "GRANITE")
    # The choices are scored after the reasoning, outside of it.
    for reasoning in ("", "So it is the cat.", "So.\n"):
        scored = after_reasoning(ITEM, COT, context, reasoning, REASONING[name]).context
        assert open_block(scored[len(context) - len(REASONING[name]) :]) is None
        assert scored.endswith("\nAnswer:")
        assert reasoning.strip() in scored


def test_a_block_that_the_model_leaves_open_is_closed_before_the_choices(
    with_template: WithTemplate,
) -> None:
    context, opened = "Q<think>\n", "<think>\n"
    assert after_reasoning(ITEM, COT, context, "A cat.", opened).context == (
        "Q<think>\nA cat.\n</think>\nAnswer:"
    )
    analysis = "<|channel|>analysis<|message|>A cat."
    assert after_reasoning(ITEM, COT, "<|start|>assistant", analysis, "").context == (
        "<|start|>assistant<|channel|>analysis<|message|>A cat."
        "<|end|><|start|>assistant<|channel|>final<|message|>\nAnswer:"
    )
    closed = "<think>A cat.</think>\n\nThe cat."
    assert after_reasoning(ITEM, COT, "Q", closed).context == f"Q{closed}\nAnswer:"


def test_a_block_without_a_known_end_is_refused(with_template: WithTemplate) -> None:
    template = templates.CHATML.replace("assistant\n", "assistant\n<|deep_think_mode|>")
    with pytest.raises(ModelError, match=r"'<\|deep_think_mode\|>'.*chat=off"):
        prompt(ITEM, LETTER, with_template(template))
    assert reasoning_prompt(ITEM, COT, with_template(template)).endswith("<|deep_think_mode|>")


BLOCKS = {
    "<think>\n": "\n</think>\n\n",
    "<think>": "</think>",
    "<think>\nSo": "\n</think>\n\n",
    "<think>\nSo\n": "</think>\n\n",
    "<thinking>": "</thinking>",
    "<thought>\n": "\n</thought>\n\n",
    "<reasoning>\n": "\n</reasoning>\n\n",
    "[THINK]": "[/THINK]",
    "<seed:think>": "</seed:think>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|channel>thought\n": "\n<channel|>\n\n",
    "<unused94>thought": "<unused95>",
    "<|channel|>analysis<|message|>": "<|end|><|start|>assistant<|channel|>final<|message|>",
}


@pytest.mark.parametrize("opening", BLOCKS)
def test_an_open_block_is_found_and_ended_in_its_own_form(opening: str) -> None:
    block = open_block(f"<user>What?<assistant>{opening}")
    assert block is not None
    assert block.ending == BLOCKS[opening]
    assert open_block(f"{opening}{block.ending}") is None


@pytest.mark.parametrize(
    "text",
    ["", "I think so", "[think]", "a < b think > c", "<no_think>", "</think>", "<think></think>B"],
)
def test_other_text_is_in_no_block(text: str) -> None:
    assert open_block(text) is None


class Tomorrow(datetime):
    """Another day than any on which the tests run."""

    @classmethod
    def now(cls, tz: object = None) -> "Tomorrow":  # type: ignore[override]
        return cls(2099, 3, 9, 21, 45, 59)


DATES = {"LLAMA_3": "26 Jul 2024", "GPT_OSS": "2024-07-26", "SMOLLM_3": "26 July 2024"}


@pytest.mark.parametrize("name", DATES)
def test_a_prompt_is_the_same_on_every_day(
    with_template: WithTemplate, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = with_template(getattr(templates, name))
    today = prompt(ITEM, LETTER, tokenizer).context
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    chat_template_utils._compile_jinja_template.cache_clear()
    assert "2099" in with_template("{{ strftime_now('%Y') }}").apply_chat_template(
        [{"role": "user", "content": ""}], tokenize=False
    )
    chat._format.cache_clear()
    assert prompt(ITEM, LETTER, tokenizer).context == today
    assert f"ate: {DATES[name]}" in today
    assert chat_format(tokenizer, thinking=False).date == TEMPLATE_DATE
    assert chat_format(with_template(templates.QWEN_3), thinking=False).date is None


@pytest.mark.parametrize(
    "directives",
    ["%Y-%m-%d", "%d %b %Y", "%A, %B %-d, %Y", "%a %d/%m/%y", "%F %T", "%H:%M:%S", "%I:%M %p",
     "%D", "%c", "%j", "%R", "%e %h"],
)  # fmt: skip
def test_the_fixed_date_is_written_as_strftime_writes_it(
    with_template: WithTemplate, directives: str
) -> None:
    template = dated(f"  {{% if true %}}\n{{{{ strftime_now('{directives}') }}}}{{% endif %}}")
    rendered = with_template("").apply_chat_template(
        [{"role": "user", "content": ""}], chat_template=template, tokenize=False
    )
    assert rendered == datetime(2024, 7, 26).strftime(directives)


def test_a_template_without_a_date_is_not_changed() -> None:
    assert dated(templates.QWEN_3) is templates.QWEN_3


def test_a_template_that_draws_random_numbers_is_refused(with_template: WithTemplate) -> None:
    template = templates.CHATML + "{{ ['a', 'b'] | random }}"
    with pytest.raises(ModelError, match="differently each time"):
        prompt(ITEM, LETTER, with_template(template))


@pytest.mark.parametrize("name", DIRECT)
def test_passage_question_and_options_are_in_every_prompt(
    with_template: WithTemplate, name: str
) -> None:
    tokenizer = with_template(getattr(templates, name))
    for item in probe("arb_Arab", "test", 4):
        shown = prompt(item, LETTER, tokenizer).context
        assert prompt(item, Protocol("letter")).context in shown
        assert shown.count(item.passage) == 1


LEFT_OUT = {
    "nothing of it": "{% for m in messages %}<{{ m.role }}>{% endfor %}<assistant>",
    "its first line": "{% for m in messages %}{{ m.content.split('\n')[-1] }}{% endfor %}",
    "its end": "{% for m in messages %}{{ m.content[:20] }}{% endfor %}<assistant>",
    "escaped": "{% for m in messages %}{{ m.content | tojson }}{% endfor %}<assistant>",
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_template_that_leaves_out_the_question_is_refused(
    with_template: WithTemplate, case: str
) -> None:
    with pytest.raises(ModelError, match=r"leaves out.*; set chat=off to use no template\.$"):
        prompt(ITEM, LETTER, with_template(LEFT_OUT[case]))


def test_a_template_that_changes_the_text_of_one_item_is_refused_by_its_name(
    with_template: WithTemplate,
) -> None:
    template = templates.CHATML.replace("m.content", "m.content.split('</think>')[-1]")
    tokenizer = with_template(template)
    assert after_question(tokenizer) == DIRECT["CHATML"]
    item = Item("j", "p", "eng_Latn", "a </think> b", "Who?", ("x", "y"), 0)
    with pytest.raises(ModelError, match="of item 'j' in eng_Latn"):
        prompt(item, LETTER, tokenizer)


def test_a_template_that_strips_the_text_or_its_spaces_is_used(
    with_template: WithTemplate,
) -> None:
    template = templates.CHATML.replace("m.content", "(m.content.split() | join(' '))")
    shown = prompt(ITEM, LETTER, with_template(template)).context
    assert "P: The cat sat. Q: Who sat? A: a cat B: dogs C: no one Answer:" in shown


def test_the_fingerprint_and_the_tags_have_the_date_only_where_it_is_printed(
    model_folder: Callable[[str], Path], with_template: WithTemplate, tmp_path: Path
) -> None:
    config = EvaluateConfig(languages=("heb_Hebr",), limit=2)
    fingerprints = []
    for name, date in (("QWEN_3", None), ("LLAMA_3", TEMPLATE_DATE)):
        folder = tmp_path / name
        folder.mkdir()
        for path in model_folder("llama").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "chat_template.jinja").write_text(getattr(templates, name))
        session = Session(str(folder), "float32")
        plan = plan_evaluation(config, session, None)
        assert plan.protocol.template_date == date
        assert ("template_date" in plan.protocol.as_dict()) is (date is not None)
        assert Protocol.from_dict(plan.protocol.as_dict()) == plan.protocol
        tags = session.run_tags(config, plan.task, plan.protocol, plan.condition).as_dict()
        assert tags.get("template_date") == date
        fingerprints.append(plan.fingerprint)
    assert all(left != right for left, right in pairwise(fingerprints))
