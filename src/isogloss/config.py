"""Parameters of every entry point, typed and checked before anything is loaded.

A parameter has one name everywhere: here, on the command line, in MLproject, in study files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from isogloss.errors import ConfigError


def _none(value: Any) -> Any:
    return None if value in ("none", "auto", "all", "file", "") else value


def _unset(value: Any) -> Any:
    return None if value in ("auto", "file", "") else value


def _codes(value: Any) -> Any:
    value = _none(value)
    if isinstance(value, str):
        return tuple(code.strip() for code in value.split(",") if code.strip())
    return value


def _numbers(value: Any) -> Any:
    value = _none(value)
    if isinstance(value, int):
        return (value,)
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _ranks(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


Model = Annotated[
    str, Field(description="embedded, a Hub name with optional @revision, a folder or a .gguf file")
]
Adapter = Annotated[
    str | None,
    BeforeValidator(_none),
    Field(description="none, a folder, the id of a finetune run, or models:/NAME@ALIAS"),
]
TaskName = Annotated[
    Literal["probe", "sib200", "belebele", "files"],
    Field(description="probe, sib200, belebele, or files (your own data)"),
]
DataDir = Annotated[
    str | None,
    BeforeValidator(_none),
    Field(
        description="folder of the task's data, for files also a YAML file that describes them; "
        "none: the Hub (the probe needs no data)"
    ),
]
SplitName = Annotated[
    Literal["train", "dev", "test", "all"],
    Field(description="items to evaluate on: test, dev, train or all; splits are by passage"),
]
Source = Annotated[str, Field(description="language fine-tuned on; groups are relative to it")]
Languages = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(_codes),
    Field(description="FLORES-200 codes of the targets, separated by commas, or all"),
]
FormatName = Annotated[
    Literal["letter", "cloze", "generate"] | None,
    BeforeValidator(_none),
    Field(
        description="how a choice is made: letter (likeliest letter), cloze (likeliest option "
        "text), generate (read from generated text) or auto (the task's own)"
    ),
]
NormalisationName = Annotated[
    Literal["none", "length", "unconditional"] | None,
    BeforeValidator(_unset),
    Field(
        description="cloze: option log-likelihoods as they are (none), by character (length), less "
        "those without the question (unconditional), or auto (the task's own)"
    ),
]
PromptLanguageName = Annotated[
    Literal["english", "target"],
    Field(description="language of the words around passage, question and options"),
]
Chat = Annotated[
    Literal["auto", "on", "off"],
    Field(description="use the tokenizer's chat template; auto: if it has one"),
]
Reasoning = Annotated[
    Literal["direct", "cot"],
    Field(description="direct: the answer at once; cot: after chain of thought"),
]
Conditions = Annotated[
    Literal["direct", "cot", "both"],
    Field(description="direct, cot (chain of thought) or both: four conditions"),
]
MaxNewTokens = Annotated[
    PositiveInt | None,
    BeforeValidator(_none),
    Field(description="budget of generated tokens; auto: 16, or 256 with cot"),
]
ShuffleOptions = Annotated[
    bool, Field(description="show options in an order drawn by the seed, alike in all languages")
]
LongInputs = Annotated[
    Literal["refuse", "shorten"],
    Field(description="prompts past max_length: refuse, or shorten their passages"),
]
MaxLength = Annotated[
    PositiveInt | None,
    BeforeValidator(_none),
    Field(description="context window in tokens, generated ones included; auto: the model's"),
]
Limit = Annotated[
    PositiveInt | None,
    BeforeValidator(_none),
    Field(description="items a language, from the first on, or all"),
]
Seed = Annotated[int, Field(ge=0, description="decides data order and initial adapter weights")]
Seeds = Annotated[
    tuple[int, ...] | None,
    BeforeValidator(_numbers),
    Field(description="seeds of as many adapters, separated by commas; auto: `seed` alone"),
]
ControlSource = Annotated[
    str | None,
    BeforeValidator(_none),
    Field(description="second language to fine-tune on, whose gains the first's are held against"),
]
StudyName = Annotated[
    str | None,
    BeforeValidator(_none),
    Field(description="name under which runs belong together, or none"),
]
Experiment = Annotated[
    str | None,
    BeforeValidator(_none),
    Field(description="MLflow experiment of the runs; auto: that of `mlflow run`, or Default"),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"],
    Field(description="of matrix products: auto (the faster one here), float32 or bfloat16"),
]
Margin = Annotated[
    float,
    Field(gt=0, lt=1, description="difference of gains too small to matter, stated in advance"),
]
Branch = Annotated[
    str | None,
    BeforeValidator(_none),
    Field(description="branch whose languages count as related; auto: the source's own"),
]
Steps = Annotated[PositiveInt, Field(description="optimiser steps")]
BatchSize = Annotated[PositiveInt, Field(description="items a step")]
DevLimit = Annotated[PositiveInt, Field(description="items of source-language dev data to measure")]


class AskConfig(BaseModel):
    """What is asked of which model, and how: common to evaluate, finetune, tune and studies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model = "embedded"
    task: TaskName = "probe"
    data_dir: DataDir = None
    source: Source = "arb_Arab"
    format: FormatName = None
    normalisation: NormalisationName = None
    prompt_language: PromptLanguageName = "english"
    chat: Chat = "auto"
    shuffle_options: ShuffleOptions = False
    long_inputs: LongInputs = "refuse"
    max_length: MaxLength = None
    limit: Limit = None
    seed: Seed = 0
    study: StudyName = None
    dtype: Dtype = "auto"


