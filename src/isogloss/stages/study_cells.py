"""The cells of a study: each fine-tuning and each condition that is evaluated, as values.

A cell has the complete configuration of one fine-tuning or evaluation. Progress, previews and
launchers work from this list; nothing is loaded to make it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from isogloss.config import EvaluateConfig, FinetuneConfig, SharedConfig, StudyConfig
from isogloss.languages import source_name
from isogloss.types import Condition, LanguageCode, Reasoning


@dataclass(frozen=True)
class FinetuneCell:
    """The fine-tuning of one adapter."""

    config: FinetuneConfig

    @property
    def label(self) -> str:
        """Its name in progress lines."""
        return f"finetune · {self.adapter}"

    @property
    def adapter(self) -> str:
        """The adapter in words: source language and seed."""
        return f"{source_name(self.config.source)}, seed {self.config.seed}"


@dataclass(frozen=True)
class EvaluateCell:
    """One condition evaluated on all targets: with the adapter of `finetuned`, or the base model.

    The adapter is in no configuration, since it does not exist before its fine-tuning.
    """

    config: EvaluateConfig
    finetuned: FinetuneCell | None = None

    @property
    def condition(self) -> Condition:
        """With or without an adapter, with or without chain of thought."""
        return Condition.of(tuned=self.finetuned is not None, reasoning=self.config.reasoning)

    @property
    def label(self) -> str:
        """Its name in progress lines."""
        adapter = f" · {self.finetuned.adapter}" if self.finetuned else ""
        return f"{self.condition}{adapter}"


StudyCell = FinetuneCell | EvaluateCell


def study_cells(config: StudyConfig) -> list[StudyCell]:
    """The cells of a study in the order they run: an adapter is trained before it is evaluated."""
    cells: list[StudyCell] = [
        EvaluateCell(_evaluation(config, config.source, reasoning))
        for reasoning in study_reasonings(config)
    ]
    for finetuned in _finetunings(config):
        cells.append(finetuned)
        cells += [
            EvaluateCell(_evaluation(config, finetuned.config.source, reasoning), finetuned)
            for reasoning in study_reasonings(config)
        ]
    return cells


def study_reasonings(config: StudyConfig) -> list[Reasoning]:
    """The kinds of reasoning that a study evaluates."""
    return list(Reasoning) if config.reasoning == "both" else [Reasoning(config.reasoning)]


def study_sources(config: StudyConfig) -> list[LanguageCode]:
    """The source language, and the control source if there is one."""
    return [config.source, *([config.control_source] if config.control_source else [])]


def study_seeds(config: StudyConfig) -> tuple[int, ...]:
    """The seeds of the adapters of each source."""
    return config.seeds or (config.seed,)


def _finetunings(config: StudyConfig) -> Iterator[FinetuneCell]:
    for source, seed in product(study_sources(config), study_seeds(config)):
        shared = _shared(config) | {"source": source, "seed": seed}
        yield FinetuneCell(FinetuneConfig.model_validate(shared | config.finetune.model_dump()))


def _evaluation(config: StudyConfig, source: LanguageCode, reasoning: Reasoning) -> EvaluateConfig:
    # The study's `seed` and not the adapter's, so that all adapters see the same order of options.
    own = {
        "source": source,
        "languages": config.languages,
        "split": config.split,
        "reasoning": reasoning,
        "max_new_tokens": config.max_new_tokens if reasoning == Reasoning.COT else None,
    }
    return EvaluateConfig.model_validate(_shared(config) | own)


def _shared(config: StudyConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in SharedConfig.model_fields}
