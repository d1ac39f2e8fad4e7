"""Parameters shared by evaluate, finetune, tune and study files."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from isogloss.config import fields
from isogloss.config.engine import EngineField
from isogloss.config.words import NoneWord, text
from isogloss.types import Labels, LanguageCode, PromptLanguage

AUTO = "auto"
DEFAULT_SOURCE: LanguageCode = "arb_Arab"  # of the built-in tasks
Source = Annotated[
    str,
    text(
        "the language fine-tuned on, a FLORES-200 code such as arb_Arab (required with your own "
        "data, since it decides which languages are related)"
    ),
    fields.pooled(),
    Field(
        description="language fine-tuned on, or several pooled ones joined by +; groups are "
        "relative to it; auto: arb_Arab, but your own data (task=files) need a language"
    ),
]


class SharedConfig(fields.Config):
    """Which model is asked which task, and how."""

    model: fields.Model = "embedded"
    engine: Annotated[
        EngineField | None,
        NoneWord("auto"),
        Field(
            description="what evaluates or trains in place of this process, as YAML such as "
            "{kind: vllm, base_url: 'http://host:8000/v1'} or the path of a YAML file; auto: this "
            "process, or the server that `model` names"
        ),
    ] = None
    task: fields.TaskName = "probe"
    data_dir: fields.DataDir = None
    test_items: fields.TestItems = None
    share_passages: fields.SharePassages = False
    source: Source = AUTO
    format: fields.FormatName = None
    labels: fields.LabelsName = Labels.LETTERS
    normalisation: fields.NormalisationName = None
    prompt_language: fields.PromptLanguageName = PromptLanguage.ENGLISH
    chat: fields.Chat = "auto"
    shuffle_options: fields.ShuffleOptions = False
    long_inputs: fields.LongInputs = "refuse"
    max_length: fields.MaxLength = None
    limit: fields.Limit = None
    seed: fields.Seed = 0
    study: fields.StudyName = None
    dtype: fields.Dtype = "auto"
    attention: fields.Attention = "auto"
    device_map: fields.DeviceMap = "none"

    @model_validator(mode="before")
    @classmethod
    def _default_source(cls, values: object) -> object:
        """Replace `auto` by a language; with your own data it stays, and is then rejected."""
        if not isinstance(values, Mapping) or values.get("source", AUTO) != AUTO:
            return values
        listed = values.get("sources", AUTO) not in (None, AUTO)  # of a study file
        own_data = values.get("task") == "files" and not listed
        return {**values, "source": AUTO if own_data else DEFAULT_SOURCE}
