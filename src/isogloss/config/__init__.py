"""Parameters of every entry point, typed and checked before anything is loaded.

A parameter has one name everywhere: here, on the command line, in MLproject, in study files.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_serializer,
)

from isogloss.types import Condition, Format, Normalisation, PromptLanguage, Reasoning, Split


def _none(value: Any) -> Any:
    return None if value in ("none", "auto", "all", "file", "") else value


def _unset(value: Any) -> Any:
    return None if value in ("auto", "file", "") else value


def _off(value: Any) -> Any:
    return None if value in ("none", "file", "") else value


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


Model = Annotated[
    str, Field(description="embedded, a Hub name with optional @revision, a folder or a .gguf file")
]
Adapter = Annotated[
    str | None,
    BeforeValidator(_none),
    Field(
        description="none, a folder, the id of a finetune run, or models:/NAME@ALIAS; several, "
        "separated by commas, are evaluated with one load of the model"
    ),
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
    Split,
    Field(description="items to evaluate on: test, dev, train or all; splits are by passage"),
]
Source = Annotated[str, Field(description="language fine-tuned on; groups are relative to it")]
Languages = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(_codes),
    Field(description="FLORES-200 codes of the targets, separated by commas, or all"),
]
FormatName = Annotated[
    Format | None,
    BeforeValidator(_none),
    Field(
        description="how a choice is made: letter (likeliest letter), cloze (likeliest option "
        "text), generate (read from generated text) or auto (the task's own)"
    ),
]
NormalisationName = Annotated[
    Normalisation | None,
    BeforeValidator(_unset),
    Field(
        description="cloze: option log-likelihoods as they are (none), by character (length), less "
        "those without the question (unconditional), or auto (the task's own)"
    ),
]
PromptLanguageName = Annotated[
    PromptLanguage,
    Field(description="language of the words around passage, question and options"),
]
Chat = Annotated[
    Literal["auto", "on", "off"],
    Field(description="use the tokenizer's chat template; auto: if it has one"),
]
ReasoningName = Annotated[
    Reasoning,
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
    Literal["auto", "float32", "bfloat16", "nf4"],
    Field(
        description="of matrix products: auto (the faster one here), float32 or bfloat16; nf4: "
        "4-bit weights, products in bfloat16 (QLoRA)"
    ),
]
Attention = Annotated[
    Literal["auto", "eager", "sdpa", "flash_attention_2"],
    Field(description="implementation of attention: auto (transformers' choice) or its name"),
]
DeviceMap = Annotated[
    Literal["none", "auto"],
    Field(description="none: one device; auto: layers over all GPUs, then in CPU memory"),
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
DevLimit = Annotated[PositiveInt, Field(description="items of source-language dev data to measure")]
Patience = Annotated[
    PositiveInt | None,
    BeforeValidator(_none),
    Field(description="stop after so many dev measurements without a better one, or none"),
]
Keep = Annotated[
    Literal["last", "best"],
    Field(description="the adapter of the run: last, or best on source-language dev data"),
]
CheckpointEvery = Annotated[
    PositiveInt, Field(description="steps between checkpoints, from which a killed run goes on")
]
GradientCheckpointing = Annotated[
    bool, Field(description="compute layers anew on the way back: less memory, more time")
]


class SharedConfig(BaseModel):
    """What is asked of which model, and how: common to evaluate, finetune, tune and studies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model = "embedded"
    task: TaskName = "probe"
    data_dir: DataDir = None
    source: Source = "arb_Arab"
    format: FormatName = None
    normalisation: NormalisationName = None
    prompt_language: PromptLanguageName = PromptLanguage.ENGLISH
    chat: Chat = "auto"
    shuffle_options: ShuffleOptions = False
    long_inputs: LongInputs = "refuse"
    max_length: MaxLength = None
    limit: Limit = None
    seed: Seed = 0
    study: StudyName = None
    dtype: Dtype = "auto"
    attention: Attention = "auto"
    device_map: DeviceMap = "none"


class EvaluateConfig(SharedConfig):
    """One condition of a model in many languages: metrics a language and predictions.parquet."""

    experiment: Experiment = None
    adapter: Adapter = None
    languages: Languages = None
    split: SplitName = Split.TEST
    reasoning: ReasoningName = Reasoning.DIRECT
    max_new_tokens: MaxNewTokens = None


class FinetuneConfig(SharedConfig):
    """LoRA on the source language; the adapter is logged as a model that can be registered."""

    experiment: Experiment = None
    recipe: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(
            description="YAML file like tune's best.yaml, or the id of a tune run, that decides "
            "what is auto below; or none"
        ),
    ] = None
    steps: Annotated[
        PositiveInt | None, BeforeValidator(_none), Field(description="optimiser steps; auto: 40")
    ] = None
    batch_size: Annotated[
        PositiveInt | None, BeforeValidator(_none), Field(description="items a step; auto: 16")
    ] = None
    learning_rate: Annotated[
        PositiveFloat | None,
        BeforeValidator(_none),
        Field(description="peak of AdamW's learning rate; auto: 0.0005"),
    ] = None
    rank: Annotated[
        PositiveInt | None, BeforeValidator(_none), Field(description="LoRA rank; auto: 16")
    ] = None
    alpha: Annotated[
        PositiveInt | None,
        BeforeValidator(_none),
        Field(description="LoRA alpha (scale: alpha / rank); auto: 32"),
    ] = None
    dropout: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        BeforeValidator(_none),
        Field(description="LoRA dropout; auto: 0"),
    ] = None
    target_modules: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(
            description="modules with LoRA: all-linear, attention, either with +experts, or names "
            "separated by commas; auto: all-linear"
        ),
    ] = None
    eval_every: Annotated[PositiveInt, Field(description="steps between dev measurements")] = 20
    dev_limit: DevLimit = 60
    patience: Patience = None
    keep: Keep = "last"
    checkpoint_every: CheckpointEvery = 10
    gradient_checkpointing: GradientCheckpointing = False
    register_as: Annotated[
        str | None,
        BeforeValidator(_off),
        Field(
            description="registered model to make a version of, with alias candidate; auto: "
            "isogloss-TASK-SOURCE; or none"
        ),
    ] = None


