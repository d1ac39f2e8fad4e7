"""Prediction: items presented to a model by a protocol, and its answers."""

import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from isogloss.compat.interfaces import Tokenizer
from isogloss.distributed import processes
from isogloss.errors import ModelError
from isogloss.inference.backend import Backend, InProcess
from isogloss.inference.generation import Generated, IsComplete
from isogloss.inference.progress import Progress, extrapolated, no_progress
from isogloss.inference.scoring import ItemScores
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.ranking import normalised_scores
from isogloss.predictions.table import Prediction
from isogloss.prompts.answer_parser import answer_start, parse_answer
from isogloss.prompts.answer_watch import AnswerWatch
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.reasoning_blocks import answer_part
from isogloss.prompts.render import (
    Prompt,
    after_reasoning,
    answer_labels,
    answer_words,
    prompt,
    reasoning_opened,
    reasoning_prompt,
    unconditional_prompt,
)
from isogloss.prompts.text_folding import first_line
from isogloss.prompts.tokenisation import EncodedPrompt, encode
from isogloss.tasks import Item
from isogloss.types import FloatArray, Format, Normalisation, Reasoning


@dataclass(frozen=True)
class _Request:
    """Items to predict and how; all processes receive it.

    `opened` is what prompts of reasoning end in.
    """

    items: Sequence[Item]
    protocol: Protocol
    task: str
    shortened: frozenset[tuple[str, str]]
    opened: str


class _Evidence(NamedTuple):
    """What the model computed about one item.

    `generated` is None where no text was generated, `unconditional` where options were not scored
    without their question.
    """

    scores: ItemScores
    unconditional: list[float] | None
    generated: Generated | None
    n_prompt_tokens: int
    n_tokens: int
    n_words: int


def predict(
    model: LanguageModel,
    items: Sequence[Item],
    protocol: Protocol,
    task: str,
    *,
    shortened: frozenset[tuple[str, str]] = frozenset(),
    progress: Progress = no_progress,
) -> list[Prediction]:
    """Predict the answers to items of any languages with the model's active adapter, in order.

    The prediction is, by format:

    - `letter`: the most likely label;
    - `cloze`: the option of highest log-likelihood, divided by its number of characters (`length`,
      lm-evaluation-harness's acc_norm), minus its log-likelihood without passage and question
      (`unconditional`, lighteval's LogProbPMINorm), or as it is (`none`);
    - `generate`: the option that the generated text names.

    With `cot` reasoning, each of these follows the model's own reasoning. `shortened` are the
    (language, item_id) of items whose passages were cut. `progress` is called with the number of
    items newly begun or finished. Several processes divide the passages among themselves.
    Raises ModelError for scores that are not finite.
    """
    request = _request(model.tokenizer, items, protocol, task, shortened)
    return processes.run_on_all(_predict_share, model, request, model.active, progress=progress)


def predict_with(
    backend: Backend,
    items: Sequence[Item],
    protocol: Protocol,
    task: str,
    *,
    shortened: frozenset[tuple[str, str]] = frozenset(),
    progress: Progress = no_progress,
) -> list[Prediction]:
    """`predict` with what `backend` computes, from this process alone."""
    request = _request(backend.tokenizer, items, protocol, task, shortened)
    return _predictions(backend, request, items, progress)


def _request(
    tokenizer: Tokenizer,
    items: Sequence[Item],
    protocol: Protocol,
    task: str,
    shortened: frozenset[tuple[str, str]],
) -> _Request:
    return _Request(items, protocol, task, shortened, _opened(tokenizer, protocol))


def _predict_share(
    model: LanguageModel, request: _Request, adapter: str | None, progress: Progress = no_progress
) -> list[Prediction]:
    """Predict this process's share of the items; return the predictions of all processes."""
    items = request.items
    if processes.count() == 1:
        return _predictions(InProcess(model), request, items, progress)
    passages: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        passages[item.language, item.passage_id].append(index)

    def n_characters(indices: list[int]) -> int:
        questions = sum(len(items[index].question) for index in indices)
        return len(items[indices[0]].passage) + questions

    shares = processes.split_work(list(passages.values()), n_characters)
    own = [index for indices in shares for index in indices]
    own_progress = extrapolated(progress, len(items), len(own))
    with nullcontext() if processes.is_leader() else model.using(adapter):
        own_items = [items[index] for index in own]
        own_predictions = _predictions(InProcess(model), request, own_items, own_progress)
    predictions: dict[int, Prediction] = {}
    for indices, share in processes.all_gather((own, own_predictions)):
        predictions.update(zip(indices, share, strict=True))
    return [predictions[index] for index in range(len(items))]


