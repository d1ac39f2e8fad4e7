"""Asking: items put to a model by a protocol, and its answers as predictions."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np

from isogloss.distributed import processes
from isogloss.inference.generation import Generated, generate
from isogloss.inference.scoring import score
from isogloss.models.forward import can_share
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.table import Prediction
from isogloss.prompts.answer_parser import answer_start, is_complete, parse_answer
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import (
    Prompt,
    after_reasoning,
    answer_words,
    prompt,
    reasoning_prompt,
    unconditional_prompt,
)
from isogloss.prompts.text_folding import first_line
from isogloss.prompts.tokenisation import encode
from isogloss.tasks import Item
from isogloss.types import FloatArray, Format, Normalisation, Reasoning

Done = Callable[[int], object]


def predict(
    model: LanguageModel,
    items: Sequence[Item],
    protocol: Protocol,
    task: str,
    *,
    shortened: frozenset[tuple[str, str]] = frozenset(),
    done: Done = lambda count: None,
) -> list[Prediction]:
    """Answers to items of any languages under the model as it stands, in the order of the items.

    In `letter` format the choice is the likeliest letter. In `cloze` it is the option with the
    highest log-likelihood, divided by its characters (`length`: lm-evaluation-harness's acc_norm)
    or less its log-likelihood without passage and question (`unconditional`: lighteval's
    LogProbPMINorm), or as it is (`none`). In `generate` it is what the generated text says. With
    `cot` all of them come after the model's own reasoning. `shortened` are the (language, item_id)
    whose passages were cut; `done` is told how many more items are in progress or finished.
    Several processes share the passages.
    """
    return processes.run_on_all(
        _shared, model, items, protocol, task, shortened, model.active, done=done
    )


def _shared(
    model: LanguageModel,
    items: Sequence[Item],
    protocol: Protocol,
    task: str,
    shortened: frozenset[tuple[str, str]],
    adapter: str | None,
    done: Done = lambda count: None,
) -> list[Prediction]:
    if processes.count() == 1:
        return _predictions(model, items, protocol, task, shortened, done)
    passages: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, item in enumerate(items):
        passages[item.language, item.passage_id].append(at)

    def size(members: list[int]) -> int:
        asked = [items[at] for at in members]
        return len(asked[0].passage) + sum(len(item.question) for item in asked)

    mine = [at for members in processes.split_work(list(passages.values()), size) for at in members]
    with nullcontext() if processes.is_leader() else model.using(adapter):
        made = _predictions(
            model, [items[at] for at in mine], protocol, task, shortened,
            _as_of_all(done, len(items), len(mine)),
        )  # fmt: skip
    found: dict[int, Prediction] = {}
    for places, predictions in processes.all_gather((mine, made)):
        found.update(zip(places, predictions, strict=True))
    return [found[at] for at in range(len(items))]


def _as_of_all(done: Done, n_items: int, n_mine: int) -> Done:
    """Tell `done` of all items by the progress of those of this process."""
    finished = told = 0

    def more(count: int) -> None:
        nonlocal finished, told
        finished += count
        now = round(n_items * finished / n_mine)
        done(now - told)
        told = now

    return more


def _predictions(
    model: LanguageModel,
    items: Sequence[Item],
    protocol: Protocol,
    task: str,
    shortened: frozenset[tuple[str, str]],
    done: Done,
) -> list[Prediction]:
    texts: list[Generated] = []
    if protocol.reasoning == Reasoning.COT:
        contexts = [reasoning_prompt(item, protocol, model.tokenizer) for item in items]
        texts = _write(model, items, contexts, protocol, done)
        prompts = [
            after_reasoning(item, protocol, context, _reasoning(item, protocol, written.text))
            for item, context, written in zip(items, contexts, texts, strict=True)
        ]
    else:
        prompts = [prompt(item, protocol, model.tokenizer) for item in items]
        if protocol.generates:
            texts = _write(model, items, [entry.context for entry in prompts], protocol, done)
    encoded = encode(model.tokenizer, prompts, chat=protocol.chat)
    share = can_share(model)
    heard: Done = (lambda count: None) if texts else done
    scores = score(model, encoded, items, share, heard, float32_head=protocol.shows_options)
    unconditional = _unconditional(model, items, protocol)
    sizes = _sizes(model, items)
    predictions = []
    for at, (item, scored) in enumerate(zip(items, scores, strict=True)):
        loglikelihood_C: FloatArray = np.asarray(scored.loglikelihoods, dtype=np.float64)
        forced = int(_ranked(item, protocol, loglikelihood_C, unconditional[at]).argmax())
        greedy = scored.greedy
        if texts:
            words = answer_words(item.language, protocol)
            if protocol.reasoning == Reasoning.COT:
                read = parse_answer(texts[at].text, item.options, words, ended=texts[at].ended)
            else:
                # A direct answer is one line; what a base model goes on with is no part of it.
                read = parse_answer(first_line(texts[at].text), item.options, words)
            greedy = -1 if read is None else read
        choice = greedy if protocol.format == Format.GENERATE else forced
        letters_shown = protocol.shows_options
        predictions.append(
            Prediction(
                task=task,
                language=item.language,
                format=protocol.format,
                item_id=item.item_id,
                passage_id=item.passage_id,
                answer=item.answer,
                prediction=choice,
                correct=choice == item.answer,
                valid=greedy >= 0,
                forced=forced,
                greedy=greedy,
                choice_logprobs=loglikelihood_C.tolist(),
                unconditional_logprobs=unconditional[at],
                gold_logprob=float(
                    loglikelihood_C[item.answer] - np.logaddexp.reduce(loglikelihood_C)
                ),
                format_mass=float(np.exp(loglikelihood_C).sum()) if letters_shown else None,
                text=texts[at].text if texts else None,
                tokens=sizes[at][0],
                words=sizes[at][1],
                prompt_tokens=encoded[at].starts[0],
                shortened=(item.language, item.item_id) in shortened,
            )
        )
    return predictions


def _write(
    model: LanguageModel,
    items: Sequence[Item],
    contexts: Sequence[str],
    protocol: Protocol,
    done: Done,
) -> list[Generated]:
    """What the model writes after each context: an answer, with `cot` reasoning before it."""

    def complete(item: Item) -> Callable[[str], bool]:
        words = answer_words(item.language, protocol)
        if protocol.reasoning == Reasoning.COT:
            return lambda text: is_complete(text, words)
        return lambda text: first_line(text) != text.lstrip()

    return generate(
        model,
        contexts,
        protocol.max_new_tokens,
        [complete(item) for item in items],
        chat=protocol.chat,
        done=done,
    )


def _reasoning(item: Item, protocol: Protocol, text: str) -> str:
    """The generated text up to its answer, all of it if it came to none."""
    return text[: answer_start(text, answer_words(item.language, protocol))]


def _ranked(
    item: Item,
    protocol: Protocol,
    loglikelihood_C: FloatArray,
    unconditional_C: Sequence[float] | None,
) -> FloatArray:
    if protocol.shows_options or protocol.normalisation == Normalisation.NONE:
        return loglikelihood_C
    if unconditional_C is not None:
        offset_C: FloatArray = np.asarray(unconditional_C, dtype=np.float64)
        return loglikelihood_C - offset_C
    lengths = [len(option) for option in item.options]
    length_C: FloatArray = np.asarray(lengths, dtype=np.float64)
    return loglikelihood_C / length_C


def _unconditional(
    model: LanguageModel, items: Sequence[Item], protocol: Protocol
) -> list[list[float] | None]:
    """Log-likelihoods of each item's options without passage and question, if they are wanted."""
    if protocol.shows_options or protocol.normalisation != Normalisation.UNCONDITIONAL:
        return [None] * len(items)
    prompts = [unconditional_prompt(item, protocol, model.tokenizer) for item in items]
    # One option of many items, as a topic or a name, is scored once.
    distinct = {
        (entry.context, option): Prompt(entry.context, (option,))
        for entry in prompts
        for option in entry.continuations
    }
    encoded = encode(model.tokenizer, list(distinct.values()), chat=protocol.chat)
    blanks = [Item(str(at), "", "", "", "", ("",), 0) for at in range(len(encoded))]
    # `blanks` have one passage in common, but a tree of all options could be any size.
    scores = score(model, encoded, blanks, share=False)
    values = dict(zip(distinct, (scored.loglikelihoods[0] for scored in scores), strict=True))
    return [[values[entry.context, option] for option in entry.continuations] for entry in prompts]


def _sizes(model: LanguageModel, items: Sequence[Item]) -> list[tuple[int, int]]:
    """Tokens and words of each item's passage, or of its question where it has none."""
    texts = [item.passage or item.question for item in items]
    distinct = list(dict.fromkeys(texts))
    ids = model.tokenizer(distinct, add_special_tokens=False).input_ids if distinct else []
    tokens = dict(zip(distinct, map(len, ids), strict=True))
    return [(tokens[text], len(text.split())) for text in texts]
