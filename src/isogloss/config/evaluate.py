"""Parameters of the entry point `evaluate`."""

from typing import Annotated

from pydantic import Field

from isogloss.config import fields
from isogloss.config.shared import SharedConfig
from isogloss.config.words import NoneWord, separated, text
from isogloss.types import LanguageMetrics, Reasoning, Split

ADAPTER = "a folder, the id of a finetune run or a models:/ URI"


class EvaluateConfig(SharedConfig):
    """Evaluate one condition in many languages.

    Logs per-language metrics and every prediction (predictions.parquet).
    """

    experiment: fields.Experiment = None
    adapter: Annotated[
        tuple[Annotated[str, text(ADAPTER, "none")], ...] | None,
        separated(),
        NoneWord("none"),
        Field(
            description="none, a folder, the id of a finetune run, or models:/NAME@ALIAS; several "
            "are separated by commas (or a JSON list, for names with commas) and evaluated with "
            "one load of the model"
        ),
    ] = None
    allow_base: Annotated[
        tuple[Annotated[str, text("the name of a base model")], ...] | None,
        separated(),
        NoneWord("none"),
        Field(
            description="other names of this model: an adapter whose base_model_name_or_path is "
            "one of them is accepted; separated by commas, or none"
        ),
    ] = None
    languages: fields.Languages = None
    split: fields.SplitName = Split.TEST
    reasoning: fields.ReasoningName = Reasoning.DIRECT
    max_new_tokens: fields.MaxNewTokens = None
    metrics: fields.MetricsChoice = LanguageMetrics.AUTO
    quick: fields.Quick = False
