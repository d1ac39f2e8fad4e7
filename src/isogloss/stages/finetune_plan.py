"""The plan of a fine-tuning: data, recipe and fingerprint, known before a model is loaded."""

from dataclasses import asdict, dataclass, replace

from isogloss import tracking
from isogloss.config import FinetuneConfig
from isogloss.config.engine import Engine
from isogloss.config.train_command import command_facts
from isogloss.errors import ConfigError
from isogloss.prompts.protocol import Protocol
from isogloss.stages.run_names import run_name
from isogloss.stages.session import Session
from isogloss.stages.training_inputs import SourceData, recipe_of, source_data
from isogloss.tracking.tags import RunTags
from isogloss.tracking.versions import scoring_versions, training_versions
from isogloss.training.recipe import Recipe
from isogloss.training.tinker import check_recipe
from isogloss.types import Condition


@dataclass(frozen=True)
class FinetunePlan:
    """Everything about a fine-tuning that is known before the model is loaded."""

    config: FinetuneConfig
    data: SourceData
    protocol: Protocol
    recipe: Recipe
    tags: RunTags
    fingerprint: str

    @property
    def run_name(self) -> str:
        """The name of its run."""
        config = self.config
        task = self.data.task.name
        return run_name("finetune", [config.model], [config.source], task, self.recipe.seed)


def plan_finetune(config: FinetuneConfig, session: Session) -> FinetunePlan:
    """Read data and recipe, and compute the fingerprint and the tags of the run."""
    data = source_data(config)
    protocol = session.protocol(config, data.task)
    recipe = recipe_of(config)
    data_digest, dev_digest = tracking.data_digest(data.train), tracking.data_digest(data.dev)
    numerics, trainer = session.numerics, dict[str, object]()
    versions = training_versions(data.task.name, protocol)
    if config.engine and config.engine.trains:
        _refuse_choices(config, config.engine)
        trainer = {"trainer": _trainer(config.engine, session, recipe)}
        versions = scoring_versions(data.task.name, protocol)  # of dev measurements
        if session.served:  # there are none: another version of the server trains nothing anew
            numerics = {}
    fingerprint = tracking.fingerprint(
        kind="finetune",
        model=session.location.revision,
        data=data_digest,
        dev=dev_digest,
        versions=versions,
        protocol=protocol.as_dict(),
        long_inputs=(config.long_inputs, config.max_length),
        **numerics,
        recipe=_decisive_recipe(recipe, config.keep),
        keep=config.keep,
        **trainer,
        **({"quick": True} if config.quick else {}),
    )
    tags = replace(
        session.run_tags(config, data.task, protocol, Condition.TUNED),
        fingerprint=fingerprint,
        quick=config.quick or None,
        data_digest=data_digest,
        dev_digest=dev_digest,
        versions=versions,
    )
    return FinetunePlan(config, data, protocol, recipe, tags, fingerprint)


def _trainer(engine: Engine, session: Session, recipe: Recipe) -> dict[str, object]:
    """What trains in place of this process; ConfigError for a recipe that it cannot follow."""
    if engine.train is not None:
        return {"kind": "command", **command_facts(engine.train)}
    check_recipe(recipe)
    assert session.served is not None
    return {"kind": str(engine.kind), "model": session.served.served_name}


def _refuse_choices(config: FinetuneConfig, engine: Engine) -> None:
    """Raise ConfigError for choices that need dev measurements during the training."""
    trainer = "engine.train" if engine.train else f"engine.kind {engine.kind}"
    if config.keep == "best":
        raise ConfigError(
            f"keep is 'best', but {trainer} trains without measurements in between; expected "
            "keep=last."
        )
    if config.patience is not None:
        raise ConfigError(
            f"patience is {config.patience}, but {trainer} trains without measurements in "
            "between; expected none."
        )


def _decisive_recipe(recipe: Recipe, keep: str) -> dict[str, object]:
    """The part of a recipe that decides the adapter.

    The interval of dev measurements does so only if they choose the adapter.
    """
    measurements_decide = recipe.patience is not None or keep == "best"
    return {
        name: value
        for name, value in asdict(recipe).items()
        if measurements_decide or name != "eval_every"
    }
