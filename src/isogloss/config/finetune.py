"""Parameters of the entry point `finetune`, and the hyperparameters that a recipe holds."""

from typing import Annotated

from pydantic import Field

from isogloss.config import fields
from isogloss.config.numbers import Alpha, BatchSize, Count, LearningRate, Rank
from isogloss.config.shared import SharedConfig
from isogloss.config.words import NoneWord, text

Dropout = Annotated[float, Field(ge=0, lt=1)]


class Hyperparameters(fields.Config):
    """Hyperparameters of training that a search or a recipe may decide."""

    steps: Annotated[Count, Field(description="number of optimiser steps")] = 40
    batch_size: Annotated[BatchSize, Field(description="items per step")] = 16
    learning_rate: Annotated[LearningRate, Field(description="peak learning rate of AdamW")] = 5e-4
    rank: Annotated[Rank, Field(description="LoRA rank")] = 16
    alpha: Annotated[
        Alpha, Field(description="LoRA alpha (updates are scaled by alpha / rank)")
    ] = 32
    dropout: Annotated[Dropout, Field(description="LoRA dropout")] = 0.0
    target_modules: Annotated[
        fields.TargetModules,
        Field(
            description="modules that get LoRA layers: all-linear, attention, either with +experts,"
            " or names separated by commas"
        ),
    ] = "all-linear"


class FinetuneConfig(SharedConfig):
    """Fine-tune on the source language with LoRA.

    Logs the adapter as a model that can be registered.
    """

    task: fields.TrainedTaskName = "probe"
    experiment: fields.Experiment = None
    recipe: Annotated[
        Annotated[str, text("a recipe file or the id of a tune run")] | None,
        NoneWord("none"),
        Field(
            description="YAML file such as tune's best.yaml, or the id of a tune run: sets the "
            "hyperparameters below that are auto; or none"
        ),
    ] = None
    steps: Annotated[
        Count | None,
        NoneWord("auto"),
        Field(description="number of optimiser steps; auto: 40"),
    ] = None
    batch_size: Annotated[
        BatchSize | None, NoneWord("auto"), Field(description="items per step; auto: 16")
    ] = None
    learning_rate: Annotated[
        LearningRate | None,
        NoneWord("auto"),
        Field(description="peak learning rate of AdamW; auto: 0.0005"),
    ] = None
    rank: Annotated[Rank | None, NoneWord("auto"), Field(description="LoRA rank; auto: 16")] = None
    alpha: Annotated[
        Alpha | None,
        NoneWord("auto"),
        Field(description="LoRA alpha (updates are scaled by alpha / rank); auto: 32"),
    ] = None
    dropout: Annotated[
        Dropout | None, NoneWord("auto"), Field(description="LoRA dropout; auto: 0")
    ] = None
    target_modules: Annotated[
        fields.TargetModules | None,
        NoneWord("auto"),
        Field(
            description="modules that get LoRA layers: all-linear, attention, either with +experts,"
            " or names separated by commas; auto: all-linear"
        ),
    ] = None
    eval_every: fields.EvalEvery = 20
    dev_limit: fields.DevLimit = 60
    patience: fields.Patience = None
    keep: fields.Keep = "last"
    quick: fields.Quick = False
    checkpoint_every: fields.CheckpointEvery = 10
    gradient_checkpointing: fields.GradientCheckpointing = False
    register_as: Annotated[
        fields.RegisteredName | None,
        NoneWord("none"),
        Field(
            description="registered model that gets a new version with the alias candidate; auto: "
            "isogloss-TASK-SOURCE; or none"
        ),
    ] = None
