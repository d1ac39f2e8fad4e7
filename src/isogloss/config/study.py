"""Parameters of the entry point `main`, and the content of study files."""

from typing import Annotated, Literal

from pydantic import Field

from isogloss.config import fields
from isogloss.config.finetune import Hyperparameters
from isogloss.config.shared import SharedConfig
from isogloss.config.words import NoneWord, separated, text
from isogloss.types import Split

KEEP_FILE = "file"  # a parameter of `main` that leaves the study file's value as it is

Override = Annotated[
    str,
    Field(min_length=1, description="replaces the study file's value; file: keep the file's value"),
]


class StudyTraining(Hyperparameters):
    """The `finetune` section of a study file; see FinetuneConfig."""

    eval_every: fields.EvalEvery = 20
    dev_limit: fields.DevLimit = 60
    patience: fields.Patience = None
    keep: fields.Keep = "last"
    checkpoint_every: fields.CheckpointEvery = 10
    gradient_checkpointing: fields.GradientCheckpointing = False
    limit: fields.Limit = None


class StudyComparison(fields.Config):
    """The `compare` section of a study file; see CompareConfig."""

    margin: fields.Margin = 0.03
    branch: fields.Branch = None


class StudyConfig(SharedConfig):
    """A study file: one source, many targets, base against tuned, with or without reasoning."""

    study: Annotated[
        str, text("the name of a study"), Field(description="name that groups the study's runs")
    ]
    languages: fields.Languages = None
    split: fields.SplitName = Split.TEST
    reasoning: Annotated[
        Literal["direct", "cot", "both"],
        Field(description="direct, cot (chain of thought), or both: four conditions"),
    ] = "direct"
    max_new_tokens: fields.MaxNewTokens = None
    seeds: Annotated[
        tuple[fields.Seed, ...] | None,
        separated(),
        NoneWord("auto"),
        Field(description="seeds, separated by commas, one adapter each; auto: the one in `seed`"),
    ] = None
    control_source: Annotated[
        fields.SourceName | None,
        NoneWord("none"),
        Field(
            description="second language to fine-tune on, whose gains the first one's are compared "
            "with; or none"
        ),
    ] = None
    finetune: Annotated[
        StudyTraining, Field(description="hyperparameters of training, or the path of a recipe")
    ] = StudyTraining()
    compare: Annotated[
        StudyComparison, Field(description="margin and branch of the comparison")
    ] = StudyComparison()


class MainConfig(fields.Config):
    """Run a whole study from a YAML file: base, finetune, tuned, compare.

    All parameters but `study` and `experiment` replace values of the file; `file` keeps them.
    """

    study: Annotated[str, text("a study file"), Field(description="study file, in YAML")] = (
        "configs/demo.yaml"
    )
    model: Override = KEEP_FILE
    task: Override = KEEP_FILE
    data_dir: Override = KEEP_FILE
    source: Override = KEEP_FILE
    languages: Override = KEEP_FILE
    format: Override = KEEP_FILE
    prompt_language: Override = KEEP_FILE
    reasoning: Override = KEEP_FILE
    limit: Override = KEEP_FILE
    seed: Override = KEEP_FILE
    seeds: Override = KEEP_FILE
    control_source: Override = KEEP_FILE
    recipe: Annotated[
        str,
        text("a recipe file or the id of a tune run", KEEP_FILE),
        Field(
            description="recipe file, or the id of a tune run, that replaces hyperparameters of "
            "the study file; file: keep the file's values"
        ),
    ] = KEEP_FILE
    experiment: fields.Experiment = None
