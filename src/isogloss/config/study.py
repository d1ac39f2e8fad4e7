"""Parameters of the entry point `main`, and the content of study files."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from isogloss.config import fields
from isogloss.config.engine import EngineField
from isogloss.config.finetune import Hyperparameters
from isogloss.config.numbers import PositiveNumber
from isogloss.config.resources import Resources
from isogloss.config.shared import SharedConfig
from isogloss.config.words import NoneWord, separated, text
from isogloss.types import LanguageMetrics, Launcher, Split

KEEP_FILE = "file"  # a parameter of `main` that leaves the study file's value as it is
# Parameters with one value, and the list in whose presence they would have no effect.
LISTS = {"model": "models", "source": "sources", "control_source": "sources"}

Override = Annotated[str, Field(min_length=1)]


def is_set(values: Mapping[str, object], name: str) -> bool:
    """Whether a study file or its replacements have a value for a parameter."""
    return values.get(name) not in (None, "auto", "none")


def _named(field: str) -> BeforeValidator:
    """Annotation of a mapping with a name of its own: the name alone stands for the mapping."""
    return BeforeValidator(lambda value: {field: value} if isinstance(value, str) else value)


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
    """The `compare` section of a study file; see CompareConfig.

    In a file, `covariates` is relative to the folder of the file, as recipes are.
    """

    margin: fields.Margin = 0.03
    branch: fields.Branch = None
    covariates: fields.Covariates = None
    allow_versions: fields.AllowVersions = False


class StudyModel(fields.Config):
    """One of the `models` of a study file: its name, and what differs from the study.

    `revision` is a commit or tag of the Hub. `parameters` (of Mixture-of-Experts models also
    `active_parameters`, per token) is for dry runs on machines that do not have the model.
    """

    model: fields.Model
    label: Annotated[
        Annotated[str, text("a short name for tables and figures")] | None, NoneWord("auto")
    ] = None
    revision: Annotated[Annotated[str, text("a commit or tag")] | None, NoneWord("auto")] = None
    engine: EngineField | None = None
    dtype: fields.Dtype | None = None
    attention: fields.Attention | None = None
    device_map: fields.DeviceMap | None = None
    chat: fields.Chat | None = None
    max_length: fields.MaxLength = None
    resources: Resources | None = None
    recipe: object = None  # hyperparameters, or the path of a recipe; `read_study` validates it
    parameters: PositiveNumber | None = None
    active_parameters: PositiveNumber | None = None

    @property
    def name(self) -> str:
        """The parameter `model` that loads it: its name, at its revision."""
        return f"{self.model}@{self.revision}" if self.revision else self.model

    @property
    def own(self) -> dict[str, object]:
        """The shared parameters that it replaces, by name."""
        replaced = ("engine", "dtype", "attention", "device_map", "chat", "max_length")
        values = {name: getattr(self, name) for name in replaced}
        return {
            "model": self.name,
            **{name: value for name, value in values.items() if value is not None},
        }


class StudySource(fields.Config):
    """One of the `sources` of a study file: a language or several pooled ones.

    `limit` is the number of training items of each language, `seeds` those of its adapters.
    """

    source: fields.Source
    limit: fields.Limit = None
    seeds: Annotated[tuple[fields.Seed, ...] | None, separated(), NoneWord("auto")] = None


class StudyConfig(SharedConfig):
    """A study file: models, sources and targets, base against tuned, with or without reasoning."""

    task: fields.TrainedTaskName = "probe"
    study: Annotated[fields.StudyLabel, Field(description="name that groups the study's runs")]
    models: Annotated[
        tuple[Annotated[StudyModel, _named("model")], ...] | None,
        separated(),
        NoneWord("auto"),
        Field(
            description="models, each a name or a mapping with values of its own; auto: the one in "
            "`model`"
        ),
    ] = None
    sources: Annotated[
        tuple[Annotated[StudySource, _named("source")], ...] | None,
        separated(),
        NoneWord("auto"),
        Field(
            description="languages to fine-tune on, each a code, several pooled ones joined by +, "
            "or a mapping; the contrast is that of the first; auto: `source` and `control_source`"
        ),
    ] = None
    languages: fields.Languages = None
    split: fields.SplitName = Split.TEST
    reasoning: Annotated[
        Literal["direct", "cot", "both"],
        Field(description="direct, cot (chain of thought), or both: four conditions"),
    ] = "direct"
    max_new_tokens: fields.MaxNewTokens = None
    metrics: fields.MetricsChoice = LanguageMetrics.AUTO
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
        StudyComparison, Field(description="margin, branch and covariates of the comparison")
    ] = StudyComparison()
    quick: fields.Quick = False
    launcher: Annotated[
        Launcher,
        Field(
            description="where cells are run: local (one after another in this process) or ray "
            "(side by side on a Ray cluster)"
        ),
    ] = Launcher.LOCAL
    resources: Annotated[
        Resources,
        Field(
            description="of each cell on a cluster: `gpus`, `cpus`, `memory_gb`; what is not "
            "stated is estimated"
        ),
    ] = Resources()

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, values: object) -> object:
        """Reject a value beside the list that would be used in its place."""
        if isinstance(values, Mapping):
            for name, several in LISTS.items():
                if is_set(values, name) and is_set(values, several):
                    raise PydanticCustomError(
                        "one_or_several",
                        "{name} has no effect beside {several}; put {value} into {several}, or set "
                        "{several} to 'auto'",
                        {"name": name, "several": several, "value": repr(values[name])},
                    )
        return values

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        """Reject a model, a label, a source or a seed that is listed twice."""
        listed: list[tuple[str, Sequence[object]]] = [
            ("models", [entry.name for entry in self.models or ()]),
            ("labels of models", [entry.label or entry.name for entry in self.models or ()]),
            ("sources", [entry.source for entry in self.sources or ()]),
            ("source and control_source", [self.source, self.control_source]),
            ("seeds", list(self.seeds or ())),
            *((f"seeds of {own.source}", list(own.seeds or ())) for own in self.sources or ()),
        ]
        for name, values in listed:
            if repeated := [value for value in values if values.count(value) > 1]:
                raise PydanticCustomError(
                    "repeated",
                    "{name} must be distinct, but got {value} twice",
                    {"name": name, "value": str(repeated[0])},
                )
        return self


def _described(name: str) -> FieldInfo:
    """The description that a parameter has in study files."""
    described: FieldInfo = Field(description=StudyConfig.model_fields[name].description)
    return described


class MainConfig(fields.Config):
    """Run a whole study from a YAML file: base, finetune, tuned, compare.

    All parameters but `study` and `experiment` replace values of the file; `file` keeps them.
    """

    study: Annotated[str, text("a study file"), Field(description="study file, in YAML")] = (
        "configs/demo.yaml"
    )
    model: Annotated[Override, _described("model")] = KEEP_FILE
    models: Annotated[Override, _described("models")] = KEEP_FILE
    task: Annotated[Override, _described("task")] = KEEP_FILE
    data_dir: Annotated[Override, _described("data_dir")] = KEEP_FILE
    source: Annotated[Override, _described("source")] = KEEP_FILE
    sources: Annotated[Override, _described("sources")] = KEEP_FILE
    languages: Annotated[Override, _described("languages")] = KEEP_FILE
    format: Annotated[Override, _described("format")] = KEEP_FILE
    labels: Annotated[Override, _described("labels")] = KEEP_FILE
    prompt_language: Annotated[Override, _described("prompt_language")] = KEEP_FILE
    reasoning: Annotated[Override, _described("reasoning")] = KEEP_FILE
    limit: Annotated[Override, _described("limit")] = KEEP_FILE
    metrics: Annotated[Override, _described("metrics")] = KEEP_FILE
    seed: Annotated[Override, _described("seed")] = KEEP_FILE
    seeds: Annotated[Override, _described("seeds")] = KEEP_FILE
    control_source: Annotated[Override, _described("control_source")] = KEEP_FILE
    launcher: Annotated[Override, _described("launcher")] = KEEP_FILE
    quick: Annotated[Override, _described("quick")] = KEEP_FILE
    recipe: Annotated[
        str,
        text("a recipe file or the id of a tune run", KEEP_FILE),
        Field(
            description="recipe file, or the id of a tune run, that replaces hyperparameters of "
            "the study file; file: keep the file's values"
        ),
    ] = KEEP_FILE
    dry_run: Annotated[
        bool,
        Field(
            description="list the cells with items, tokens, memory, time and disk, and run nothing"
        ),
    ] = False
    experiment: fields.Experiment = None


class CellConfig(MainConfig):
    """Run one cell of a study, once: a finished cell is not computed again.

    Any number of machines may run cells of a study at the same time, also the same cell.
    """

    cell: Annotated[str, text("the id of a cell"), Field(description="see `isogloss cells`")]
    parent: Annotated[
        Annotated[str, text("the id of a run")] | None,
        NoneWord("none"),
        Field(description="run of which the run of the cell becomes a child; or none"),
    ] = None


class CellsConfig(MainConfig):
    """List the cells of a study: ids for `isogloss cell`, kind, and whether each has finished."""

    json_output: bool = False
