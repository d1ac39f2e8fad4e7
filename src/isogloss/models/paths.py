"""Paths: which fast computations give a model's own logits, found by trying them on it.

The model's own pass of one sequence, without batch, cache or padding, is what every other
computation is compared with. A path that fails or differs is not used: the result is the same,
later. Suffixes of names: N selected positions, T tokens, V vocabulary.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import resources

import torch

from isogloss.compat.transformers import attention_replaceable, rescaling_length
from isogloss.distributed import processes
from isogloss.errors import ModelError
from isogloss.models.forward import hidden_states
from isogloss.models.language_model import Batching, LanguageModel, Paths
from isogloss.models.lm_head import logits
from isogloss.models.memory import out_of_memory
from isogloss.models.prefix_tree import TokenTree

logger = logging.getLogger(__name__)

# What a model raises that has no such inputs or modules, or is built otherwise.
MISFITS = (
    AssertionError, AttributeError, ImportError, IndexError, KeyError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
STEM, BRANCHES = 10, (4, 6)  # tokens of the two sequences that are tried: a stem and two ends
LIMIT = 2e-3  # of the relative error of logits in float32, in every position
ROUNDED_LIMIT = 0.1  # of the median error in bfloat16, which sends tokens to other experts
CANDIDATES = (
    Paths(Batching.TREE, apart=True),
    Paths(Batching.PADDED, apart=True),
    Paths(Batching.PADDED),
    Paths(Batching.SINGLE, apart=True),
)


def can_share(model: LanguageModel) -> bool:
    """Whether the model gives the tokens of a tree the outputs it gives their sequences alone."""
    return proven_paths(model).batching == Batching.TREE


def proven_paths(model: LanguageModel) -> Paths:
    """The fastest paths that give the model's own logits; tried once per model.

    Raises ModelError if the model cannot be run on text alone, if its logits are not finite, or if
    they depend on later tokens: then it is no causal language model.
    """
    if model.paths is None:
        paths = _prove(model)
        model.paths = replace(paths, longest=rescaling_length(model.network))
        if paths.batching != Batching.TREE:
            logger.info(f"{model.location.name}: {DESCRIPTIONS[paths.batching]} (slower)")
    return model.paths


DESCRIPTIONS = {
    Batching.PADDED: "its attention cannot share prefixes; every sequence is a row of its own",
    Batching.SINGLE: "its results depend on the batch; every sequence is computed separately",
}


@cache
def tree_architectures() -> frozenset[str]:
    """Model types whose trees gave their own logits beyond windows, chunks and other limits.

    Written by `scripts.architectures`. A short trial cannot show what begins at some length.
    """
    text = resources.files("isogloss.models").joinpath("tree_architectures.txt").read_text("utf-8")
    return frozenset(text.split())


def trial_sequences(model: LanguageModel) -> list[list[int]]:
    """Two sequences of tokens from all parts of the vocabulary, with a common beginning."""
    vocabulary = min(len(model.tokenizer), model.network.config.get_text_config().vocab_size)
    spread = [vocabulary * (at + 1) // 32 for at in range(STEM + sum(BRANCHES))]
    stem, first, second = (
        spread[:STEM],
        spread[STEM : STEM + BRANCHES[0]],
        spread[STEM + BRANCHES[0] :],
    )
    return [stem + first, stem + second]


def same_logits(
    model: LanguageModel, logits_NV: torch.Tensor, expected_NV: torch.Tensor, parts: Sequence[int]
) -> bool:
    """Whether logits are those expected up to rounding, which has no effect on their mean.

    `parts` are the numbers of positions that are judged together: in bfloat16 by their medians.
    """
    logits_NV, expected_NV = _centred(logits_NV), _centred(expected_NV)
    if logits_NV.shape != expected_NV.shape or not bool(logits_NV.isfinite().all()):
        return False
    errors_N = (logits_NV - expected_NV).norm(dim=-1)
    errors_N /= expected_NV.norm(dim=-1).clamp(min=1e-6)
    if model.dtype == torch.float32:
        return bool(errors_N.max() < LIMIT)
    medians = (part.median() for part in torch.split(errors_N, list(parts)))
    return all(bool(median < ROUNDED_LIMIT) for median in medians)


def _centred(logits_NV: torch.Tensor) -> torch.Tensor:
    """Logits less their mean; masked tokens, at minus infinity, become zero in both."""
    logits_NV = logits_NV.float().cpu()
    masked_NV = logits_NV == -torch.inf
    logits_NV = logits_NV.masked_fill(masked_NV, 0.0)
    mean_N1 = logits_NV.sum(-1, keepdim=True) / (~masked_NV).sum(-1, keepdim=True)
    return (logits_NV - mean_N1).masked_fill(masked_NV, 0.0)


@processes.no_gradients
def _prove(model: LanguageModel) -> Paths:
    sequences = trial_sequences(model)
    first_TV, second_TV = own = _own_logits(model, sequences)
    if not all(bool((logits_TV < torch.inf).all()) for logits_TV in own):  # false for NaN
        other = "" if model.dtype_name == "float32" else ", or try dtype float32"
        raise ModelError(
            f"model {model.location.name!r} gives logits that are NaN or infinite in "
            f"{model.dtype_name}; expected finite ones (damaged weights{other})."
        )
    if not same_logits(model, first_TV[:STEM], second_TV[:STEM], [STEM]):
        raise ModelError(
            f"model {model.location.name!r} ({model.network.config.model_type}) is not a "
            "causal language model: its logits change with later tokens, or from pass to pass."
        )
    expected_NV = torch.cat([second_TV, first_TV[STEM:]])
    try:
        for candidate in CANDIDATES:
            model.paths = candidate
            if candidate.batching == Batching.TREE and not _tree_allowed(model):
                continue
            if _gives(model, sequences, expected_NV):
                return candidate
    finally:
        model.paths = None
    return Paths()


def _own_logits(model: LanguageModel, sequences: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """The logits [T, V] of each sequence in a pass of its own; ModelError if there are none."""
    model.paths = Paths()
    trees = [TokenTree() for _ in sequences]
    chains = [tree.insert(row) for tree, row in zip(trees, sequences, strict=True)]
    try:
        return [
            logits(model, hidden_states(model, [tree], [chain])).float().cpu()
            for tree, chain in zip(trees, chains, strict=True)
        ]
    except MISFITS as error:
        if out_of_memory(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"model {model.location.name!r} ({model.network.config.model_type}) cannot be run on "
            f"text alone in {model.dtype_name} ({reason})."
        ) from error
    finally:
        model.paths = None


def _tree_allowed(model: LanguageModel) -> bool:
    """Whether trees are exact at any length: for this architecture, with these windows."""
    listed = model.network.config.model_type in tree_architectures()
    return listed and attention_replaceable(model.network)


def _gives(
    model: LanguageModel, sequences: Sequence[Sequence[int]], expected_NV: torch.Tensor
) -> bool:
    """Whether the paths of the model give the logits of the second sequence and the first's end."""
    if model.paths == replace(Paths(), batching=Batching.SINGLE):
        return True
    tree = TokenTree()
    first, second = (tree.insert(sequence) for sequence in sequences)
    nodes = second + first[STEM:]
    ends = [len(second) - 1, len(second) - 2, len(nodes) - 1, len(nodes) - 2]  # few: see `forward`
    try:
        all_NV = logits(model, hidden_states(model, [tree], [nodes]))
        ends_NV = logits(model, hidden_states(model, [tree], [[nodes[end] for end in ends]]))
    except MISFITS as error:
        if out_of_memory(error):
            raise
        return False
    return same_logits(
        model,
        torch.cat([all_NV.float().cpu(), ends_NV.float().cpu()]),
        torch.cat([expected_NV, expected_NV[ends]]),
        [STEM, BRANCHES[1], BRANCHES[0], len(ends)],
    )
