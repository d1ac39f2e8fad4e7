"""Context windows: prompts that are too long are rejected, or their passages cut."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import probe

from isogloss.config import SharedConfig
from isogloss.errors import DataError, ModelError
from isogloss.inference.context_window import check_fit, context_window, fit, fit_to_model
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt, reasoning_prompt

PROTOCOLS = [
    Protocol("letter"),
    Protocol("cloze"),
    Protocol("generate", max_new_tokens=16),
    Protocol("letter", reasoning="cot", max_new_tokens=40),
    Protocol("cloze", prompt_language="target"),
]


def longest(model: LanguageModel, item: object, protocol: Protocol) -> int:
    if protocol.reasoning == "cot":
        context = reasoning_prompt(item, protocol) + "\nAnswer:"
        texts = [f"{context} {letter}" for letter in "ABCD"]
    else:
        entry = prompt(item, protocol)
        texts = [entry.context + text for text in entry.continuations]
    budget = protocol.max_new_tokens if protocol.generates else 0
    return max(len(model.tokenizer(text).input_ids) for text in texts) + budget


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_prompts_that_fit_stay_as_they_are_and_longer_ones_are_rejected_by_name(
    protocol: Protocol, tiny: LanguageModel
) -> None:
    items = probe("heb_Hebr", "test", 6)
    needed = [longest(tiny, item, protocol) for item in items]
    assert fit(items, tiny.tokenizer, protocol, max(needed), "refuse").items == items
    worst = needed.index(max(needed))
    count = needed.count(max(needed))
    message = rf"^{count} of 6 prompts .* {max(needed) - 1:,} tokens"
    with pytest.raises(DataError, match=message) as caught:
        fit(items, tiny.tokenizer, protocol, max(needed) - 1, "refuse")
    assert repr(items[worst].item_id) in str(caught.value)
    assert f"({max(needed):,} tokens)" in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_the_check_without_weights_refuses_what_the_model_would_refuse(
    protocol: Protocol, tiny: LanguageModel
) -> None:
    items = [*probe("heb_Hebr", "test", 6), *probe("eng_Latn", "test", 6)]
    needed = max(longest(tiny, item, protocol) for item in items)
    for window in (needed, needed - 1):
        config = SharedConfig(max_length=window)
        outcomes = []
        for check in (
            lambda config=config: fit_to_model(items, tiny, protocol, config),
            lambda config=config: check_fit(
                items, tiny.network.config, tiny.tokenizer, protocol, config
            ),
        ):
            try:
                outcomes.append(check() and None)
            except DataError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]
        assert (outcomes[0] is None) == (window == needed)


def test_a_token_without_an_embedding_is_found_without_weights(tiny: LanguageModel) -> None:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=40))
    with pytest.raises(ModelError, match=r"model 'embedded' has 40 embeddings, but .* item"):
        check_fit(
            probe("eng_Latn", "test", 2), config, tiny.tokenizer, Protocol("letter"), SharedConfig()
        )


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_shortening_cuts_only_passages_from_their_ends_and_no_more_than_needed(
    protocol: Protocol, tiny: LanguageModel
) -> None:
    items = probe("heb_Hebr", "test", 6)
    needed = [longest(tiny, item, protocol) for item in items]
    window = sorted(needed)[2] + 1
    fitted = fit(items, tiny.tokenizer, protocol, window, "shorten")
    long = {
        (item.language, item.item_id) for item, n in zip(items, needed, strict=True) if n > window
    }
    assert fitted.shortened == long != set()
    for item, shorter in zip(items, fitted.items, strict=True):
        assert replace(shorter, passage=item.passage) == item
        assert longest(tiny, shorter, protocol) <= window
        if (item.language, item.item_id) not in long:
            assert shorter == item
        else:
            assert item.passage.startswith(shorter.passage)
            one_more = item.passage[: len(shorter.passage) + 8]
            assert longest(tiny, replace(item, passage=one_more), protocol) > window


def test_a_question_that_does_not_fit_without_its_passage_is_rejected(tiny: LanguageModel) -> None:
    items = probe("eng_Latn", "test", 2)
    with pytest.raises(DataError, match="even without its passage"):
        fit(items, tiny.tokenizer, Protocol("letter"), 8, "shorten")


def test_the_window_is_the_models_or_a_smaller_maximum_length(tiny: LanguageModel) -> None:
    assert context_window(tiny, None) == 4096
    assert context_window(tiny, 100) == 100
    assert context_window(tiny, 10**6) == 4096
    tiny.tokenizer.model_max_length = 512
    assert context_window(tiny, None) == 512


def test_three_items_are_named_and_the_others_counted(tiny: LanguageModel) -> None:
    items = probe("eng_Latn", "test", 5)
    for n_items, others in ((3, r"tokens\); long"), (5, r"tokens\) and 2 more; long")):
        with pytest.raises(DataError, match=others) as caught:
            fit(items[:n_items], tiny.tokenizer, Protocol("letter"), 8, "refuse")
        named = [item.item_id for item in items if repr(item.item_id) in str(caught.value)]
        assert named == [item.item_id for item in items[:3]]
