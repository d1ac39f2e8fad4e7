"""Session: the base model of one process, found once and loaded once for all stages.

A model on an inference server is asked instead of loaded; only its tokenizer is here.
"""

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from isogloss.compat.interfaces import Tokenizer
from isogloss.config import SharedConfig
from isogloss.config.engine import Engine
from isogloss.distributed.world import world
from isogloss.errors import ConfigError, ModelError
from isogloss.models.architecture import require_scorable
from isogloss.models.dtypes import NF4, product_dtype
from isogloss.models.kept_facts import kept_fact, versions_of
from isogloss.models.locate import ModelLocation, locate
from isogloss.models.tokenizers import has_chat_template, shared_tokenizer, tokenizer_digest
from isogloss.prompts.chat import chat_format
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import PROMPT_VERSION
from isogloss.stages.served_model import ServedModel, served_model
from isogloss.tasks import Task
from isogloss.tracking import RunTags
from isogloss.tracking.versions import client_libraries, model_libraries
from isogloss.types import Condition, Normalisation, Reasoning

if TYPE_CHECKING:  # torch takes seconds, which a command without a model does not need
    from isogloss.models.language_model import LanguageModel

logger = logging.getLogger(__name__)

AUTO = "auto"
MAX_NEW_TOKENS = {Reasoning.DIRECT: 16, Reasoning.COT: 256}  # where a configuration has none