class TuneConfig(SharedConfig):
    """Optuna search for a training recipe, by dev data in the source language alone.

    Started again, or several times at once, with the same study and storage, it goes on together.
    """

    experiment: Experiment = None
    trials: Annotated[
        PositiveInt,
        Field(description="trials to end up with, those of other workers and calls included"),
    ] = 20
    space: Annotated[
        str, Field(description="YAML file of what is searched, and from what", min_length=1)
    ] = "configs/spaces/lora.yaml"
    objective: Annotated[
        Literal["accuracy", "gold_logprob"],
        Field(
            description="what is to be large on dev data: accuracy, or gold_logprob (mean "
            "log-probability of the right option, finer where accuracy is at its ceiling)"
        ),
    ] = "accuracy"
    dev_limit: DevLimit = 60
    measurements: Annotated[
        PositiveInt,
        Field(description="dev measurements a trial; after each but the last it may be pruned"),
    ] = 4
    pruning: Annotated[
        bool,
        Field(
            description="stop trials that a paired Wilcoxon test over dev passages shows to be "
            "worse than the best one at the same stage"
        ),
    ] = True
    storage: Annotated[
        str,
        Field(
            description="Optuna storage: a journal file, or an RDB URL such as "
            "postgresql+psycopg2://HOST/NAME"
        ),
    ] = "optuna.journal"

    @field_serializer("storage")
    def _without_password(self, storage: str) -> str:
        """The storage as it is logged."""
        return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", storage)


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
        str, Field(description="id of a finetune run, or a models:/ URI of what it logged")
    ]
    name: Annotated[
        str, Field(description="registered model; auto: isogloss-TASK-SOURCE", min_length=1)
    ] = "auto"
    alias: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(
            description="alias to move, or none; champion moves only if the adapter is better on "
            "source-language dev data than the present one"
        ),
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
    recipe: Annotated[
        str, Field(description="as in finetune: a file, or the id of a tune run, before the file's")
    ] = "file"
    experiment: Experiment = None


class ImportConfig(BaseModel):
    """Results of lm-evaluation-harness, of inspect_ai or in tables become evaluate runs.

    `auto` is what the file says; what it does not say has to be given. See
    docs/how-to/import-results.md.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, Field(description="file, folder or pattern of results", min_length=1)]
    model: Annotated[
        str | None,
        BeforeValidator(_none),
        Field(description="name of the model, the same for base and tuned; auto: as the file says"),
    ] = None
    condition: Annotated[
        Condition | None,
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
        Format | None,
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

    Gains are fractions of accuracy (0.03: three points). See docs/how-to/plan-a-study.md.
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


class Hyperparameters(BaseModel):
    """What a search may decide of a training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: PositiveInt = 40
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 5e-4
    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str = "all-linear"


class Training(Hyperparameters):
    """The `finetune` part of a study file; see FinetuneConfig."""

    eval_every: PositiveInt = 20
    dev_limit: DevLimit = 60
    patience: Patience = None
    keep: Keep = "last"
    checkpoint_every: CheckpointEvery = 10
    gradient_checkpointing: GradientCheckpointing = False
    limit: Limit = None


class Judging(BaseModel):
    """The `compare` part of a study file; see CompareConfig."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    margin: Margin = 0.03
    branch: Branch = None


class StudyConfig(SharedConfig):
    """A study file: one source, many targets, base against tuned, with or without reasoning."""

    study: Annotated[str, Field(min_length=1)]
    languages: Languages = None
    split: SplitName = Split.TEST
    reasoning: Conditions = "direct"
    max_new_tokens: MaxNewTokens = None
    seeds: Seeds = None
    control_source: ControlSource = None
    finetune: Training = Training()
    compare: Judging = Judging()


NONE_AS = {
    "adapter": "none",
    "data_dir": "none",
    "study": "none",
    "tags": "none",
    "like": "none",
    "patience": "none",
    "recipe": "none",
    "register_as": "none",
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


def command_line(entry_point: str, config: BaseModel) -> str:
    """The `mlflow run` command with every parameter that differs from its default."""
    words = [f"mlflow run . -e {entry_point} --env-manager local"]
    for name, field in type(config).model_fields.items():
        value = as_text(name, getattr(config, name))
        if field.is_required() or value != as_text(name, field.default):
            words.append(f"-P {name}={value}")
    return " ".join(words)


FRACTIONS = ("margin", "effect", "spread", "seed_spread", "gain", "discordant")


def explain(error: ValidationError) -> str:
    """One line a wrong parameter: its name, what is wrong, the value given."""
    lines = []
    for entry in error.errors():
        name = ".".join(str(part) for part in entry["loc"])
        if entry["type"] == "extra_forbidden":
            lines.append(f"{name}: there is nothing of that name.")
            continue
        hint = " (a fraction: 0.03 is three points)" if name in FRACTIONS else ""
        lines.append(f"{name}: {entry['msg'].lower()}{hint}, but got {entry['input']!r}.")
    return "\n".join(lines)