class EvaluateConfig(AskConfig):
    """One condition of a model in many languages: metrics a language and predictions.parquet."""

    experiment: Experiment = None
    adapter: Adapter = None
    languages: Languages = None
    split: SplitName = "test"
    reasoning: Reasoning = "direct"
    max_new_tokens: MaxNewTokens = None


class FinetuneConfig(AskConfig):
    """LoRA on the source language; the adapter is logged as a model that can be registered."""

    experiment: Experiment = None
    steps: Steps = 40
    batch_size: BatchSize = 16
    learning_rate: Annotated[float, Field(gt=0, description="peak of AdamW's learning rate")] = 5e-4
    rank: Annotated[PositiveInt, Field(description="LoRA rank")] = 16
    alpha: Annotated[PositiveInt, Field(description="LoRA alpha (scale: alpha / rank)")] = 32
    dropout: Annotated[float, Field(ge=0, lt=1, description="LoRA dropout")] = 0.0
    target_modules: Annotated[
        str, Field(description="modules with LoRA: all-linear, or names separated by commas")
    ] = "all-linear"
    eval_every: Annotated[PositiveInt, Field(description="steps between dev measurements")] = 20
    dev_limit: DevLimit = 60


class TuneConfig(AskConfig):
    """Optuna search over learning rate and rank, by dev accuracy in the source language alone."""

    experiment: Experiment = None
    trials: Annotated[
        PositiveInt, Field(description="finished trials to reach, earlier calls' included")
    ] = 8
    steps: Steps = 30
    batch_size: BatchSize = 16
    dev_limit: DevLimit = 60
    min_learning_rate: Annotated[float, Field(gt=0, description="low end, log-uniform")] = 1e-4
    max_learning_rate: Annotated[float, Field(gt=0, description="high end, log-uniform")] = 2e-3
    ranks: Annotated[
        tuple[PositiveInt, ...],
        BeforeValidator(_ranks),
        Field(description="LoRA ranks to try, separated by commas"),
    ] = (4, 8, 16, 32)
    storage: Annotated[
        str,
        Field(description="Optuna storage: a journal file, or an RDB URL such as sqlite:///x.db"),
    ] = "optuna.journal"


