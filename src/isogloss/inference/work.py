"""Work of scoring and of training, counted from prompts: what `costs` needs of items."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

from isogloss.costs.operations import Work
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.tasks import Item


def scoring_work(items: Sequence[Item], encoded: Sequence[EncodedPrompt]) -> Work:
    """The work of scoring all choices, where prompts of a language and passage share computation.

    The head, and the output of the last layer, are needed at the tokens before those of choices.
    """
    choices = [range(len(entry.sequences)) for entry in encoded]
    return _work(items, encoded, choices)


def training_work(items: Sequence[Item], encoded: Sequence[EncodedPrompt]) -> Work:
    """The work of training on the right choice of each item once; every layer is whole."""
    return _work(items, encoded, [[item.answer] for item in items])._replace(last=None)


def _work(
    items: Sequence[Item], encoded: Sequence[EncodedPrompt], choices: Sequence[Sequence[int]]
) -> Work:
    trees: dict[Hashable, TokenTree] = defaultdict(TokenTree)
    needed = set()
    for item, entry, chosen in zip(items, encoded, choices, strict=True):
        passage = (item.language, item.passage_id)
        for choice in chosen:
            path = trees[passage].insert(entry.sequences[choice][:-1])
            needed |= {(passage, node) for node in path[entry.starts[choice] - 1 :]}
    tokens = sum(map(len, trees.values()))
    pairs = sum(sum(tree.depths) + len(tree) for tree in trees.values())
    return Work(tokens, len(needed), len(needed), pairs / tokens if tokens else 0.0)
