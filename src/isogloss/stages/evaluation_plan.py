"""What an evaluation is: its data, its protocol and its fingerprint, before a model is loaded."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from isogloss import tracking
from isogloss.config import EvaluateConfig
from isogloss.errors import ConfigError
from isogloss.languages import source_languages
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.tokenisation import label_tokens
from isogloss.stages.run_names import run_name
from isogloss.stages.session import Session
from isogloss.stages.task_data import evaluation_data
from isogloss.tasks import Item, Task, items
from isogloss.tracking import NO_ADAPTER, RunTags
from isogloss.tracking.comparability import LANGUAGE_DIGEST_LENGTH
from isogloss.tracking.versions import evaluation_versions
from isogloss.training.contamination import TrainingRecord, refuse_contamination
from isogloss.types import Condition, Format, LanguageCode, Normalisation, Split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated and how; known before a model is loaded.

    `items` are by language, as prompts show them. `adapter` is a digest, or None for the base
    model.
    """

    config: EvaluateConfig
    task: Task
    items: Mapping[LanguageCode, list[Item]]
    protocol: Protocol
    adapter: str | None
    fingerprint: str

    @property
    def condition(self) -> Condition:
        """With or without an adapter, with or without chain of thought."""
        return Condition.of(tuned=self.adapter is not None, reasoning=self.protocol.reasoning)

    def name(self, seed: int | None = None) -> str:
        """The name of its run; `seed` is that of the training of its adapter."""
        source = evaluation_source(self.config, self.adapter)
        return run_name(
            str(self.condition),
            [self.config.model],
            [source] if source else [],
            self.task.name,
            seed,
            " ".join(self.config.adapter or ()),
        )

    @property
    def all_items(self) -> list[Item]:
        """The items of all languages, one language after another."""
        return [item for rows in self.items.values() for item in rows]


def plan_evaluation(
    config: EvaluateConfig, session: Session, adapter_digest: str | None
) -> Evaluation:
    """The evaluation that a configuration describes. Reads data and no weights."""
    task, items_by_language = evaluation_data(config)
    protocol = session.protocol(config, task, config.reasoning, config.max_new_tokens)
    fingerprint = tracking.fingerprint(
        kind="evaluate",
        model=session.location.revision,
        adapter=adapter_digest,
        data=tracking.data_digest([item for rows in items_by_language.values() for item in rows]),
        protocol=protocol.as_dict(),
        versions=evaluation_versions(task.name, protocol),
        long_inputs=(config.long_inputs, config.max_length),
        **session.numerics,
        seed=config.seed if config.shuffle_options else None,
        source=evaluation_source(config, adapter_digest),
        **({"quick": True} if config.quick else {}),
    )
    return Evaluation(config, task, items_by_language, protocol, adapter_digest, fingerprint)


def evaluation_tags(
    evaluation: Evaluation, session: Session, record: TrainingRecord | None
) -> RunTags:
    """The tags of the run. `record` is the training record of the adapter, if it has one."""
    config, task, protocol = evaluation.config, evaluation.task, evaluation.protocol
    cloze = protocol.format == Format.CLOZE
    return replace(
        session.run_tags(config, task, protocol, evaluation.condition),
        source=evaluation_source(config, evaluation.adapter),
        adapter=evaluation.adapter or NO_ADAPTER,
        fingerprint=evaluation.fingerprint,
        quick=config.quick or None,
        normalisation=protocol.normalisation if cloze else Normalisation.NONE,
        data_digest=tracking.data_digest(evaluation.all_items),
        language_digests={
            code: tracking.data_digest(rows)[:LANGUAGE_DIGEST_LENGTH]
            for code, rows in evaluation.items.items()
        },
        max_new_tokens=protocol.max_new_tokens if protocol.generates else None,
        seed=record.seed if record else None,
        recipe=record.recipe if record else None,
        training=record.training if record else None,
        training_items=record.items_digest if record else None,
        versions=evaluation_versions(task.name, protocol),
        choices=label_tokens(session.tokenizer, evaluation.all_items, protocol),
    )


def evaluation_source(config: EvaluateConfig, adapter: str | None) -> str | None:
    """The source language of an evaluation: that of its adapter.

    The base model has none, so that one evaluation of it serves every source.
    """
    return config.source if adapter else None


def check_training_data(record: TrainingRecord | None, evaluation: Evaluation) -> None:
    """Raise DataError if the adapter was trained on a passage to be evaluated.

    Raises ConfigError if it was trained on another language than `source`, which defines the
    groups.
    """
    config, task = evaluation.config, evaluation.task
    if record is None:
        logger.warning("the adapter has no training record; contamination is not checked")
        return
    if record.language != config.source:
        raise ConfigError(
            f"the adapter was trained on {record.language}, but `source` is {config.source}; set "
            f"source={record.language}, since language groups are relative to it."
        )
    same_language = in_source(record.language, task, evaluation.items, config.split)
    if not same_language and record.task != task.name:
        logger.warning(
            f"{task.name} has no {record.language} items, the language in which the adapter was "
            f"trained on {record.task}; whether the two tasks share passages is not checked"
        )
    refuse_contamination(
        record,
        task.name,
        evaluation.all_items,
        same_language,
        share_passages=config.share_passages,
    )


def in_source(
    source: str, task: Task, evaluated: Mapping[LanguageCode, Sequence[Item]], split: Split
) -> list[Item]:
    """The evaluated items in the languages of a source; read if none of them is a target."""
    rows: list[Item] = []
    for row in source_languages(source):
        rows += evaluated.get(row.code) or (
            items(task, row.code, split, None) if row.code in task.languages else []
        )
    return rows
