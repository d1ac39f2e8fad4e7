"""Session: what a process holds between steps, so that a base model is loaded once."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch

from isogloss.config import SharedConfig
from isogloss.distributed import processes
from isogloss.distributed.sharding import sharded_loading
from isogloss.errors import ConfigError, ModelError
from isogloss.models.dtypes import NF4, resolve_dtype
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import ModelLocation, has_chat_template, locate
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import PROMPT_VERSION
from isogloss.tasks import Task
from isogloss.tracking.tags import RunTags
from isogloss.types import Condition, Reasoning

logger = logging.getLogger(__name__)


@dataclass
class Session:
    """One base model, found at once and loaded when first needed; see `models.load`."""

    name: str
    requested_dtype: str = "auto"
    attention: str = "auto"
    device_map: str = "none"
    log: Callable[[str], None] = field(default=logger.info)

    @cached_property
    def location(self) -> ModelLocation:
        """Where the model is; a GGUF is dequantised the first time."""
        return locate(self.name)

    @cached_property
    def dtype(self) -> str:
        """The dtype of matrix products, by name, or nf4."""
        if self.requested_dtype == NF4:
            return NF4
        return str(resolve_dtype(self.requested_dtype)).removeprefix("torch.")

    @property
    def numerics(self) -> dict[str, str]:
        """What decides how results are rounded, for fingerprints and tags.

        The implementation of attention is part of it where one is asked for.
        """
        asked = {} if self.attention == "auto" else {"attention": self.attention}
        return {"dtype": self.dtype, **asked}

    @cached_property
    def model(self) -> LanguageModel:
        """The model in memory, of each process if there are several."""
        several = f"{processes.count()} processes, " if processes.count() > 1 else ""
        self.log(f"loading {self.name} ({self.dtype}, {several}{torch.get_num_threads()} threads)")
        return processes.run_on_all(
            _load,
            None,
            self.name,
            self.location.revision,
            self.dtype,
            self.attention,
            self.device_map,
            location=self.location,
        )

    @classmethod
    def of(cls, config: SharedConfig) -> "Session":
        """The session that a configuration asks for."""
        return cls(config.model, config.dtype, config.attention, config.device_map)

    def run_tags(
        self, config: SharedConfig, task: Task, protocol: Protocol, condition: Condition
    ) -> RunTags:
        """The tags that every run with this model has; a stage adds its own with `replace`."""
        return RunTags(
            model=config.model,
            revision=self.location.revision,
            source=config.source,
            task=task.name,
            format=protocol.format,
            condition=condition,
            study=config.study,
            prompt_version=PROMPT_VERSION,
            prompt_language=protocol.prompt_language,
            chat=protocol.chat,
            dtype=self.dtype,
            attention=self.numerics.get("attention"),
            processes=processes.count() if processes.count() > 1 else None,
        )

    def protocol(
        self,
        config: SharedConfig,
        task: Task,
        reasoning: Reasoning = Reasoning.DIRECT,
        max_new_tokens: int | None = None,
    ) -> Protocol:
        """How the items of a task are put to this model, where the configuration leaves it open.

        ConfigError if a chat template is asked for and the tokenizer has none.
        """
        chat = config.chat != "off" and has_chat_template(self.location)
        if config.chat == "on" and not chat:
            raise ConfigError(f"chat is 'on', but model {self.name!r} has no chat template.")
        return Protocol(
            format=config.format or task.format,
            normalisation=config.normalisation or task.normalisation,
            prompt_language=config.prompt_language,
            chat=chat,
            reasoning=reasoning,
            max_new_tokens=max_new_tokens or (256 if reasoning == Reasoning.COT else 16),
        )


def _load(
    _: None,
    name: str,
    revision: str,
    dtype: str,
    attention: str,
    device_map: str,
    location: ModelLocation | None = None,
) -> LanguageModel:
    """The model as the leading process has found it."""
    location = location or locate(name)
    if location.revision != revision:
        raise ModelError(
            f"model {name!r} is {location.revision[:12]} for process {processes.rank()} of "
            f"{processes.count()}, but {revision[:12]} for the one that leads."
        )
    with sharded_loading():
        return load(location, dtype, attention, device_map)