@dataclass
class Session:
    """A base model: located and loaded on first use; see `models.loading`.

    `engine` is what computes in place of this process.
    """

    name: str
    requested_dtype: str = AUTO
    attention: str = AUTO
    device_map: str = "none"
    engine: Engine | None = None

    @classmethod
    def of(cls, config: SharedConfig) -> "Session":
        """The session of a configuration."""
        return cls(config.model, config.dtype, config.attention, config.device_map, config.engine)

    @cached_property
    def served(self) -> ServedModel | None:
        """The model on its inference server; None if this process computes.

        Raises ConfigError for parameters that the server decides.
        """
        served = served_model(self.name, self.engine)
        if served and not served.engine.train:
            own = {
                "dtype": (self.requested_dtype, AUTO),
                "attention": (self.attention, AUTO),
                "device_map": (self.device_map, "none"),
            }
            for name, (value, accepted) in own.items():
                if value != accepted:
                    raise ConfigError(
                        f"{name} is {value!r}, but the server of model {self.name!r} decides it; "
                        f"expected {accepted}."
                    )
        return served

    @cached_property
    def files(self) -> ModelLocation:
        """Where the model's files are; a GGUF file is dequantised the first time.

        Of a served model those of the tokenizer alone.
        """
        return self.served.files if self.served else locate(self.name)

    @cached_property
    def location(self) -> ModelLocation:
        """`files`. Raises ModelError for an architecture that cannot be scored."""
        if not self.served:
            require_scorable(self.files)
        return self.files

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer: that of the model in memory, if it is."""
        loaded = self.loaded and not self.served
        return self.model.tokenizer if loaded else shared_tokenizer(self.location)

    @cached_property
    def dtype(self) -> str:
        """The name of the dtype of matrix products, or nf4."""
        return NF4 if self.requested_dtype == NF4 else product_dtype(self.requested_dtype)

    @property
    def numerics(self) -> dict[str, str]:
        """What decides rounding, by name, for fingerprints: dtype, and attention unless auto.

        Of a served model what its server says about itself.
        """
        if self.served:
            return self.served.numerics
        attention = {} if self.attention == AUTO else {"attention": self.attention}
        return {"dtype": self.dtype, **attention}

    @cached_property
    def model(self) -> "LanguageModel":
        """The model in memory; each of several processes loads it.

        Raises ConfigError for a served model.
        """
        if self.served:
            self.require_trainer()
            raise ConfigError(
                f"model {self.name!r} is on an inference server; its trainer, engine.train, works "
                "for finetune and studies alone."
            )
        import torch

        from isogloss.distributed import processes

        several = f"{processes.count()} processes, " if processes.count() > 1 else ""
        threads = torch.get_num_threads()
        logger.info(f"loading {self.name} ({self.dtype}, {several}{threads} threads)")
        request = _LoadRequest(
            self.name, self.location.revision, self.dtype, self.attention, self.device_map
        )
        return processes.run_on_all(_load, None, request, location=self.location)

    def require_trainer(self) -> None:
        """Raise ConfigError for a served model without an external trainer."""
        if self.served and not self.served.engine.trains:
            raise ConfigError(
                f"model {self.name!r} is on an inference server, which evaluates and does not "
                "train; expected engine.train, the command of an external trainer, or kind tinker."
            )

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory, or its server has answered."""
        return self.served.asked if self.served else "model" in self.__dict__

    def unload(self) -> None:
        """Free the model; the next use loads it again."""
        self.__dict__.pop("model", None)

    def protocol(
        self,
        config: SharedConfig,
        task: Task,
        reasoning: Reasoning = Reasoning.DIRECT,
        max_new_tokens: int | None = None,
    ) -> Protocol:
        """The protocol of a configuration, completed by what the task and the model decide.

        Raises ConfigError if a chat template is requested and the tokenizer has none, and
        ModelError for a template that cannot be used.
        """
        wraps = self.served is not None and self.served.wraps_prompts
        chat = config.chat != "off" and not wraps and has_chat_template(self.location)
        if config.chat == "on" and wraps:
            raise ConfigError(
                f"chat is 'on', but the server of model {self.name!r} wraps each prompt in a "
                "template of its own; expected auto."
            )
        if config.chat == "on" and not chat:
            raise ConfigError(f"chat is 'on', but model {self.name!r} has no chat template.")
        protocol = Protocol(
            format=config.format or task.format,
            normalisation=config.normalisation or task.normalisation,
            prompt_language=config.prompt_language,
            chat=chat,
            reasoning=reasoning,
            labels=config.labels,
        )
        budget = MAX_NEW_TOKENS[reasoning]
        if protocol.generates and max_new_tokens:  # elsewhere it would only change the fingerprint
            budget = max_new_tokens
        protocol = replace(protocol, max_new_tokens=budget)
        return replace(protocol, template_date=self._template_date(protocol)) if chat else protocol

    def _template_date(self, protocol: Protocol) -> str | None:
        """What the chat template prints as today's date in prompts of a protocol, None if nothing.

        Raises ModelError for a template that cannot be used.
        """
        thinking = {protocol.reasoning == Reasoning.COT}
        if protocol.normalisation == Normalisation.UNCONDITIONAL and not protocol.shows_options:
            thinking.add(False)  # options without their question are answered directly
        depends_on = {
            "tokenizer": tokenizer_digest(self.location.folder),
            "thinking": sorted(thinking),
            "prompts": PROMPT_VERSION,
            "libraries": client_libraries(),
            **versions_of("jinja2"),
        }

        def find() -> str | None:
            tokenizer = shared_tokenizer(self.location)  # takes seconds to load
            try:
                dates = [chat_format(tokenizer, each).date for each in sorted(thinking)]
            except ModelError as error:
                raise ModelError(f"model {self.name!r}: {error}") from error
            return next(filter(None, dates), None)

        form: TypeAdapter[str | None] = TypeAdapter(str | None)
        return kept_fact("template", depends_on, form, find)

    def run_tags(
        self, config: SharedConfig, task: Task, protocol: Protocol, condition: Condition
    ) -> RunTags:
        """The tags of every run that computes with this model; a stage adds its own."""
        served = self.served
        tags = RunTags(
            model=served.shown_name if served else config.model,
            revision=self.location.revision,
            source=config.source,
            task=task.name,
            format=protocol.format,
            condition=condition,
            study=config.study,
            prompt_version=PROMPT_VERSION,
            prompt_language=protocol.prompt_language,
            answer_labels=protocol.labels if protocol.shows_options else None,
            chat=protocol.chat,
            share_passages=config.share_passages or None,
            template_date=protocol.template_date,
            dtype=None if served else self.dtype,
            attention=None if self.attention == AUTO else self.attention,
            processes=world.size if world.size > 1 and not served else None,
            libraries=client_libraries() if served else model_libraries(adapter=condition.tuned),
        )
        return served.tagged(tags) if served else tags


@dataclass(frozen=True)
class _LoadRequest:
    """The model that every process loads."""

    name: str
    revision: str
    dtype: str
    attention: str
    device_map: str


def _load(_: None, request: _LoadRequest, location: ModelLocation | None = None) -> "LanguageModel":
    """Load the model; only the leader is given its `location`, the others locate it themselves."""
    from isogloss.distributed.sharding import sharded_loading
    from isogloss.models.loading import load
    from isogloss.models.paths import proven_paths

    location = location or locate(request.name)
    if location.revision != request.revision:
        raise ModelError(
            f"model {request.name!r} has revision {location.revision[:12]} in process "
            f"{world.rank} of {world.size}, but {request.revision[:12]} in the leader."
        )
    with sharded_loading():
        model = load(
            location,
            request.dtype,
            request.attention,
            request.device_map,
            shared_tokenizer(location),
        )
    proven_paths(model)
    return model