class CompareConfig(BaseModel):
    """Judge evaluate runs: kinship contrast, the three claims, figures, report."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(_codes),
        Field(description="studies whose runs are judged, separated by commas, or none: any"),
    ] = None
    experiment: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(_codes),
        Field(description="MLflow experiments to look in, separated by commas; auto: this one"),
    ] = None
    tags: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(description="only runs with these tags: NAME=VALUE, separated by commas, or none"),
    ] = None
    runs: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(_codes),
        Field(description="exactly these evaluate runs: ids separated by commas, or auto"),
    ] = None
    condition: Annotated[
        Literal["tuned", "base+cot", "tuned+cot"],
        Field(description="condition that is judged: tuned, base+cot or tuned+cot"),
    ] = "tuned"
    against: Annotated[
        Literal["base", "base+cot", "tuned"],
        Field(description="condition it is compared with: base, base+cot or tuned"),
    ] = "base"
    source: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(description="language fine-tuned on; auto: the only one that runs were tuned on"),
    ] = None
    branch: Branch = None
    margin: Margin = 0.03


class RegisterConfig(BaseModel):
    """Register an adapter that a finetune run logged, and point an alias at the version."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: Annotated[
        str, Field(description="id of a finetune run, or models:/ID of what it logged")
    ]
    name: Annotated[str, Field(description="registered model", min_length=1)] = "isogloss"
    alias: Annotated[
        str | None, BeforeValidator(_none), Field(description="alias to move, or none")
    ] = "candidate"


class MainConfig(BaseModel):
    """A whole study from a YAML file: base, finetune, tuned, compare.

    Each of the other parameters takes the place of the file's own; `file` keeps that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: Annotated[str, Field(description="study file")] = "configs/demo.yaml"
    model: Annotated[str, Field(description="in place of the file's")] = "file"
    task: Annotated[str, Field(description="in place of the file's")] = "file"
    data_dir: Annotated[str, Field(description="in place of the file's")] = "file"
    source: Annotated[str, Field(description="in place of the file's")] = "file"
    languages: Annotated[str, Field(description="in place of the file's")] = "file"
    format: Annotated[str, Field(description="in place of the file's")] = "file"
    prompt_language: Annotated[str, Field(description="in place of the file's")] = "file"
    reasoning: Annotated[str, Field(description="in place of the file's")] = "file"
    limit: Annotated[str, Field(description="in place of the file's")] = "file"
    seed: Annotated[str, Field(description="in place of the file's")] = "file"
    seeds: Annotated[str, Field(description="in place of the file's")] = "file"
    control_source: Annotated[str, Field(description="in place of the file's")] = "file"
    experiment: Experiment = None


class ImportConfig(BaseModel):
    """Results of lm-evaluation-harness, of inspect_ai or in tables become evaluate runs.

    `auto` is what the file says; what it does not say has to be given. See docs/import.md.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, Field(description="file, folder or pattern of results", min_length=1)]
    model: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(description="name of the model, the same for base and tuned; auto: as the file says"),
    ] = None
    condition: Annotated[
        Literal["base", "tuned", "base+cot", "tuned+cot"] | None,
        BeforeValidator(_none),
        Field(description="base, tuned, base+cot, tuned+cot, or auto"),
    ] = None
    source: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(description="language tuned on; for base what groups are relative to, or auto"),
    ] = None
    seed: Annotated[
        Annotated[int, Field(ge=0)] | None,
        BeforeValidator(_none),
        Field(description="tells replicates apart; auto: as the file says, or unknown"),
    ] = None
    task: Annotated[
        str | None, BeforeValidator(_none), Field(description="name of the task, or auto")
    ] = None
    format: Annotated[
        Literal["letter", "cloze", "generate"] | None,
        BeforeValidator(_none),
        Field(description="how choices were made: letter, cloze, generate, or auto"),
    ] = None
    language: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(description="FLORES-200 code, or the field that holds it, or auto"),
    ] = None
    passage: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(description="field that tells passages apart, or auto"),
    ] = None
    metric: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(
            description="what says that an answer is right: METRIC or METRIC,FILTER of lm-eval, "
            "a scorer of inspect_ai, a column, or auto"
        ),
    ] = None
    study: StudyName = None
    experiment: Experiment = None


