"""Parameters shared by evaluate, finetune, tune and study files."""

from isogloss.config import fields
from isogloss.types import PromptLanguage


class SharedConfig(fields.Config):
    """Which model is asked which task, and how."""

    model: fields.Model = "embedded"
    task: fields.TaskName = "probe"
    data_dir: fields.DataDir = None
    test_items: fields.TestItems = None
    share_passages: fields.SharePassages = False
    source: fields.Source = "arb_Arab"
    format: fields.FormatName = None
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
