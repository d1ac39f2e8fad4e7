"""How many processes compute as one, and which of them this is; `processes` sets both.

A module of its own, since `processes` imports torch, which takes seconds that a command without a
model does not need.
"""

from dataclasses import dataclass


@dataclass
class World:
    """The number of processes and the number of this one; 0 is the leader."""

    size: int = 1
    rank: int = 0


world = World()
