"""Tokens across the join of prompt and choice: all of a choice is scored, from one position."""

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from isogloss.errors import ModelError
from isogloss.inference.predict import predict
from isogloss.inference.reference import reference_scores
from isogloss.inference.scoring import score
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import Prompt, prompt
from isogloss.prompts.tokenisation import EncodedPrompt, encode, label_tokens, prefix_tokens
from isogloss.tasks import Item
from isogloss.training.batches import training_rows
from isogloss.types import Normalisation

SCRIPTS = {
    "English": ("What is it? Answer", (" the red house", " a house", " 10", " 1")),
    "Thai": ("คำถาม: นี่คืออะไร คำตอบ", (" บ้านสีแดง", " บ้าน", " น้ำ", " ๑๐")),
    "Chinese": ("问题:这是什么?答案", ("红色的房子", "房子", "水", "十")),
    "Arabic": ("السُّؤَالُ: مَا هَذَا؟ الجَوَابُ", (" بَيْتٌ أَحْمَرُ", " بَيْتٌ", "ٌ", " مَاءٌ")),
    "Devanagari": ("प्रश्न: यह क्या है? उत्तर", (" लाल घर", "ि", " पानी", " घर")),
}
ENDS = (":", ": ", ":  ", ":\n", ":\n\n", ": \n", "")
CORPUS = [
    f"{context}{end}{option}" for context, options in SCRIPTS.values()
    for end in ENDS for option in (*options, "A", "B", "C", "D", " A", " B", " C", " D")
]  # fmt: skip


def byte_level_bpe() -> Tokenizer:
    """Merges across the colon and spaces: the pre-tokenizer does not split."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def split_byte_level_bpe() -> Tokenizer:
    """As in GPT-2: words with the space before them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def unigram() -> Tokenizer:
    """As in SentencePiece: spaces are part of the words after them, with a prefix space."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def unsplit_unigram() -> Tokenizer:
    """As in multilingual SentencePiece models whose pieces cross words."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    return tokenizer


