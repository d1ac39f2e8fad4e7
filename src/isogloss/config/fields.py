"""Fields that several configurations share. A field has one name and one meaning everywhere."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from isogloss.config.numbers import Count, SeedNumber
from isogloss.config.words import NoneWord, one_line, registered_name, separated, text
from isogloss.languages import pooled_source
from isogloss.stats.margins import ACCEPTED, is_percentage, share_of_gain
from isogloss.types import (
    EVALUATION_ONLY,
    Format,
    Labels,
    LanguageMetrics,
    Normalisation,
    PromptLanguage,
    Reasoning,
    Split,
)

LanguageName = Annotated[str, text("a FLORES-200 code such as arb_Arab")]

Model = Annotated[
    str,
    text("'embedded', a Hub name, a folder or a .gguf file"),
    Field(description="embedded, a Hub name with optional @revision, a folder or a .gguf file"),
]
TaskName = Annotated[
    Literal[
        "probe",
        "sib200",
        "belebele",
        "global_mmlu",
        "global_piqa_parallel",
        "global_piqa_nonparallel",
        "afrixnli",
        "files",
    ],
    Field(
        description="probe, sib200, belebele, global_mmlu, global_piqa_parallel, "
        "global_piqa_nonparallel, afrixnli, or files (your own data)"
    ),
]


def _may_train(task: str) -> str:
    if task in EVALUATION_ONLY:
        raise PydanticCustomError(
            "evaluation_only",
            "Input should be a task to train on (the licence of Global PIQA allows evaluation "
            "alone: train on another task, then evaluate the adapter on this one)",
        )
    return task


TrainedTaskName = Annotated[TaskName, AfterValidator(_may_train)]
DataDir = Annotated[
    Annotated[str, text("a folder of data")] | None,
    NoneWord("none"),
    Field(
        description="folder with the task's data; for files also a YAML file that describes them; "
        "none: download from the Hub (the probe needs no data)"
    ),
]


def pooled() -> AfterValidator:
    """Annotation of a source: pooled languages, joined by +, in the order of the package."""
    return AfterValidator(pooled_source)


@dataclass(frozen=True)
class FractionOrPercentage:
    """Annotation of a margin: a fraction, or a percentage of the mean gain, which stays text."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A percentage is checked and written as `20%`; anything else is a fraction."""

        def check(value: object, fraction: ValidatorFunctionWrapHandler) -> object:
            if not is_percentage(value):
                return fraction(value)
            try:
                return f"{100 * share_of_gain(str(value)):g}%"
            except ValueError as error:
                raise PydanticCustomError(
                    "margin", "Input should be {accepted}", {"accepted": ACCEPTED}
                ) from error

        return core_schema.no_info_wrap_validator_function(
            check,
            core_schema.float_schema(gt=0, lt=1),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value),
        )


