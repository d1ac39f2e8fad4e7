"""Dry run of a study: what each cell would compute and cost. No weights are loaded.

Costs are those of `costs`, for the work of a sample of the items (`inference.work`).
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow.entities import Run
from pydantic import TypeAdapter

from isogloss.compat.interfaces import Tokenizer
from isogloss.config import Hyperparameters, StudyConfig, command_line
from isogloss.costs.memory import FLOAT32_BYTES, Memory, weight_bytes
from isogloss.costs.operations import Lora, Work
from isogloss.costs.time import (
    H100,
    Machine,
    generation_seconds,
    scoring_seconds,
    training_seconds,
)
from isogloss.errors import IsoglossError, ModelError
from isogloss.inference.context_window import encoded_prompts, prompt_lengths
from isogloss.inference.work import scoring_work, training_work
from isogloss.models.batch_limits import GENERATION_TOKENS
from isogloss.models.kept_facts import kept_fact, versions_of
from isogloss.models.locate import is_local
from isogloss.models.target_modules import has_experts
from isogloss.models.tokenizers import shared_tokenizer, tokenizer_digest
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import PROMPT_VERSION
from isogloss.stages.cell import finished_run
from isogloss.stages.model_costs import (
    CARDS,
    ModelFacts,
    ModelNeeds,
    TrainingStep,
    fewest_cards,
    machine_here,
    model_facts,
    needs_table,
    precision_of,
    scoring_peak,
    training_peak,
)
from isogloss.stages.session import MAX_NEW_TOKENS, Session
from isogloss.stages.study_cells import (
    EvaluateCell,
    FinetuneCell,
    StudyCell,
    study_cells,
    study_models,
)
from isogloss.stages.task_data import evaluation_data
from isogloss.tasks import Item, Task
from isogloss.tracking import choose_experiment, data_digest
from isogloss.types import Format, LanguageCode, Reasoning

logger = logging.getLogger(__name__)

WORK_VERSION = 1  # of how the work of items is counted
SAMPLE = 8  # passages per language whose items are tokenised
CHARACTERS_PER_TOKEN = 3  # of a model whose tokenizer is not on this machine
TOKENS_PER_ITEM = 400  # where no data can be read
DEFAULTS = Hyperparameters()
PREDICTION_BYTES = 100  # of an answer in predictions.parquet


@dataclass(frozen=True)
class ItemWork:
    """The mean work of an item: scored, trained on, and its longest prompt in tokens."""

    scoring: Work
    training: Work
    prompt: float


@dataclass(frozen=True)
class CellCost:
    """One cell of a dry run. Times in hours; what cannot be estimated is None.

    `gpus` are the fewest of each of CARDS that hold the cell, `weights` the bytes of the model.
    """

    cell: StudyCell
    items: int
    tokens: int
    done: str
    memory: float | None
    hours_here: float | None
    hours_h100: float | None
    disk: float | None
    command: str
    gpus: tuple[int | None, ...] = ()
    weights: float | None = None


@dataclass(frozen=True)
class DryRun:
    """The costs of all cells, the table of what each model needs, and the languages if known.

    `assumed_tokens` names the models whose tokenizer is not on this machine.
    """

    cells: list[CellCost]
    needs: str
    languages: tuple[LanguageCode, ...]
    assumed_tokens: tuple[str, ...] = ()


def dry_run(config: StudyConfig, experiment: str | None = None) -> DryRun:
    """The cost of each cell of a study, and whether it is done already in an experiment."""
    models = {model.name: model for model in study_models(config)}
    cells = study_cells(config)
    sessions = {cell.config.model: Session.of(cell.config) for cell in cells}
    facts = {  # a server's memory and speed are not those of a machine that is known
        name: ModelFacts(None, None) if sessions[name].served else model_facts(model)
        for name, model in models.items()
    }
    for name, session in sessions.items():
        location = facts[name].location
        if location and is_local(name):
            session.files = location  # not read again: no weights are loaded
    task, items = _data(config, cells)
    experiment_id = choose_experiment(experiment)
    finished: dict[StudyCell, Run | None] = {}
    costs = []
    works: dict[tuple[str, Reasoning], ItemWork] = {}
    for cell in cells:
        name = cell.config.model
        if task and (facts[name].location or sessions[name].served):
            needed = cell.finetuned if isinstance(cell, EvaluateCell) else None
            adapter = finished.get(needed) if needed else None
            with _server_may_be_away(sessions[name]):
                finished[cell] = finished_run(cell, sessions[name], experiment_id, adapter)
        key = (name, reasoning_of(cell))
        if key not in works:
            works[key] = item_work(cell, sessions[name], facts[name], task, items)
        costs.append(_cost(cell, facts[name], config, items, works[key], finished))
    needs = []
    for cell in cells:
        name = cell.config.model
        if isinstance(cell, FinetuneCell) and name in models:
            own = [cost for cost in costs if cost.cell.config.model == name]
            needs.append(
                ModelNeeds(
                    label=models.pop(name).label or name,
                    facts=facts[name],
                    precision=precision_of(cell.config.dtype),
                    step=_training_step(cell, works[name, Reasoning.DIRECT]),
                    generates=any(_new_tokens(cost.cell) > 0 for cost in own),
                    hours=total(cost.hours_h100 for cost in own) or 0.0,
                )
            )
    without_tokenizer = (
        name for name, session in sessions.items() if not (facts[name].location or session.served)
    )
    return DryRun(costs, needs_table(needs), tuple(items), tuple(without_tokenizer))


@contextmanager
def _server_may_be_away(session: Session) -> Iterator[None]:
    """Context in which what a server alone knows stays unknown if it does not answer."""
    try:
        yield
    except ModelError as error:
        if not session.served:
            raise
        logger.warning(f"model {session.name!r}: {error}")


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


def reasoning_of(cell: StudyCell) -> Reasoning:
    """The reasoning of a cell; a fine-tuning has none."""
    return cell.config.reasoning if isinstance(cell, EvaluateCell) else Reasoning.DIRECT


def item_work(
    cell: StudyCell,
    session: Session,
    facts: ModelFacts,
    task: Task | None,
    items: Mapping[LanguageCode, Sequence[Item]],
) -> ItemWork:
    """The mean work of an item, from those of the first passages of each language."""
    sample = [item for rows in items.values() for item in _of_first_passages(rows)]
    if not sample or task is None:
        return _assumed_work(TOKENS_PER_ITEM)
    tokenizer: Tokenizer | None = None
    if session.served:
        with _server_may_be_away(session):
            tokenizer = session.tokenizer
    if facts.location:
        protocol = session.protocol(cell.config, task, reasoning_of(cell))
        depends_on = {
            "tokenizer": tokenizer_digest(facts.location.folder),
            "items": data_digest(sample),
            "protocol": protocol.as_dict(),
            "prompts": PROMPT_VERSION,
            "version": WORK_VERSION,
            **versions_of("transformers", "tokenizers"),
        }
        location = facts.location
        form = TypeAdapter(ItemWork)
        return kept_fact(
            "work", depends_on, form, lambda: _counted(sample, shared_tokenizer(location), protocol)
        )
    if tokenizer is None:
        characters = sum(
            len(item.passage) + len(item.question) + sum(map(len, item.options)) for item in sample
        )
        return _assumed_work(characters / len(sample) / CHARACTERS_PER_TOKEN)
    return _counted(sample, tokenizer, session.protocol(cell.config, task, reasoning_of(cell)))


def _counted(sample: Sequence[Item], tokenizer: Tokenizer, protocol: Protocol) -> ItemWork:
    """The mean work of an item of a sample."""
    encoded = encoded_prompts(sample, tokenizer, protocol)
    share = 1 / len(sample)
    lengths = prompt_lengths(sample, tokenizer, protocol)
    return ItemWork(
        scoring_work(sample, encoded).times(share),
        training_work(sample, encoded).times(share),
        sum(lengths) * share - (protocol.max_new_tokens if protocol.generates else 0),
    )


def _of_first_passages(rows: Sequence[Item]) -> list[Item]:
    """All items of the first passages: how many share one decides the work."""
    first = list(dict.fromkeys(item.passage_id for item in rows))[:SAMPLE]
    return [item for item in rows if item.passage_id in first]


def _assumed_work(tokens: float) -> ItemWork:
    """The work of an item of so many tokens that shares none, scored at one position."""
    keys = (tokens + 1) / 2
    return ItemWork(Work(tokens, 1, 1, keys), Work(tokens, 1, None, keys), tokens)


def _new_tokens(cell: StudyCell) -> int:
    """The most tokens that a cell generates per item."""
    if isinstance(cell, FinetuneCell):
        return 0
    reasons = cell.config.reasoning == Reasoning.COT
    if not reasons and cell.config.format != Format.GENERATE:
        return 0
    return cell.config.max_new_tokens or MAX_NEW_TOKENS[cell.config.reasoning]


def count_items(
    cell: StudyCell, config: StudyConfig, items: Mapping[LanguageCode, Sequence[Item]]
) -> int:
    """How many items a cell trains on, over all steps, or evaluates."""
    if isinstance(cell, FinetuneCell):
        steps = cell.config.steps or DEFAULTS.steps
        return steps * (cell.config.batch_size or DEFAULTS.batch_size)
    assumed = config.limit or config.test_items or 0
    return sum(len(rows) or assumed for rows in items.values())


def _training_step(cell: FinetuneCell, item: ItemWork) -> TrainingStep:
    config = cell.config
    modules = config.target_modules or DEFAULTS.target_modules
    work = item.training.times(config.batch_size or DEFAULTS.batch_size)
    lora = Lora(config.rank or DEFAULTS.rank, has_experts(modules))
    return TrainingStep(work, lora, item.training.tokens, config.gradient_checkpointing)


def cell_seconds(
    cell: StudyCell, facts: ModelFacts, work: ItemWork, n_items: int, machine: Machine
) -> float | None:
    """Time of a cell on a machine; the most tokens are generated that may be."""
    if facts.shape is None:
        return None
    if isinstance(cell, FinetuneCell):
        config, step = cell.config, _training_step(cell, work)
        steps = config.steps or DEFAULTS.steps
        trained = training_seconds(
            facts.shape, step.work.times(steps), machine, step.lora, step.checkpointing
        )
        measurements = 1 + -(-steps // config.eval_every)
        dev = work.scoring.times(measurements * config.dev_limit)
        return trained + scoring_seconds(facts.shape, dev, machine)
    precision, new_tokens = precision_of(cell.config.dtype), _new_tokens(cell)
    seconds = 0.0
    if new_tokens:
        fit = GENERATION_TOKENS // (work.prompt + new_tokens)
        rows = max(min(fit, n_items), 1)
        prompts = work.scoring._replace(positions=0).times(rows)
        batch = generation_seconds(facts.shape, prompts, rows, new_tokens, machine, precision)
        seconds += batch * n_items / rows
    scored = work.scoring
    if cell.config.reasoning == Reasoning.COT:  # choices are scored after the text
        scored = scored._replace(tokens=work.prompt + new_tokens)
    if cell.config.format != Format.GENERATE:
        seconds += scoring_seconds(facts.shape, scored.times(n_items), machine)
    return seconds


def _peak(cell: StudyCell, facts: ModelFacts, work: ItemWork, machine: Machine) -> Memory | None:
    if facts.shape is None:
        return None
    precision = precision_of(cell.config.dtype)
    scoring = scoring_peak(facts.shape, precision, machine, _new_tokens(cell) > 0)
    if not isinstance(cell, FinetuneCell):
        return scoring
    training = training_peak(facts.shape, precision, machine, _training_step(cell, work))
    return max(training, scoring, key=lambda peak: peak.total)  # dev items are scored


def _cost(
    cell: StudyCell,
    facts: ModelFacts,
    config: StudyConfig,
    items: Mapping[LanguageCode, Sequence[Item]],
    work: ItemWork,
    finished: Mapping[StudyCell, Run | None],
) -> CellCost:
    disk: float | None
    n_items = count_items(cell, config, items)
    if isinstance(cell, FinetuneCell):
        lora = _training_step(cell, work).lora
        disk = FLOAT32_BYTES * facts.shape.lora_weights(*lora) if facts.shape else None
    else:
        disk = PREDICTION_BYTES * n_items
    here = machine_here(cell.config.dtype)
    peak = _peak(cell, facts, work, here)
    seconds_h100 = cell_seconds(cell, facts, work, n_items, H100)
    seconds_here = cell_seconds(cell, facts, work, n_items, here)
    fits = peak is not None and peak.total < here.memory
    done = "unknown" if cell not in finished else "no" if finished[cell] is None else "yes"
    return CellCost(
        cell=cell,
        items=n_items,
        tokens=round(n_items * (work.prompt + _new_tokens(cell))),
        done=done,
        memory=peak.total if peak else None,
        hours_here=seconds_here / 3600 if seconds_here is not None and fits else None,
        hours_h100=seconds_h100 / 3600 if seconds_h100 is not None else None,
        disk=disk,
        command=_command(cell),
        gpus=tuple(_gpus(cell, facts, work, card) for card in CARDS),
        weights=weight_bytes(facts.shape, precision_of(cell.config.dtype)) if facts.shape else None,
    )


def _gpus(cell: StudyCell, facts: ModelFacts, work: ItemWork, card: Machine) -> int | None:
    def peak(pooled: Machine) -> float:
        memory = _peak(cell, facts, work, pooled)
        return memory.total if memory else math.inf

    return fewest_cards(card, peak)


def _command(cell: StudyCell) -> str:
    if isinstance(cell, FinetuneCell):
        return command_line("finetune", cell.config)
    adapter = " -P adapter=RUN_ID" if cell.finetuned else ""
    return command_line("evaluate", cell.config) + adapter


def total(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
