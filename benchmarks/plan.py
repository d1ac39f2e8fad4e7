"""The plan of a benchmark run: groups of contenders that take turns, and the sizes."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

PARTS = ("scoring", "training", "generation", "lines")
MATMUL = "matmul"
UNTUNED = "lm-eval, batch 8, untuned"
VLLM = "vLLM"
SCRIPTS = {
    "isogloss": "isogloss_runs",
    "lm-eval": "lm_eval_runs",
    UNTUNED: "lm_eval_runs",
    VLLM: "vllm_runs",
    "TRL": "trainer_runs",
    "Trainer": "trainer_runs",
    MATMUL: "matmul_runs",
}
LINES = {
    "items": "English items",
    "languages": "languages",
    "adapters": "adapters",
    "passages": "tokens of a prompt",
}


@dataclass(frozen=True)
class Sizes:
    """Numbers of items, steps and rounds; `lines` are the sizes along each line.

    `letter_again` and `cloze_again` are the items of rounds after the first: a rate needs fewer
    than a comparison of answers. Training steps repeat within a process.
    """

    rounds: int = 2
    training_rounds: int = 1
    line_rounds: int = 1
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    tasks: tuple[str, ...] = ("probe", "sib200")
    letter: int = 200
    letter_again: int = 60
    cloze: int = 24
    cloze_again: int = 12
    tried: int | None = 8  # items on which peers' settings are tried; None: none are tried
    tried_requests: int = 64  # the same for a server, which takes many at a time
    steps: int = 6
    batch_size: int = 16
    tried_passes: tuple[int, ...] = (16, 4, 2, 1)
    generation: int = 16
    max_new_tokens: int = 64
    line_items: int = 20
    line_long_items: int = 6
    lines: dict[str, list[int]] = field(
        default_factory=lambda: {
            "items": [50, 100, 150, 200],
            "languages": [1, 2, 4, 6],
            "adapters": [1, 2, 4, 8],
            "passages": [1, 4, 8, 12, 16],
        }
    )

    def to_dict(self) -> dict[str, Any]:
        """The sizes as JSON values."""
        return dict(json.loads(json.dumps(asdict(self))))


QUICK = Sizes(
    rounds=1,
    dtypes=("float32",),
    tasks=("probe",),
    letter=12,
    letter_again=12,
    cloze=4,
    cloze_again=4,
    tried=None,
    steps=2,
    batch_size=4,
    generation=4,
    max_new_tokens=16,
    line_items=8,
    line_long_items=2,
    lines={"items": [8, 16, 24], "languages": [1], "adapters": [1], "passages": [1]},
)


class Job(NamedTuple):
    """One measurement: part, case, dtype, contender, round, script and options."""

    part: str
    case: str
    dtype: str
    contender: str
    round: int
    script: str
    options: dict[str, Any]

    @property
    def key(self) -> dict[str, Any]:
        """What identifies the measurement."""
        return {name: getattr(self, name) for name in ("part", "case", "dtype", "contender")} | {
            "round": self.round
        }


def jobs(
    parts: tuple[str, ...], sizes: Sizes, work: str, data: str, vllm: str | None = None
) -> Iterator[Job]:
    """All measurements in order: by round, then by group, contenders in turn.

    Paths are those that `contenders.prepare` writes in `work`. `vllm` is vLLM's program.
    """
    for turn in range(sizes.rounds):
        for dtype in sizes.dtypes:
            groups = {"scoring": _scoring(sizes, work, dtype, turn, vllm)}
            if turn < sizes.training_rounds:
                groups["training"] = _training(sizes, work, data, dtype, turn)
            groups["generation"] = _generation(sizes, work, dtype, turn)
            for part in [part for part in groups if part in parts]:
                yield Job(MATMUL, f"before {part}", dtype, MATMUL, turn, SCRIPTS[MATMUL], {})
                yield from groups[part]
        if "lines" in parts and turn < sizes.line_rounds:
            yield from _lines(sizes, work, turn)


def _scoring(
    sizes: Sizes, work: str, dtype: str, turn: int, vllm: str | None = None
) -> Iterator[Job]:
    for format in ("letter", "cloze"):
        options = {"folder": f"{work}/{format}{'_again' if turn else ''}"}
        if turn == 0 and format == "letter" and sizes.tried:
            limit = options | {"limit": sizes.tried}
            yield Job("settings", format, dtype, "lm-eval", turn, SCRIPTS["lm-eval"], limit)
        for contender in ("isogloss", "lm-eval"):
            yield Job("scoring", format, dtype, contender, turn, SCRIPTS[contender], options)
        if sizes.tried:
            default = options | {"setting": "weights, batch 8"}
            yield Job("scoring", format, dtype, UNTUNED, turn, SCRIPTS[UNTUNED], default)
        if vllm is not None:
            server = options | {"vllm": vllm}
            if turn == 0 and format == "letter" and sizes.tried:
                limit = server | {"limit": sizes.tried_requests}
                yield Job("settings", format, dtype, VLLM, turn, SCRIPTS[VLLM], limit)
            yield Job("scoring", format, dtype, VLLM, turn, SCRIPTS[VLLM], server)


def _training(sizes: Sizes, work: str, data: str, dtype: str, turn: int) -> Iterator[Job]:
    for task in sizes.tasks:
        options: dict[str, Any] = {
            "folder": None if task == "probe" else f"{data}/{task}",
            "steps": sizes.steps,
            "steps_file": f"{work}/{task}.json",
            "batch_size": sizes.batch_size,
        }
        if (turn, task, dtype) == (0, sizes.tasks[0], sizes.dtypes[0]) and sizes.tried:
            for contender in ("TRL", "Trainer"):
                tried = options | {"tried": sizes.tried_passes}
                yield Job("settings", task, dtype, contender, turn, SCRIPTS[contender], tried)
        for contender in ("isogloss", "TRL", "Trainer"):
            yield Job("training", task, dtype, contender, turn, SCRIPTS[contender], options)


def _generation(sizes: Sizes, work: str, dtype: str, turn: int) -> Iterator[Job]:
    options = {"prompts": f"{work}/generation.json", "max_new_tokens": sizes.max_new_tokens}
    yield Job("generation", "cot", dtype, "isogloss", turn, SCRIPTS["isogloss"], options)
    for name, batch, stop in (
        ("generate, batch 1", 1, False),
        (f"generate, batch {sizes.generation}", sizes.generation, False),
        (f"generate, batch {sizes.generation}, stopped", sizes.generation, True),
    ):
        batched = options | {"batch": batch, "stop": stop}
        yield Job("generation", "cot", dtype, name, turn, "transformers_runs", batched)


def _lines(sizes: Sizes, work: str, turn: int) -> Iterator[Job]:
    folders = {"items": "items", "languages": "languages", "adapters": "languages"}
    for axis, values in sizes.lines.items():
        for value in values:
            options = {
                "folder": f"{work}/{folders.get(axis, f'passages/{value}')}",
                "adapters": f"{work}/adapters",
                "value": value,
            }
            contender = f"isogloss, {value}"
            yield Job("lines", axis, "auto", contender, turn, SCRIPTS["isogloss"], options)