def _predictions(
    backend: Backend, request: _Request, items: Sequence[Item], progress: Progress
) -> list[Prediction]:
    """Predict `items`, which are all or some of the request's."""
    protocol = request.protocol
    prompts, generated = _prompts(backend, items, protocol, progress)
    encoded = encode(backend.tokenizer, prompts, chat=protocol.chat)
    scores = backend.score(
        prompts,
        encoded,
        items,
        no_progress if protocol.generates else progress,
        labels=protocol.shows_options,
    )
    unconditional = _unconditional(backend, items, protocol)
    _require_finite(items, scores, unconditional, generated)
    sizes = _tokens_and_words(backend.tokenizer, items)
    predictions = []
    for index, item in enumerate(items):
        evidence = _Evidence(
            scores[index],
            unconditional[index],
            generated[index],
            encoded[index].starts[0],
            *sizes[index],
        )
        predictions.append(_prediction(request, item, evidence))
    return predictions


def _require_finite(
    items: Sequence[Item],
    scores: Sequence[ItemScores],
    unconditional: Sequence[Sequence[float] | None],
    generated: Sequence[Generated | None],
) -> None:
    """Raise ModelError for an item whose scores or whose text come from NaN or infinite logits.

    Comparisons with NaN are false, so the first option would be the answer. A log-likelihood of
    minus infinity has no mean and no difference to another, even where a model has masked a token.
    """
    for item, entry, alone, text in zip(items, scores, unconditional, generated, strict=True):
        values = [*entry.loglikelihoods, *(alone or ())]
        wrong = [value for value in values if not math.isfinite(value)]
        if wrong or (text is not None and not text.finite):
            what = f"a log-likelihood of {wrong[0]}" if wrong else "a text from logits that are NaN"
            raise ModelError(
                f"item {item.item_id!r} in {item.language} has {what}; expected finite numbers "
                "(damaged weights or adapter, or an overflow that dtype float32 may avoid)."
            )


def _prompts(
    backend: Backend, items: Sequence[Item], protocol: Protocol, progress: Progress
) -> tuple[list[Prompt], Sequence[Generated | None]]:
    """Return the prompts by which choices are scored, and the texts generated for the items."""
    if protocol.reasoning == Reasoning.COT:
        contexts = [reasoning_prompt(item, protocol, backend.tokenizer) for item in items]
        opened = _opened(backend.tokenizer, protocol)
        generated = _generate(backend, items, contexts, protocol, progress)
        prompts = []
        for item, context, answer in zip(items, contexts, generated, strict=True):
            words = answer_words(item.language, protocol)
            labels = answer_labels(item.language, protocol)
            end = answer_start(answer.text, words, labels=labels, opened=opened)
            reasoning = answer.text[:end]
            prompts.append(after_reasoning(item, protocol, context, reasoning, opened))
        return prompts, generated
    prompts = [prompt(item, protocol, backend.tokenizer) for item in items]
    if not protocol.generates:
        return prompts, [None] * len(items)
    contexts = [entry.context for entry in prompts]
    return prompts, _generate(backend, items, contexts, protocol, progress)


def _generate(
    backend: Backend,
    items: Sequence[Item],
    contexts: Sequence[str],
    protocol: Protocol,
    progress: Progress,
) -> list[Generated]:
    """Generate an answer after each context, or reasoning and an answer with `cot`."""

    opened = _opened(backend.tokenizer, protocol)

    def completion(item: Item) -> IsComplete:
        words = answer_words(item.language, protocol)
        labels = answer_labels(item.language, protocol)
        if protocol.reasoning == Reasoning.COT:
            return AnswerWatch(words, labels, opened)
        return has_direct_answer

    return backend.generate(
        contexts,
        protocol.max_new_tokens,
        [completion(item) for item in items],
        chat=protocol.chat,
        progress=progress,
    )


def has_direct_answer(text: str) -> bool:
    """Whether the first line of a text is complete, after a block of reasoning if it has one."""
    start = answer_part(text)
    return start is not None and first_line(text[start:]) != text[start:].lstrip()


def _opened(tokenizer: Tokenizer, protocol: Protocol) -> str:
    """Return what prompts of reasoning end in; "" for direct answers, which begin in no block."""
    if protocol.reasoning != Reasoning.COT:
        return ""
    return reasoning_opened(protocol, tokenizer)


