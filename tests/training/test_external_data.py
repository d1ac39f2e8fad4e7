"""What external trainers read is, to the token, what this process trains on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import transformers
from chat_templates import CHATML, LLAMA_3, QWEN_3
from conftest import probe

from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.training.batches import training_rows
from isogloss.training.external_data import IGNORED, exactness, recipe_facts, trainer_items
from isogloss.training.recipe import Recipe
from isogloss.types import Format

ITEMS = probe("arb_Arab", "train", 6)
WITH_BOS = "{{ bos_token }}" + CHATML


def in_process(model: LanguageModel, protocol: Protocol) -> list[tuple[list[int], list[int]]]:
    """The tokens of each item's path in the training tree, and those with a loss."""
    rows = []
    for item in ITEMS:  # one by one, so that a tree is a single path
        (row,) = training_rows(model, [item], protocol)
        last = row.targets[-1][1]
        rows.append(([*row.tree.tokens, last], [token for _, token in row.targets]))
    return rows


def with_template(model: LanguageModel, template: str | None) -> LanguageModel:
    model.tokenizer.chat_template = template
    return model


PROTOCOLS = {
    "cloze": (Protocol(Format.CLOZE), None),
    "letter": (Protocol(Format.LETTER), None),
    "chat": (Protocol(Format.LETTER, chat=True), CHATML),
    "chat with a beginning of sequence": (Protocol(Format.CLOZE, chat=True), WITH_BOS),
    "chat that would reason": (Protocol(Format.LETTER, chat=True), QWEN_3),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_token_rows_are_what_this_process_trains_on(tiny: LanguageModel, name: str) -> None:
    protocol, template = PROTOCOLS[name]
    model = with_template(tiny, template)
    rows = trainer_items(ITEMS, protocol, model.tokenizer).tokens
    assert [
        (row.input_ids, [label for label in row.labels if label != IGNORED]) for row in rows
    ] == in_process(model, protocol)
    for row in rows:
        assert len(row.labels) == len(row.input_ids)
        start = row.labels.count(IGNORED)
        assert row.labels == [IGNORED] * start + row.input_ids[start:]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_prompt_and_completion_tokenise_to_the_same(tiny: LanguageModel, name: str) -> None:
    protocol, template = PROTOCOLS[name]
    model = with_template(tiny, template)
    items = trainer_items(ITEMS, protocol, model.tokenizer)
    same = [
        model.tokenizer([f"{row.prompt}{row.completion}"]).input_ids[0] == tokens.input_ids
        for row, tokens in zip(items.texts, items.tokens, strict=True)
    ]
    # The test tokenizer begins every text, and only one of the templates does.
    begins = name in ("cloze", "letter", "chat with a beginning of sequence")
    assert all(same) == begins
    assert exactness(items, protocol, model.tokenizer).text == begins


@pytest.mark.parametrize(
    ("template", "exact"), [(CHATML, True), (WITH_BOS, True), (QWEN_3, False), (LLAMA_3, False)]
)
def test_chats_are_exact_if_the_template_alone_gives_the_prompt(
    tiny: LanguageModel, template: str, exact: bool
) -> None:
    """Qwen 3 would train on an empty block of reasoning, Llama 3.1 prints today's date."""
    protocol = Protocol(Format.LETTER, chat=True)
    model = with_template(tiny, template)
    items = trainer_items(ITEMS, protocol, model.tokenizer)
    assert exactness(items, protocol, model.tokenizer).chat == exact


def test_without_a_template_messages_are_the_prompt_and_are_not_called_exact(
    tiny: LanguageModel,
) -> None:
    protocol = Protocol(Format.LETTER)
    items = trainer_items(ITEMS, protocol, tiny.tokenizer)
    assert items.users == [row.prompt for row in items.texts]
    assert exactness(items, protocol, tiny.tokenizer) == (True, False)


def test_a_tokenizer_that_ends_texts_is_exact_up_to_there(
    tiny: LanguageModel, tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    content["post_processor"]["single"].append({"SpecialToken": {"id": "<eos>", "type_id": 0}})
    content["post_processor"]["special_tokens"]["<eos>"] = {
        "id": "<eos>", "ids": [1], "tokens": ["<eos>"],
    }  # fmt: skip
    file.write_text(json.dumps(content), encoding="utf-8")
    ending = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ending(["a"]).input_ids[0][-1] == 1
    protocol = Protocol(Format.LETTER)
    items = trainer_items(ITEMS, protocol, ending)
    assert items.tokens == trainer_items(ITEMS, protocol, tiny.tokenizer).tokens
    assert exactness(items, protocol, ending).text


def test_files_hold_one_item_a_line(tiny: LanguageModel, tmp_path: Path) -> None:
    items = trainer_items(ITEMS, Protocol(Format.LETTER), tiny.tokenizer)
    paths = [tmp_path / name for name in ("text", "chat", "tokens")]
    items.write(*paths)
    text, chat, tokens = (
        [json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in paths
    )
    assert len(text) == len(chat) == len(tokens) == len(ITEMS)
    assert text[0] == items.texts[0]._asdict()
    assert [turn["role"] for turn in chat[0]["messages"]] == ["user", "assistant"]
    assert chat[0]["messages"][1]["content"] == text[0]["completion"]
    assert tokens[0]["input_ids"] == items.tokens[0].input_ids
    assert tokens[0]["attention_mask"] == [1] * len(tokens[0]["labels"])


def test_a_recipe_has_what_a_trainer_needs(tiny: LanguageModel) -> None:
    protocol = Protocol(Format.LETTER)
    items = trainer_items(ITEMS, protocol, tiny.tokenizer)
    facts = recipe_facts(
        replace(Recipe(), steps=30, seed=3), protocol, exactness(items, protocol, tiny.tokenizer),
        model={"path": "m"},
    )  # fmt: skip
    assert facts["hyperparameters"] == {
        "steps": 30, "batch_size": 16, "learning_rate": 5e-4, "rank": 16, "alpha": 32,
        "dropout": 0.0, "target_modules": "all-linear", "seed": 3, "warmup_steps": 3,
        "schedule": "linear", "optimizer": "adamw", "weight_decay": 0.0, "max_gradient_norm": 1.0,
    }  # fmt: skip
    assert facts["exact"] == {"text": True, "chat": False, "tokens": True}
    assert facts["model"] == {"path": "m"}