class PlanConfig(BaseModel):
    """What a number of languages, items and seeds can show, before it is paid for.

    Gains are fractions of accuracy (0.03: three points). See docs/planning.md.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    related: Annotated[
        Annotated[int, Field(ge=2, le=1000)] | None,
        BeforeValidator(_none),
        Field(description="related languages; auto: 4, or as many as `like` has"),
    ] = None
    control: Annotated[
        tuple[Annotated[int, Field(ge=2, le=1000)], ...],
        BeforeValidator(_numbers),
        Field(description="numbers of control languages to try, separated by commas", min_length=1),
    ] = (4, 8, 12, 16, 20)
    items: Annotated[
        PositiveInt | None,
        BeforeValidator(_none),
        Field(description="items a language; auto: 900, or as many as `like` has"),
    ] = None
    passages: Annotated[
        PositiveInt | None,
        BeforeValidator(_none),
        Field(description="passages of these items; auto: 488 to 900 items, as in Belebele"),
    ] = None
    seeds: Annotated[
        PositiveInt | None,
        BeforeValidator(_none),
        Field(description="how many adapters, of a seed each; auto: 1, or as many as `like` has"),
    ] = None
    spread: Annotated[
        float,
        Field(ge=0, lt=1, description="standard deviation of true gains within a group"),
    ] = 0.04
    seed_spread: Annotated[
        float,
        Field(
            ge=0, lt=1, description="standard deviation of one language's gain from seed to seed"
        ),
    ] = 0.02
    gain: Annotated[float, Field(gt=-1, lt=1, description="mean gain to expect")] = 0.2
    discordant: Annotated[
        float,
        Field(ge=0, le=1, description="share of items right in one condition and not in the other"),
    ] = 0.4
    passage_correlation: Annotated[
        float,
        Field(ge=0, le=1, description="correlation of changes of two items of one passage"),
    ] = 0.1
    margin: Margin = 0.03
    effect: Annotated[
        float, Field(gt=0, lt=1, description="true contrast whose chance to be found is told")
    ] = 0.1
    like: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(
            description="id of a pilot's compare run; what it measured takes the place of spread, "
            "gain, discordant, passages and passage_correlation; or none"
        ),
    ] = None
    study: StudyName = None
    experiment: Experiment = None


class Training(BaseModel):
    """The `finetune` part of a study file; see FinetuneConfig."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Steps = 40
    batch_size: BatchSize = 16
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str = "all-linear"
    eval_every: PositiveInt = 20
    dev_limit: DevLimit = 60
    limit: Limit = None


class Judging(BaseModel):
    """The `compare` part of a study file; see CompareConfig."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    margin: Margin = 0.03
    branch: Branch = None


class StudyConfig(AskConfig):
    """A study file: one source, many targets, base against tuned, with or without reasoning."""

    study: Annotated[str, Field(min_length=1)]
    languages: Languages = None
    split: SplitName = "test"
    reasoning: Conditions = "direct"
    max_new_tokens: MaxNewTokens = None
    seeds: Seeds = None
    control_source: ControlSource = None
    finetune: Training = Training()
    compare: Judging = Judging()


def read_study(path: Path, overrides: Mapping[str, str]) -> StudyConfig:
    """Read a study file; `overrides` are values that take the place of the file's, as strings."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"study file {str(path)!r} cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"study file {str(path)!r} is not YAML ({error}).") from error
    if not isinstance(content, dict):
        raise ConfigError(f"study file {str(path)!r} is not a mapping of parameters.")
    try:
        return StudyConfig.model_validate({**content, **overrides})
    except ValidationError as error:
        raise ConfigError(f"study file {str(path)!r}: {explain(error)}") from error


NONE_AS = {
    "adapter": "none",
    "data_dir": "none",
    "study": "none",
    "tags": "none",
    "like": "none",
    "languages": "all",
    "limit": "all",
}


def as_text(name: str, value: Any) -> str:
    """A parameter as it is written on the command line, in MLproject and in MLflow."""
    if value is None:
        return NONE_AS.get(name, "auto")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


FRACTIONS = ("margin", "effect", "spread", "seed_spread", "gain", "discordant")


def explain(error: ValidationError) -> str:
    """One line a wrong parameter: its name, what is wrong, the value given."""
    lines = []
    for entry in error.errors():
        name = ".".join(str(part) for part in entry["loc"])
        hint = " (a fraction: 0.03 is three points)" if name in FRACTIONS else ""
        lines.append(f"{name}: {entry['msg'].lower()}{hint}, but got {entry['input']!r}.")
    return "\n".join(lines)
