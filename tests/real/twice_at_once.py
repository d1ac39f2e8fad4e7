"""Start two commands at once, round after round; what is there must be what they leave in turn.

    python -m real.twice_at_once [PAIR...] --model FOLDER --folder FOLDER [--rounds N]

Two equal commands must leave what one of them leaves: their work is done once. Of two that differ,
what they leave one after the other, in one of the two orders. In each round the second starts a
little later than in the one before, and in every fourth at the same time.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from real.kill_points import ended, fork, import_everything
from real.scenarios import SCENARIOS, two_adapters
from real.store_facts import Facts, differences, facts

Commands = tuple[list[str], list[str]]
DELAY = 0.2  # seconds by which the second is later from round to round
DELAYS = 4  # rounds until they start at the same time again


@dataclass(frozen=True)
class Pair:
    """Two commands in a folder with a model, and what prepares their store."""

    prepare: Callable[[Path, Path], None]
    commands: Callable[[Path, Path], Commands]


def _twice(entry: str) -> Pair:
    """One command of the scenarios, twice."""
    scenario = SCENARIOS[entry]
    return Pair(scenario.prepare, lambda folder, model: (scenario.command(folder, model),) * 2)


def _two_champions(folder: Path, _: Path) -> Commands:
    """Registrations of two adapters, of which either may be the first champion."""
    first, second = (
        ["register", "--adapter", adapter, "--name", "reader", "--alias", "champion"]
        for adapter in (folder / "adapters.txt").read_text().split(",")
    )
    return first, second


PAIRS = {
    "first use": Pair(lambda folder, model: None, _twice("evaluate").commands),
    "two champions": Pair(two_adapters, _two_champions),
    "register": _twice("register"),
    "compare": _twice("compare"),
    "main": _twice("main"),
}


class Rounds:
    """Rounds of one pair, all in one folder: stores hold absolute paths."""

    def __init__(self, pair: Pair, model: Path, folder: Path) -> None:
        self.folder, self.snapshot = folder / "trial", folder / "snapshot"
        self.output = folder / "output.txt"
        for name in ("", "tmp", "cache"):
            (self.folder / name).mkdir(parents=True)
        prepared = ended(fork(lambda: pair.prepare(self.folder, model), self.folder, self.output))
        assert prepared == 0, self.output.read_text("utf-8")[-3000:]
        shutil.copytree(self.folder, self.snapshot)
        self.commands = pair.commands(self.folder, model)

    def begin(self, words: list[str]) -> int:
        """Start a command; its process id."""

        def work() -> None:
            from isogloss.cli.main import program

            tempfile.gettempdir()  # Python writes a file of its own to try it
            program.main(words, "isogloss")

        return fork(work, self.folder, self.output)

    def reset(self) -> None:
        """Bring the folder to the state before the commands."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.snapshot, self.folder)
        self.output.unlink(missing_ok=True)

    def in_turn(self, *commands: list[str]) -> Facts:
        """What commands leave one after another."""
        self.reset()
        for words in commands:
            assert ended(self.begin(words)) == 0, self.output.read_text("utf-8")[-3000:]
        return facts(self.folder)

    def expected(self) -> tuple[list[Facts], set[str]]:
        """What the two may leave, and the facts that differ every time."""
        first, second = self.commands
        orders = [(first,)] if first == second else [(first, second), (second, first)]
        allowed = [self.in_turn(*order) for order in orders]
        again = self.in_turn(*orders[0])
        volatile = {name for name in again if again[name] != allowed[0].get(name)}
        return allowed, volatile

    def at_once(self, delay: float) -> tuple[list[int], Facts]:
        """Start both, the second after some seconds; their exit statuses and what they leave."""
        self.reset()
        one = self.begin(self.commands[0])
        time.sleep(delay)
        other = self.begin(self.commands[1])
        return [ended(one), ended(other)], facts(self.folder)


def right(rounds: Rounds, name: str, count: int) -> int:
    """The number of rounds that were right; what was wrong in the others is printed."""
    allowed, volatile = rounds.expected()
    good = 0
    for number in range(count):
        statuses, found = rounds.at_once(DELAY * (number % DELAYS))
        wrong = min((differences(facts, volatile, found) for facts in allowed), key=len)
        if any(statuses):
            last = rounds.output.read_text("utf-8").strip().splitlines()[-1:]
            wrong = [f"they ended with {statuses}: {last}", *wrong]
        good += not wrong
        for line in wrong[:12]:
            print(f"{name}, round {number}: {line}", flush=True)
    print(f"{name}: {good} of {count} rounds right", flush=True)
    return good


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", default=list(PAIRS), help=f"of {', '.join(PAIRS)}")
    parser.add_argument("--model", type=Path, required=True, help="folder of a tiny model")
    parser.add_argument("--folder", type=Path, required=True, help="for stores and files")
    parser.add_argument("--rounds", type=int, default=8, help="of each pair")
    options = parser.parse_args()
    import_everything()
    good = sum(
        right(Rounds(PAIRS[name], options.model.resolve(), options.folder / name), name,
              options.rounds)
        for name in options.pairs
    )  # fmt: skip
    count = options.rounds * len(options.pairs)
    print(f"{good} of {count} rounds of two at once right", flush=True)
    sys.exit(good < count)


if __name__ == "__main__":
    main()