SourceName = Annotated[str, text("a FLORES-200 code such as arb_Arab"), pooled()]
Source = Annotated[
    SourceName,
    Field(
        description="language fine-tuned on, or several pooled ones joined by +; groups are "
        "relative to it"
    ),
]
FormatName = Annotated[
    Format | None,
    NoneWord("auto"),
    Field(
        description="how a choice is scored: letter (most likely label), cloze (most likely option "
        "text), generate (generated text is parsed), or auto (the task's default)"
    ),
]
LabelsName = Annotated[
    Labels,
    Field(
        description="labels of options, in letter and generate: letters (A, B, ...), digits "
        "(1, 2, ...) or native (the letters customary in each language)"
    ),
]
NormalisationName = Annotated[
    Normalisation | None,
    NoneWord("auto"),
    Field(
        description="of option log-likelihoods in cloze: none, length (per character), "
        "unconditional (minus the log-likelihood without the question), or auto (the task's "
        "default)"
    ),
]
PromptLanguageName = Annotated[
    PromptLanguage,
    Field(
        description="language of the words around passage, question and options: english or target"
    ),
]
Chat = Annotated[
    Literal["auto", "on", "off"],
    Field(description="whether to use the tokenizer's chat template; auto: if it has one"),
]
ShuffleOptions = Annotated[
    bool,
    Field(
        description="shuffle the options of each item by seed, in the same order in every language"
    ),
]
LongInputs = Annotated[
    Literal["refuse", "shorten"],
    Field(
        description="prompts longer than max_length: refuse (an error) or shorten (cut passages)"
    ),
]
MaxLength = Annotated[
    Count | None,
    NoneWord("auto"),
    Field(description="context window in tokens, including generated ones; auto: the model's"),
]
TestItems = Annotated[
    Count | None,
    NoneWord("auto"),
    Field(
        description="number of test items, with the same ids in every language; the other items "
        "are for training; auto: the splits of the task"
    ),
]
SharePassages = Annotated[
    bool,
    Field(
        description="with test_items: draw items whatever their passage, so that training and test "
        "can share passages, as in the published study; recorded and reported"
    ),
]
Limit = Annotated[
    Count | None,
    NoneWord("all"),
    Field(description="number of items per language, counted from the first; or all"),
]
Seed = Annotated[
    SeedNumber, Field(description="random seed of data order and initial adapter weights")
]
StudyLabel = Annotated[str, text("the name of a study"), one_line()]
StudyName = Annotated[
    StudyLabel | None,
    NoneWord("none"),
    Field(description="name that groups runs into a study, or none"),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "nf4"],
    Field(
        description="precision of matrix products: float32, bfloat16 or auto (the faster one on "
        "this machine); nf4: 4-bit weights with bfloat16 products (QLoRA)"
    ),
]
Attention = Annotated[
    Literal["auto", "eager", "sdpa", "flash_attention_2"],
    Field(
        description="attention implementation: eager, sdpa, flash_attention_2, or auto "
        "(transformers' default)"
    ),
]
DeviceMap = Annotated[
    Literal["none", "auto"],
    Field(description="none: one device; auto: spread layers over all GPUs, then CPU memory"),
]
Experiment = Annotated[
    Annotated[str, text("the name of an experiment"), one_line()] | None,
    NoneWord("auto"),
    Field(
        description="MLflow experiment to log to; auto: the one `mlflow run` or the environment "
        "names, else isogloss"
    ),
]
Quick = Annotated[
    bool,
    Field(
        description="a look within a minute on the embedded model: few items, languages and steps; "
        "marked by a tag, and never reused for or compared with a full run"
    ),
]
RegisteredName = Annotated[
    str, text("the name of a registered model", "auto"), one_line(), registered_name()
]
Languages = Annotated[
    tuple[LanguageName, ...] | None,
    separated(),
    NoneWord("all"),
    Field(description="target languages as FLORES-200 codes, separated by commas; or all"),
]
SplitName = Annotated[
    Split,
    Field(description="items to evaluate: test, dev, train or all; passages are never divided"),
]
MaxNewTokens = Annotated[
    Count | None,
    NoneWord("auto"),
    Field(description="number of tokens to generate at most; auto: 16, or 256 for cot"),
]
ReasoningName = Annotated[
    Reasoning,
    Field(description="direct (answer immediately) or cot (chain of thought first)"),
]
MetricsChoice = Annotated[
    LanguageMetrics,
    Field(
        description="metrics of single languages: all, summary (means over languages alone), or "
        "auto (all of up to 40 languages; of more the accuracy, its error, the number of items and "
        "the share of valid answers); languages.json has everything"
    ),
]
DevLimit = Annotated[
    Count,
    Field(
        description="number of source-language dev items to measure on, shared evenly by pooled "
        "languages"
    ),
]
Patience = Annotated[
    Count | None,
    NoneWord("none"),
    Field(description="stop after this many dev measurements without improvement, or none"),
]
Keep = Annotated[
    Literal["last", "best"],
    Field(description="which adapter the run returns: last, or best (on source-language dev data)"),
]
EvalEvery = Annotated[Count, Field(description="number of steps between dev measurements")]
CheckpointEvery = Annotated[
    Count,
    Field(description="number of steps between checkpoints, from which an interrupted run resumes"),
]
GradientCheckpointing = Annotated[
    bool,
    Field(description="recompute activations in the backward pass: less memory, more time"),
]
TargetModules = Annotated[
    str, text("'all-linear', 'attention', either with '+experts', or names of modules")
]
Margin = Annotated[
    float | str,
    FractionOrPercentage(),
    Field(
        description="equivalence margin: the largest difference of gains that does not matter, "
        "stated in advance: a fraction (0.03 is three points), or a percentage of the mean gain "
        "such as 20%"
    ),
]
AllowVersions = Annotated[
    bool,
    Field(
        description="compare runs although they were computed with different major versions of "
        "torch, transformers, tokenizers or peft"
    ),
]
Covariates = Annotated[
    Annotated[str, text("a CSV file")] | None,
    NoneWord("none"),
    Field(
        description="CSV file of covariates that the single-source contrast is adjusted for too: a "
        "column `language` of FLORES-200 codes, and columns of numbers; none: only baseline, "
        "script, tokens and pre-training text"
    ),
]
Branch = Annotated[
    Annotated[str, text("a branch such as Semitic")] | None,
    NoneWord("auto"),
    Field(description="branch whose languages count as related; auto: the source's own"),
]


class Config(BaseModel):
    """Base of all configurations: immutable, and without unknown parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)
