"""Predictions through an inference server, against those of this process."""

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import probe
from tiny_vllm import TinyVllm, serving

from isogloss.inference.answer_journal import Journal, usage_of
from isogloss.inference.predict import predict, predict_with
from isogloss.inference.served import Served, UnansweredError, until_complete
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.table import OF_SCORES, Prediction, frame
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import encode, hidden_tokens
from isogloss.servers.opening import open_server
from isogloss.servers.types import ServedText
from isogloss.tasks import Item


def served(
    tiny: TinyVllm, items: list[Item], protocol: Protocol, journal: Path, **engine: object
) -> list[Prediction]:
    server = open_server(tiny.engine(**engine))
    backend = Served(tiny.model.tokenizer, server, Journal(journal), items)
    return predict_with(backend, items, protocol, "probe")


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol("letter"),
        Protocol("cloze"),
        Protocol("cloze", normalisation="unconditional"),
        Protocol("generate", max_new_tokens=6),
        Protocol("letter", reasoning="cot", max_new_tokens=6),
    ],
    ids=["letter", "cloze", "unconditional", "generate", "cot"],
)
def test_a_server_gives_the_predictions_of_this_process(
    protocol: Protocol, tiny: LanguageModel, tmp_path: Path
) -> None:
    items = [*probe("eng_Latn", "test", 3), *probe("heb_Hebr", "test", 2)]
    expected = predict(tiny, items, protocol, "probe")
    with serving(tiny) as server:
        predictions = served(server, items, protocol, tmp_path / "journal")
    for here, there in zip(expected, predictions, strict=True):
        assert there.choice_logprobs == pytest.approx(here.choice_logprobs, abs=2e-4)
        assert there.unconditional_logprobs == pytest.approx(here.unconditional_logprobs, abs=2e-4)
        for name in ("prediction", "forced", "greedy", "text", "prompt_tokens", "tokens", "words"):
            assert getattr(there, name) == getattr(here, name), name
        assert not there.bounded


def test_items_without_an_answer_are_asked_about_again_and_no_others(
    tiny: LanguageModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items, journal = probe("eng_Latn", "test", 5), tmp_path / "journal"
    protocol = Protocol("letter")
    expected = predict(tiny, items, protocol, "probe")
    encoded = encode(tiny.tokenizer, [prompt(item, protocol, tiny.tokenizer) for item in items])
    prompts = [entry.sequences[0][: entry.starts[0]] for entry in encoded]
    with serving(tiny, refused={prompts[1], prompts[3]}) as server:
        with pytest.raises(UnansweredError) as raised:
            served(server, items, protocol, journal)
        assert (raised.value.count, raised.value.gone) == (2, False)
        assert "this prompt is refused" in raised.value.reason
        failed = [line for line in caplog.messages if line.startswith("no answer about eng_Latn")]
        assert len(failed) == 2
        # A process that was killed while it wrote has left half a line.
        whole = journal.read_bytes()
        journal.write_bytes(whole + whole.splitlines()[0][:40])
        server.refused = set()
        predictions = served(server, items, protocol, journal)
        asked = [tokens for tokens in server.asked if len(tokens) > 2]
    assert sorted(tokens for tokens in asked if tokens in prompts) == sorted(prompts)  # once each
    assert [entry.prediction for entry in predictions] == [entry.prediction for entry in expected]
    usage = usage_of([journal])
    assert usage.prompt_tokens == sum(map(len, asked))
    assert usage.generated_tokens == len(asked)
    assert usage.requests == len(asked) + 2


def test_a_server_that_is_gone_leaves_what_it_answered(tiny: LanguageModel, tmp_path: Path) -> None:
    items, journal = probe("eng_Latn", "test", 5), tmp_path / "journal"
    with serving(tiny) as server:
        opened = open_server(server.engine(concurrency=1))
        backend = Served(tiny.tokenizer, opened, Journal(journal), items)
        predict_with(backend, items[:2], Protocol("letter"), "probe")
    with pytest.raises(UnansweredError) as raised:
        predict_with(backend, items, Protocol("letter"), "probe")
    assert (raised.value.count, raised.value.gone) == (3, True)


def test_a_letter_that_the_server_leaves_out_has_a_bound(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    items = probe("eng_Latn", "test", 4)
    expected = predict(tiny, items, Protocol("letter"), "probe")
    with serving(tiny, exact=False, top=1) as server:
        predictions = served(server, items, Protocol("letter"), tmp_path / "journal")
    for here, there in zip(expected, predictions, strict=True):
        assert there.bounded
        for bound, value in zip(there.choice_logprobs, here.choice_logprobs, strict=True):
            assert value - 1e-4 <= bound <= 0


def test_a_server_without_log_probabilities_gives_texts_and_no_scores(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    items, protocol = probe("eng_Latn", "test", 3), Protocol("generate", max_new_tokens=6)
    expected = predict(tiny, items, protocol, "probe")
    with serving(tiny) as server:
        opened = open_server(server.engine())
        mute = replace(opened.facts, top=0, exact=False)
        opened.target = replace(opened.target, facts=mute)
        backend = Served(tiny.tokenizer, opened, Journal(tmp_path / "journal"), items)
        predictions = predict_with(backend, items, protocol, "probe")
    for here, there in zip(expected, predictions, strict=True):
        assert (there.text, there.prediction) == (here.text, here.prediction)
    assert not set(OF_SCORES) & set(frame(predictions).columns)
    assert set(OF_SCORES) <= set(frame(expected).columns)


def test_a_text_ends_where_its_answer_is_complete(tiny: LanguageModel) -> None:
    tokenizer = tiny.tokenizer
    (ids,) = tokenizer(["Answer: B\nand more"], add_special_tokens=False).input_ids
    hidden = hidden_tokens(tokenizer)
    complete = lambda text: "\n" in text
    with_ids = until_complete(ServedText("", False, tuple(ids)), tokenizer, hidden, complete)
    without = until_complete(ServedText("Answer: B\nand more", False), tokenizer, hidden, complete)
    cut_off = until_complete(ServedText("Answer", False), tokenizer, hidden, complete)
    assert with_ids.text.startswith("Answer: B\n")
    assert "and more" not in with_ids.text
    assert with_ids.ended
    assert without == ("Answer: B\n", True, True)
    assert cut_off == ("Answer", False, True)