def wordpiece() -> Tokenizer:
    """No token for spaces; pieces inside a word are other tokens than at its start."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


TOKENIZERS: dict[str, tuple[Callable[[], Tokenizer], Callable[..., object]]] = {
    "byte-level BPE": (byte_level_bpe, trainers.BpeTrainer),
    "split byte-level BPE": (split_byte_level_bpe, trainers.BpeTrainer),
    "Unigram": (unigram, trainers.UnigramTrainer),
    "unsplit Unigram": (unsplit_unigram, trainers.UnigramTrainer),
    "WordPiece": (wordpiece, trainers.WordPieceTrainer),
}


@cache
def trained_once(name: str) -> PreTrainedTokenizerFast:
    make, trainer = TOKENIZERS[name]
    tokenizer = make()
    options: dict[str, object] = {"unk_token": "<unk>"} if "Unigram" in name else {}
    if "BPE" in name:
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS,
        trainer(
            vocab_size=500,
            special_tokens=["<bos>", "<eos>", "<unk>"],
            show_progress=False,
            **options,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def trained(name: str) -> PreTrainedTokenizerFast:
    """A trained tokenizer that a test may change."""
    return copy.deepcopy(trained_once(name))


def encode_pair(tokenizer: PreTrainedTokenizerFast, context: str, continuation: str):  # type: ignore[no-untyped-def]
    """`TemplateLM._encode_pair` of lm-evaluation-harness 0.4.9, for decoders."""
    n_spaces = len(context) - len(context.rstrip())
    if n_spaces > 0:
        continuation = context[-n_spaces:] + continuation
        context = context[:-n_spaces]
    whole = tokenizer.encode(context + continuation, add_special_tokens=False)
    context_ids = tokenizer.encode(context, add_special_tokens=False)
    return context_ids, whole[len(context_ids) :]


CASES = [
    pytest.param(name, language, end, letters, id=f"{name}, {language}, {end!r}{letters}")
    for name in TOKENIZERS
    for language in SCRIPTS
    for end in ENDS
    for letters in ("options", "A", " A")
]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    return {name: trained(name) for name in TOKENIZERS}


@pytest.mark.parametrize(("name", "language", "end", "letters"), CASES)
def test_every_choice_is_scored_whole_and_from_one_position(
    tokenizers: dict[str, PreTrainedTokenizerFast],
    name: str,
    language: str,
    end: str,
    letters: str,
) -> None:
    tokenizer = tokenizers[name]
    context, options = SCRIPTS[language]
    choices = {"options": options, "A": tuple("ABCD"), " A": (" A", " B", " C", " D")}[letters]
    entry = Prompt(context + end, choices)
    (encoded,) = encode(tokenizer, [entry])
    (start,) = set(encoded.starts)
    texts = [entry.context + choice for choice in choices]
    ids = [tokenizer(text).input_ids for text in texts]
    assert [list(sequence) for sequence in encoded.sequences] == ids
    context_ids = tokenizer(entry.context).input_ids
    scored = [sequence[start:] for sequence in ids]
    assert all(scored)
    assert all(sequence[:start] == context_ids[:start] for sequence in ids)
    # The longest such beginning: one more token, and something would differ.
    assert start == len(context_ids) or len({*(seq[start] for seq in ids), context_ids[start]}) > 1
    for choice, tokens in zip(choices, scored, strict=True):
        theirs_context, theirs = encode_pair(tokenizer, entry.context, choice)
        stable = all(seq[1 : 1 + len(theirs_context)] == theirs_context for seq in ids)
        if stable and (entry.context.rstrip() == entry.context or start == 1 + len(theirs_context)):
            assert tokens == theirs
        elif stable:  # a token of spaces alone, before every choice
            spaces = theirs[: len(theirs) - len(tokens)]
            assert theirs[len(spaces) :] == tokens
            assert context_ids[1 + len(theirs_context) :][: len(spaces)] == spaces


def test_the_cases_cross_the_join(tokenizers: dict[str, PreTrainedTokenizerFast]) -> None:
    crossing = set()
    for name, tokenizer in tokenizers.items():
        for context, options in SCRIPTS.values():
            for end in ENDS:
                entry = Prompt(context + end, options)
                (encoded,) = encode(tokenizer, [entry])
                if encoded.starts[0] < len(tokenizer(entry.context).input_ids):
                    crossing.add(name)
    assert crossing >= {"byte-level BPE", "unsplit Unigram", "Unigram"}


@pytest.mark.parametrize("name", ["byte-level BPE", "unsplit Unigram"])
@pytest.mark.parametrize("end", [": ", ":"])
def test_scores_equal_full_logits_of_the_whole_minus_those_of_the_shared_beginning(
    tiny: LanguageModel, tokenizers: dict[str, PreTrainedTokenizerFast], name: str, end: str
) -> None:
    tiny.tokenizer = tokenizers[name]
    context, options = SCRIPTS["English"]
    entry = Prompt(context + end, options)
    encoded = encode(tiny.tokenizer, [entry])
    item = Item("i", "p", "eng_Latn", "", "", options, 0)
    (scores,) = score(tiny, encoded, [item], share=True)
    reference = reference_scores(tiny, entry)
    assert scores.loglikelihoods == pytest.approx(reference.loglikelihoods, abs=2e-4)
    start = encoded[0].starts[0]
    for sequence, value in zip(encoded[0].sequences, scores.loglikelihoods, strict=True):
        ids = torch.tensor([sequence])
        logprobs = tiny.network(input_ids=ids).logits[0].double().log_softmax(-1)
        whole = sum(float(logprobs[at - 1, sequence[at]]) for at in range(start, len(sequence)))
        assert value == pytest.approx(whole, abs=2e-4)
        assert value < 0


def test_training_has_the_targets_that_are_scored(
    tiny: LanguageModel, tokenizers: dict[str, PreTrainedTokenizerFast]
) -> None:
    tiny.tokenizer = tokenizers["byte-level BPE"]
    tiny.tokenizer = copy.deepcopy(tiny.tokenizer)
    tiny.tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    protocol = Protocol("cloze", chat=True)
    # Alone, " 10" would begin after the space; together with " the red house" it does not.
    items = [
        Item("i", "p", "eng_Latn", "", "What is it?", ("the red house", "a house", "10", "1"), n)
        for n in range(4)
    ]
    prompts = [prompt(item, protocol, tiny.tokenizer) for item in items]
    encoded = encode(tiny.tokenizer, prompts, chat=True)
    rows = training_rows(tiny, items, protocol)
    targets = [[token for _, token in row.targets] for row in rows]
    expected = [
        list(entry.sequences[item.answer][entry.starts[item.answer] :])
        for entry, item in zip(encoded, items, strict=True)
    ]
    assert [token for row in targets for token in row] == [t for row in expected for t in row]


def test_options_without_their_question_are_scored_from_one_position(
    tiny: LanguageModel, tokenizers: dict[str, PreTrainedTokenizerFast]
) -> None:
    tiny.tokenizer = tokenizers["byte-level BPE"]
    protocol = Protocol("cloze", normalisation=Normalisation.UNCONDITIONAL)
    options = ("the red house", "a house", "10", "1")
    item = Item("i", "p", "eng_Latn", "", "What is it?", options, 0)
    (prediction,) = predict(tiny, [item], protocol, "probe")
    reference = reference_scores(tiny, Prompt("Answer:", tuple(f" {text}" for text in options)))
    assert prediction.unconditional_logprobs == pytest.approx(reference.loglikelihoods, abs=2e-4)


def test_letters_after_a_template_that_ends_in_a_space_are_their_whole_tokens(
    tokenizers: dict[str, PreTrainedTokenizerFast],
) -> None:
    tokenizer = copy.deepcopy(tokenizers["Unigram"])
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    item = Item("i", "p", "eng_Latn", "", "What is it?", ("red", "green"), 0)
    letters = label_tokens(tokenizer, [item], Protocol("letter", chat=True))
    a, b = tokenizer([" A", " B"], add_special_tokens=False).input_ids
    assert letters == f"'A' {a}, 'B' {b}"


REFUSED = {
    "no tokens": (("red", "\u200b"), "has no tokens for the choice '\\\\u200b'"),
    "unknown": (("ཁང", "ཆུ"), "does not distinguish the choices 'ཁང' and 'ཆུ'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_choices_that_the_tokenizer_loses_are_refused(case: str) -> None:
    tokenizer = trained("WordPiece")
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    choices, message = REFUSED[case]
    with pytest.raises(ModelError, match=message):
        encode(tokenizer, [Prompt("What is it? ", choices)])


def test_choices_that_a_reader_would_not_distinguish_either_are_scored() -> None:
    tokenizer = trained("Unigram")  # NFKC: ① is 1
    (encoded,) = encode(tokenizer, [Prompt("What:", (" 1", " ①", " house"))])
    assert encoded.sequences[0] == encoded.sequences[1] != encoded.sequences[2]


def with_special_tokens(single: str) -> PreTrainedTokenizerFast:
    tokenizer = trained("Unigram")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("<bos>", 0), ("<eos>", 1), ("<unk>", 2)]
    )
    return tokenizer


@pytest.mark.parametrize(
    ("single", "prefix"),
    [
        ("$A", []),
        ("<bos> $A", [0]),
        ("<bos> $A <eos>", [0]),
        ("$A <eos>", []),
        ("<eos> $A", [1]),
        ("<unk> <bos> $A", [2, 0]),
    ],
)
def test_what_a_tokenizer_adds_before_a_text_is_kept_and_after_it_left_out(
    single: str, prefix: list[int]
) -> None:
    tokenizer = with_special_tokens(single)
    assert prefix_tokens(tokenizer, chat=False) == prefix
    assert prefix_tokens(tokenizer, chat=True) == []
    plain = tokenizer("What: A", add_special_tokens=False).input_ids
    (encoded,) = encode(tokenizer, [Prompt("What:", (" A", " B"))])
    assert list(encoded.sequences[0]) == prefix + plain
    assert isinstance(encoded, EncodedPrompt)


def test_a_tokenizer_that_ends_every_text_is_refused() -> None:
    class Ending:
        """Adds token 1 after every text."""

        bos_token_id = None

        def __call__(self, texts: list[str], *, add_special_tokens: bool = True) -> object:
            rows = [[*map(ord, text), 1] for text in texts]
            return type("Encodings", (), {"input_ids": rows})

        def decode(self, ids: list[int]) -> str:
            return "</s>"

    with pytest.raises(ModelError, match="ends every text with '</s>'"):
        encode(Ending(), [Prompt("What:", (" A", " B"))])