def _unconditional(
    backend: Backend, items: Sequence[Item], protocol: Protocol
) -> list[list[float] | None]:
    """Return log-likelihoods of the options without passage and question, if ranking needs them."""
    if protocol.shows_options or protocol.normalisation != Normalisation.UNCONDITIONAL:
        return [None] * len(items)
    prompts = [unconditional_prompt(item, protocol, backend.tokenizer) for item in items]
    encoded = encode(backend.tokenizer, prompts, chat=protocol.chat)
    # An option that many items have, such as a topic or a name, is scored once.
    pairs = [list(zip(entry.sequences, entry.starts, strict=True)) for entry in encoded]
    distinct = list(dict.fromkeys(pair for item_pairs in pairs for pair in item_pairs))
    single_prompts = {
        pair: entry._replace(continuations=(text,))
        for entry, item_pairs in zip(prompts, pairs, strict=True)
        for pair, text in zip(item_pairs, entry.continuations, strict=True)
    }
    # All of them begin with the answer word, but a tree of all options could have any size.
    single = [EncodedPrompt((sequence,), (start,)) for sequence, start in distinct]
    scores = backend.score([single_prompts[pair] for pair in distinct], single, (), no_progress)
    values = dict(zip(distinct, (entry.loglikelihoods[0] for entry in scores), strict=True))
    return [[values[pair] for pair in item_pairs] for item_pairs in pairs]


def _tokens_and_words(tokenizer: Tokenizer, items: Sequence[Item]) -> list[tuple[int, int]]:
    """Count tokens and words of each item's passage, or of its question if it has no passage."""
    texts = [item.passage or item.question for item in items]
    distinct = list(dict.fromkeys(texts))
    ids = tokenizer(distinct, add_special_tokens=False).input_ids if distinct else []
    n_tokens = dict(zip(distinct, map(len, ids), strict=True))
    return [(n_tokens[text], len(text.split())) for text in texts]


def _prediction(request: _Request, item: Item, evidence: _Evidence) -> Prediction:
    protocol = request.protocol
    loglikelihood_C: FloatArray = np.asarray(evidence.scores.loglikelihoods, dtype=np.float64)
    greedy = evidence.scores.greedy
    if evidence.generated is not None:
        greedy = _parsed(item, protocol, evidence.generated, request.opened)
    # A server may tell no log-probabilities; `frame` then leaves their columns out.
    forced, gold_logprob = greedy, math.nan
    if len(loglikelihood_C):
        ranked_C = ranking_scores(item, protocol, loglikelihood_C, evidence.unconditional)
        forced = int(ranked_C.argmax())
        total = np.logaddexp.reduce(loglikelihood_C)
        gold_logprob = float(loglikelihood_C[item.answer] - total)
    prediction = greedy if protocol.format == Format.GENERATE else forced
    return Prediction(
        task=request.task,
        language=item.language,
        format=protocol.format,
        item_id=item.item_id,
        passage_id=item.passage_id,
        answer=item.answer,
        prediction=prediction,
        correct=prediction == item.answer,
        valid=greedy >= 0,
        forced=forced,
        greedy=greedy,
        choice_logprobs=loglikelihood_C.tolist(),
        unconditional_logprobs=evidence.unconditional,
        gold_logprob=gold_logprob,
        format_mass=float(np.exp(loglikelihood_C).sum()) if protocol.shows_options else None,
        text=None if evidence.generated is None else evidence.generated.text,
        tokens=evidence.n_tokens,
        words=evidence.n_words,
        prompt_tokens=evidence.n_prompt_tokens,
        shortened=(item.language, item.item_id) in request.shortened,
        bounded=evidence.scores.bounded,
    )


def _parsed(item: Item, protocol: Protocol, generated: Generated, opened: str) -> int:
    """Return the option that a generated text chooses, -1 for none."""
    words = answer_words(item.language, protocol)
    labels = answer_labels(item.language, protocol)
    if protocol.reasoning == Reasoning.COT:
        choice = parse_answer(
            generated.text,
            item.options,
            words,
            labels=labels,
            ended=generated.ended,
            opened=opened,
        )
    else:
        # A direct answer is one line; base models continue with other text.
        start = answer_part(generated.text)
        line = "" if start is None else first_line(generated.text[start:])
        choice = parse_answer(line, item.options, words, labels=labels)
    return -1 if choice is None else choice


def ranking_scores(
    item: Item,
    protocol: Protocol,
    loglikelihood_C: FloatArray,
    unconditional_C: Sequence[float] | None,
) -> FloatArray:
    """Return the scores of which the first maximum is the choice: normalised log-likelihoods.

    See `predict`. In nats, per character with `length` normalisation.
    """
    if protocol.shows_options or protocol.normalisation == Normalisation.NONE:
        return loglikelihood_C
    return normalised_scores(loglikelihood_C, options=item.options, unconditional_C=unconditional_C)
