"""Dry run of a study: what each cell would compute and cost. No weights are loaded.

The costs are estimates by the simple model of `cost_model`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from isogloss.config import StudyConfig, command_line
from isogloss.config.study import StudyModel
from isogloss.errors import IsoglossError
from isogloss.formatting import aligned, size
from isogloss.inference.context_window import prompt_lengths
from isogloss.models.dtypes import NF4, resolve_dtype
from isogloss.models.locate import ModelLocation, on_this_machine
from isogloss.models.tokenizers import shared_tokenizer
from isogloss.registry.lookup import adapter_problem
from isogloss.stages.cost_model import (
    FORWARD_OPERATIONS,
    TOKENS_PER_ITEM,
    TRAINING_OPERATIONS,
    h100_operations_per_second,
    operations_per_second_here,
)
from isogloss.stages.evaluate import evaluation_data, plan_evaluation
from isogloss.stages.finetune import plan_finetune
from isogloss.stages.session import MAX_NEW_TOKENS, Session
from isogloss.stages.study_cells import (
    EvaluateCell,
    FinetuneCell,
    StudyCell,
    study_cells,
    study_models,
)
from isogloss.tasks import Item, Task
from isogloss.tracking import RunKind, choose_experiment, find_finished, tag
from isogloss.types import Format, LanguageCode, Reasoning

WEIGHT_BYTES = {"float32": 4.0, "bfloat16": 2.0, NF4: 0.6}
OVERHEAD = 1.2  # of the memory of weights, for activations and caches
SAMPLE = 8  # items per language that are tokenised
CHARACTERS_PER_TOKEN = 3  # of a model whose tokenizer is not on this machine
# A generated token takes as long as so many tokens of a prompt: memory limits decoding.
GENERATION_SLOWDOWN = 10
ADAPTER_BYTES = 4 * 2 * 7  # float32; two matrices for each of seven linear layers


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model without loading it; None if it is unknown.

    `parameters` is the number of weights, `active` that of those a token passes through, `width`
    and `layers` are the hidden size and the number of layers.
    """

    location: ModelLocation | None
    parameters: float | None
    active: float | None
    width: int | None
    layers: int | None


@dataclass(frozen=True)
class CellCost:
    """One cell of a dry run. Times in hours; what cannot be estimated is None."""

    cell: StudyCell
    items: int
    tokens: int
    done: str
    memory: float | None
    hours_here: float | None
    hours_h100: float | None
    disk: float | None
    command: str


def dry_run(config: StudyConfig, experiment: str | None = None) -> list[CellCost]:
    """The cost of each cell of a study, and whether it is done already in an experiment."""
    models = {model.name: model for model in study_models(config)}
    facts = {name: model_facts(model) for name, model in models.items()}
    cells = study_cells(config)
    task, items = _data(config, cells)
    sessions = {cell.config.model: Session.of(cell.config) for cell in cells}
    here = operations_per_second_here()
    experiment_id = choose_experiment(experiment)
    finished: dict[StudyCell, str | None] = {}
    costs = []
    lengths: dict[tuple[str, Reasoning], float] = {}
    for cell in cells:
        name = cell.config.model
        if facts[name].location and task:
            finished[cell] = _adapter_if_finished(cell, sessions[name], experiment_id, finished)
        reasoning = cell.config.reasoning if isinstance(cell, EvaluateCell) else Reasoning.DIRECT
        if (name, reasoning) not in lengths:
            lengths[name, reasoning] = _tokens_per_item(
                cell, sessions[name], facts[name], task, items
            )
        costs.append(
            _cost(cell, facts[name], config, items, lengths[name, reasoning], here, finished)
        )
    return costs


def model_facts(model: StudyModel) -> ModelFacts:
    """Parameters and shape of a model from its files, or from the study file."""
    location = on_this_machine(model.name)
    if location is None:
        return ModelFacts(
            None, model.parameters, model.active_parameters or model.parameters, None, None
        )
    parameters = float(sum(map(_parameters, location.folder.glob("*.safetensors"))))
    config = json.loads((location.folder / "config.json").read_text("utf-8"))
    config = config.get("text_config") or config
    return ModelFacts(
        location,
        parameters or model.parameters,
        model.active_parameters or parameters or model.parameters,
        config.get("hidden_size"),
        config.get("num_hidden_layers"),
    )


def print_dry_run(costs: Sequence[CellCost]) -> None:
    """Print one line per cell, the totals, and the commands."""
    rows = [("", "cell", "items", "tokens", "done", "memory", "hours here", "H100 hours", "disk")]
    for number, cost in enumerate(costs, 1):
        rows.append(
            (
                str(number),
                cost.cell.label,
                f"{cost.items:,}",
                f"{cost.tokens:,}",
                cost.done,
                _size(cost.memory),
                _hours(cost.hours_here),
                _hours(cost.hours_h100),
                _size(cost.disk),
            )
        )
    missing = [cost for cost in costs if cost.done != "yes"]
    print(aligned(rows))
    too_large = [cost for cost in missing if cost.memory and cost.hours_here is None]
    beyond = f" (without {len(too_large)} cells that do not fit in memory)" if too_large else ""
    print(
        f"\n{len(costs)} cells, {len(costs) - len(missing)} done; to do: "
        f"{sum(cost.tokens for cost in missing):,} tokens, "
        f"{_hours(_total(cost.hours_here for cost in missing))} hours here{beyond}, "
        f"{_hours(_total(cost.hours_h100 for cost in missing))} H100 hours. "
        f"Estimates are within a factor of about three."
    )
    print("\ncommands of single cells (a tuned cell takes the id of its finetune run)")
    for number, cost in enumerate(costs, 1):
        print(f"{number}: {cost.command}")


