"""Prefix trees of token sequences: a prefix that several sequences share is stored once.

The questions about one passage share the passage, the options of one question share the prompt.
`forward` runs a whole tree through a model in one pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from isogloss.types import BoolArray, IntArray

ROOT = -1


@dataclass
class TokenTree:
    """A prefix tree of token sequences; node i is token `tokens[i]` at depth `depths[i]`.

    `parents[i]` is the node before it, ROOT for a first token. Parents precede their children.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    def insert(self, sequence: Sequence[int]) -> list[int]:
        """Add a sequence and return its nodes; a prefix that is in the tree is reused."""
        node = ROOT
        path: list[int] = []
        for token in sequence:
            parent, node = node, self.children.get((node, token), ROOT)
            if node == ROOT:
                node = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(parent)
                self.depths.append(len(path))
                self.children[parent, token] = node
            path.append(node)
        return path

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether the tree is a single sequence without branches."""
        return self.depths == list(range(len(self)))

    def paths_to(self, nodes: Sequence[int]) -> list[list[int]]:
        """Paths from the root that together contain `nodes`, as few and as short as possible."""
        paths: list[list[int]] = []
        reached: set[int] = set()
        for node in sorted(nodes, key=self.depths.__getitem__, reverse=True):
            if node in reached:
                continue
            path = [node]
            while (parent := self.parents[path[-1]]) != ROOT:
                path.append(parent)
            paths.append(path[::-1])
            reached.update(path)
        return paths

    def branches(self) -> list[tuple[int, IntArray]]:
        """The runs of nodes that follow their parents, each with its path from the root.

        A pair has the number of nodes of the path that are not of the run, and the whole path.
        """
        parents = np.asarray(self.parents, dtype=np.int64)
        starts = np.flatnonzero(parents != np.arange(len(self)) - 1).tolist()
        paths: list[tuple[int, IntArray]] = []
        run_of: IntArray = np.empty(len(self), dtype=np.int64)
        bounds = [0, *starts, len(self)]
        for run, (start, end) in enumerate(pairwise(bounds)):
            run_of[start:end] = run
            parent = int(parents[start])
            own: IntArray = np.arange(start, end)
            if parent == ROOT:
                paths.append((0, own))
                continue
            before = paths[run_of[parent]][1][: self.depths[parent] + 1]
            paths.append((len(before), np.concatenate([before, own])))
        return paths

    def ancestors(self) -> BoolArray:
        """[T, T] boolean: whether the node of the column is the node of the row or its ancestor."""
        ancestors_TT = np.eye(len(self), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent != ROOT:
                ancestors_TT[node] |= ancestors_TT[parent]
        return ancestors_TT
