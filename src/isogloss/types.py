"""Types that every package may use: closed sets of names, intervals, arrays.

Members of the enums are strings, equal to what tags, parameters and parquet columns hold.
"""

from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
LanguageCode = str  # of FLORES-200, as `heb_Hebr`

# Tasks whose licence allows no training: no adapter is trained or tuned on them.
EVALUATION_ONLY = ("global_piqa_parallel", "global_piqa_nonparallel")


class Interval(NamedTuple):
    """A closed interval; an end is infinite if the data do not bound it."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside."""
        return not self.low <= value <= self.high

    def inside(self, margin: float) -> bool:
        """Whether the whole interval lies strictly within plus or minus `margin`."""
        return -margin < self.low and self.high < margin


class Split(StrEnum):
    """Part of a task's items; splits are by passage."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"
    ALL = "all"


class LanguageMetrics(StrEnum):
    """Which values of single languages are metrics of a run; its table has all of them."""

    AUTO = "auto"  # all, and of many languages the main ones
    ALL = "all"
    SUMMARY = "summary"  # none: means over languages alone


class Format(StrEnum):
    """How a choice is scored: labelled options, option text, or generated text that is parsed."""

    LETTER = "letter"
    CLOZE = "cloze"
    GENERATE = "generate"


class Labels(StrEnum):
    """What labels options: A, B, ...; 1, 2, ...; or the letters customary in the language."""

    LETTERS = "letters"
    DIGITS = "digits"
    NATIVE = "native"


class Normalisation(StrEnum):
    """What cloze does to option log-likelihoods before it ranks them.

    `length` divides by characters (lm-evaluation-harness's acc_norm); `unconditional` subtracts the
    log-likelihood without passage and question (lighteval's LogProbPMINorm).
    """

    NONE = "none"
    LENGTH = "length"
    UNCONDITIONAL = "unconditional"


class EngineKind(StrEnum):
    """What computes a cell in place of this process: an inference server or a training program."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMA_CPP = "llama_cpp"
    OPENAI = "openai"
    TINKER = "tinker"
    COMMAND = "command"


class Launcher(StrEnum):
    """Where the cells of a study are run: one after another in this process, or by Ray."""

    LOCAL = "local"
    RAY = "ray"


class PromptLanguage(StrEnum):
    """Language of the words around passage, question and options."""

    ENGLISH = "english"
    TARGET = "target"


class Reasoning(StrEnum):
    """Whether a model answers directly or after a chain of thought."""

    DIRECT = "direct"
    COT = "cot"


class Condition(StrEnum):
    """With or without an adapter, with or without chain of thought."""

    BASE = "base"
    TUNED = "tuned"
    BASE_COT = "base+cot"
    TUNED_COT = "tuned+cot"

    @classmethod
    def of(cls, *, tuned: bool, reasoning: Reasoning) -> "Condition":
        """The condition with or without an adapter and with that reasoning."""
        if reasoning == Reasoning.COT:
            return cls.TUNED_COT if tuned else cls.BASE_COT
        return cls.TUNED if tuned else cls.BASE

    @property
    def tuned(self) -> bool:
        """Whether an adapter is applied."""
        return self in (Condition.TUNED, Condition.TUNED_COT)

    @property
    def reasoning(self) -> Reasoning:
        """Direct answers or chain of thought."""
        cot = self in (Condition.BASE_COT, Condition.TUNED_COT)
        return Reasoning.COT if cot else Reasoning.DIRECT


class Group(StrEnum):
    """A target language relative to the source language; varieties are in no contrast."""

    SOURCE = "source"
    VARIETY = "variety"
    RELATED = "related"
    CONTROL = "control"


class Verdict(StrEnum):
    """What a relatedness contrast shows against zero and against the margin."""

    RELATED_GAIN_MORE = "related gain more"
    RELATED_GAIN_LESS = "related gain less"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


class Measure(StrEnum):
    """What a gain is measured in: accuracy, its log-odds, ability, or log-probability."""

    ACCURACY = "accuracy"
    LOG_ODDS = "log_odds"
    ABILITY = "ability"
    GOLD_LOGPROB = "gold_logprob"


class Units(StrEnum):
    """What the points of a regression are."""

    LANGUAGES = "languages"
    LANGUAGES_WITHIN_MODELS = "languages within models"
    MODELS = "models"


class Missing(StrEnum):
    """What becomes of answers that are missing, or of items that lack one in some run."""

    REFUSE = "refuse"
    DROP = "drop"