def _data(
    config: StudyConfig, cells: Sequence[StudyCell]
) -> tuple[Task | None, Mapping[LanguageCode, Sequence[Item]]]:
    """The task and the items to evaluate; no task if the data are not on this machine."""
    base = next(cell for cell in cells if isinstance(cell, EvaluateCell))
    try:
        return evaluation_data(base.config)
    except IsoglossError as error:
        print(f"the data cannot be read, so items and tokens are assumed: {error}")
        return None, dict.fromkeys(config.languages or (), ())


def _adapter_if_finished(
    cell: StudyCell,
    session: Session,
    experiment_id: str,
    finished: Mapping[StudyCell, str | None],
) -> str | None:
    """The adapter digest of a cell that would be reused (empty for an evaluation); None if none."""
    if isinstance(cell, FinetuneCell):
        plan = plan_finetune(cell.config, session)
        run = find_finished(RunKind.FINETUNE, plan.fingerprint, experiment_id, adapter_problem)
        return tag(run, "adapter") if run else None
    adapter = finished.get(cell.finetuned) if cell.finetuned else None
    if cell.finetuned and adapter is None:
        return None
    evaluation = plan_evaluation(cell.config, session, adapter)
    return "" if find_finished(RunKind.EVALUATE, evaluation.fingerprint, experiment_id) else None


def _tokens_per_item(
    cell: StudyCell,
    session: Session,
    facts: ModelFacts,
    task: Task | None,
    items: Mapping[LanguageCode, Sequence[Item]],
) -> float:
    """Mean length of a prompt with its longest choice, from the first items of each language."""
    sample = [item for rows in items.values() for item in rows[:SAMPLE]]
    if not sample or task is None:
        return TOKENS_PER_ITEM + _new_tokens(cell)
    if facts.location is None:
        characters = sum(
            len(item.passage) + len(item.question) + sum(map(len, item.options)) for item in sample
        )
        return characters / len(sample) / CHARACTERS_PER_TOKEN + _new_tokens(cell)
    reasoning = cell.config.reasoning if isinstance(cell, EvaluateCell) else Reasoning.DIRECT
    protocol = session.protocol(cell.config, task, reasoning)
    lengths = prompt_lengths(sample, shared_tokenizer(facts.location), protocol)
    return sum(lengths) / len(lengths)


def _new_tokens(cell: StudyCell) -> int:
    """The most tokens that a cell generates per item."""
    if isinstance(cell, FinetuneCell):
        return 0
    reasons = cell.config.reasoning == Reasoning.COT
    if not reasons and cell.config.format != Format.GENERATE:
        return 0
    return cell.config.max_new_tokens or MAX_NEW_TOKENS[cell.config.reasoning]


def _cost(
    cell: StudyCell,
    facts: ModelFacts,
    config: StudyConfig,
    items: Mapping[LanguageCode, Sequence[Item]],
    tokens_per_item: float,
    operations_here: float,
    finished: Mapping[StudyCell, str | None],
) -> CellCost:
    if isinstance(cell, FinetuneCell):
        n_items = (cell.config.steps or 0) * (cell.config.batch_size or 0)
        per_token, entry_point = TRAINING_OPERATIONS, "finetune"
    else:
        assumed = config.limit or config.test_items or 0
        n_items = sum(len(rows) or assumed for rows in items.values())
        per_token, entry_point = FORWARD_OPERATIONS, "evaluate"
    tokens = round(n_items * tokens_per_item)
    generated = n_items * _new_tokens(cell)
    dtype: str = cell.config.dtype
    if dtype not in WEIGHT_BYTES:
        dtype = str(resolve_dtype(dtype)).removeprefix("torch.")
    memory = facts.parameters and OVERHEAD * facts.parameters * WEIGHT_BYTES[dtype]
    # Lengths of prompts include the tokens that may be generated.
    weighted = tokens + (GENERATION_SLOWDOWN - 1) * generated
    operations = facts.active and per_token * facts.active * weighted
    fits = memory is not None and memory < psutil.virtual_memory().total
    disk: float | None = 100.0 * n_items
    if isinstance(cell, FinetuneCell):
        shape = facts.width and facts.layers and facts.width * facts.layers
        disk = shape and ADAPTER_BYTES * (cell.config.rank or 0) * shape
    adapter = " -P adapter=RUN_ID" if isinstance(cell, EvaluateCell) and cell.finetuned else ""
    done = "unknown" if cell not in finished else "no" if finished[cell] is None else "yes"
    return CellCost(
        cell=cell,
        items=n_items,
        tokens=tokens,
        done=done,
        memory=memory,
        hours_here=operations / operations_here / 3600 if operations and fits else None,
        hours_h100=operations and operations / h100_operations_per_second() / 3600,
        disk=disk,
        command=command_line(entry_point, cell.config) + adapter,
    )


def _parameters(path: Path) -> int:
    """The number of weights in a safetensors file, from its header."""
    with path.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    count = 0
    for name, entry in header.items():
        if name != "__metadata__":
            product = 1
            for extent in entry["shape"]:
                product *= extent
            count += product
    return count


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _size(n_bytes: float | None) -> str:
    return "unknown" if n_bytes is None else size(round(n_bytes))


def _hours(hours: float | None) -> str:
    return "unknown" if hours is None else f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"
