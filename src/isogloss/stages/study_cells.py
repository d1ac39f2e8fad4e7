"""The cells of a study: each fine-tuning and each condition that is evaluated, as values.

A cell has the complete configuration of one fine-tuning or evaluation. Progress, previews and
launchers work from this list; nothing is loaded to make it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from isogloss.config import EvaluateConfig, FinetuneConfig, SharedConfig, StudyConfig
from isogloss.config.study import StudyModel, StudySource
from isogloss.languages import group, source_name
from isogloss.types import Condition, Group, Reasoning


@dataclass(frozen=True)
class FinetuneCell:
    """The fine-tuning of one adapter. `model_label` is set in a study of several models."""

    config: FinetuneConfig
    model_label: str | None = None

    @property
    def label(self) -> str:
        """Its name in progress lines."""
        return " · ".join(filter(None, (self.model_label, "finetune", self.adapter)))

    @property
    def short(self) -> str:
        """Its name beside a bar."""
        return f"finetune {self.config.source} s{self.config.seed}"

    @property
    def adapter(self) -> str:
        """The adapter in words: source and seed."""
        return f"{source_name(self.config.source)}, seed {self.config.seed}"


@dataclass(frozen=True)
class EvaluateCell:
    """One condition evaluated on all targets: with the adapter of `finetuned`, or the base model.

    The adapter is in no configuration, since it does not exist before its fine-tuning.
    `model_label` is set in a study of several models.
    """

    config: EvaluateConfig
    finetuned: FinetuneCell | None = None
    model_label: str | None = None

    @property
    def condition(self) -> Condition:
        """With or without an adapter, with or without chain of thought."""
        return Condition.of(tuned=self.finetuned is not None, reasoning=self.config.reasoning)

    @property
    def label(self) -> str:
        """Its name in progress lines."""
        adapter = self.finetuned.adapter if self.finetuned else None
        return " · ".join(filter(None, (self.model_label, self.condition, adapter)))

    @property
    def short(self) -> str:
        """Its name beside a bar."""
        own = self.finetuned.config if self.finetuned else None
        return f"{self.condition} {own.source} s{own.seed}" if own else str(self.condition)


StudyCell = FinetuneCell | EvaluateCell


def study_cells(config: StudyConfig) -> list[StudyCell]:
    """The cells of a study in the order they run.

    Models come one after another. The base conditions of a model come first and serve all its
    sources and seeds; an adapter is trained before it is evaluated.
    """
    cells: list[StudyCell] = []
    models, sources = study_models(config), study_sources(config)
    for model in models:
        label = (model.label or model.name) if len(models) > 1 else None
        shared = _shared(config) | model.own
        cells += [
            EvaluateCell(_evaluation(config, shared, sources[0], reasoning), None, label)
            for reasoning in study_reasonings(config)
        ]
        for source, finetuning in _finetunings(config, model):
            cells.append(finetuned := FinetuneCell(finetuning, label))
            cells += [
                EvaluateCell(_evaluation(config, shared, source, reasoning), finetuned, label)
                for reasoning in study_reasonings(config)
            ]
    return cells


def study_models(config: StudyConfig) -> tuple[StudyModel, ...]:
    """The models of a study, in the order of the file."""
    return config.models or (StudyModel(model=config.model),)


def study_sources(config: StudyConfig) -> tuple[StudySource, ...]:
    """The sources of a study; the contrast is that of the first."""
    if config.sources:
        return config.sources
    controls = [config.control_source] if config.control_source else []
    return tuple(StudySource(source=source) for source in (config.source, *controls))


def sources_without_relatives(config: StudyConfig, languages: Collection[str]) -> list[str]:
    """The sources of a crossed study, of three or more, that have no relative among the targets."""
    sources = [entry.source for entry in study_sources(config)]
    if len(sources) < 3:
        return []
    return [
        source
        for source in sources
        if all(group(code, source) != Group.RELATED for code in languages)
    ]


def study_reasonings(config: StudyConfig) -> list[Reasoning]:
    """The kinds of reasoning that a study evaluates."""
    return list(Reasoning) if config.reasoning == "both" else [Reasoning(config.reasoning)]


def study_seeds(config: StudyConfig, source: StudySource) -> tuple[int, ...]:
    """The seeds of the adapters of a source."""
    return source.seeds or config.seeds or (config.seed,)


def _finetunings(
    config: StudyConfig, model: StudyModel
) -> Iterator[tuple[StudySource, FinetuneConfig]]:
    recipe = model.recipe if isinstance(model.recipe, dict) else {}
    training = config.finetune.model_dump() | recipe
    for source in study_sources(config):
        for seed in study_seeds(config, source):
            own = {"source": source.source, "seed": seed}
            if source.limit is not None:
                own["limit"] = source.limit
            values = _shared(config) | model.own | training | own | {"quick": config.quick}
            yield source, FinetuneConfig.model_validate(values)


def _evaluation(
    config: StudyConfig, shared: dict[str, object], source: StudySource, reasoning: Reasoning
) -> EvaluateConfig:
    # The study's `seed` and not the adapter's, so that all adapters see the same order of options.
    own = {
        "source": source.source,
        "languages": config.languages,
        "split": config.split,
        "reasoning": reasoning,
        "max_new_tokens": config.max_new_tokens,
        "metrics": config.metrics,
        "quick": config.quick,
    }
    return EvaluateConfig.model_validate(shared | own)


def _shared(config: StudyConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in SharedConfig.model_fields}
