"""Served models: base models whose scores and texts come from an inference server."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from urllib.parse import urlsplit

from pydantic import ValidationError

from isogloss.config.engine import Engine, is_address
from isogloss.errors import ConfigError
from isogloss.formatting import shortened
from isogloss.models.locate import ModelLocation
from isogloss.models.tokenizer_location import locate_tokenizer
from isogloss.models.tokenizers import shared_tokenizer
from isogloss.servers.evaluating import EvaluatingServer
from isogloss.servers.opening import found_kind, open_server
from isogloss.servers.types import PromptsAs
from isogloss.tracking import RunTags
from isogloss.types import EngineKind


@dataclass
class ServedModel:
    """A model on a server, which is asked on first use. `name` is the parameter `model`."""

    name: str
    engine: Engine

    @cached_property
    def server(self) -> EvaluatingServer:
        """The server, answering with the base model; ModelError if there is none such."""
        return open_server(self.engine)

    @property
    def asked(self) -> bool:
        """Whether the server has answered."""
        return "server" in self.__dict__

    @property
    def shown_name(self) -> str:
        """The name of the model in tags and reports: without the address of the server."""
        return self.served_name if is_address(self.name) else self.name

    @property
    def served_name(self) -> str:
        """The server's name of the base model."""
        return self.server.model

    @property
    def origin(self) -> str | None:
        """Where the server has the model from, as far as it says."""
        return self.server.facts.models[self.served_name]

    @cached_property
    def tokenizer_files(self) -> ModelLocation:
        """The files of the tokenizer: where the engine says, else those of the model's name."""
        return locate_tokenizer(self.engine.tokenizer or self.shown_name)

    @cached_property
    def files(self) -> ModelLocation:
        """The files of the tokenizer, and a revision that stands for the served model.

        A server says no more of its weights than their name and where it has them from.
        """
        facts = (self.served_name, self.origin, self.tokenizer_files.revision)
        revision = hashlib.sha256(repr(facts).encode()).hexdigest()
        return ModelLocation(self.shown_name, self.tokenizer_files.folder, revision)

    @property
    def base_names(self) -> tuple[str, ...]:
        """The names by which an adapter may know the model as its base."""
        names = (self.shown_name.partition("@")[0], self.served_name, self.origin)
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def provider(self) -> str:
        """Whose server it is: its kind, or the host of an endpoint of unknown make."""
        if self.engine.kind != EngineKind.OPENAI:
            return str(self.engine.kind)
        return urlsplit(self.engine.base_url or "").hostname or "unknown"

    @property
    def settings(self) -> str:
        """What decides the server's results apart from model and version, as the text of a tag."""
        return "; ".join(f"{name}: {value}" for name, value in self.server.settings.items())

    @property
    def numerics(self) -> dict[str, str]:
        """What decides rounding, by name, for fingerprints."""
        return {
            "engine": str(self.engine.kind),
            "provider": self.provider,
            "server_version": self.server.facts.version or "unknown",
            "served_model": self.served_name,
            "server_settings": self.settings,
        }

    def tagged(self, tags: RunTags) -> RunTags:
        """The tags of a run that the server computes."""
        return replace(
            tags,
            engine=self.engine.kind,
            provider=self.provider,
            server_version=self.server.facts.version,
            served_model=self.served_name,
            server_settings=self.settings,
        )

    @property
    def wraps_prompts(self) -> bool:
        """Whether the server alone has the chat template, and wraps each prompt in it."""
        return self.server.facts.prompts == PromptsAs.CHAT

    def window(self, max_length: int | None) -> int:
        """The most tokens of a prompt and its generated text.

        One less than the server's own limit: it generates a token after a scored text.
        """
        length = self.server.facts.context_length
        tokenizer = shared_tokenizer(self.tokenizer_files)
        limits = (max_length, length and length - 1, tokenizer.model_max_length)
        return int(min(limit for limit in limits if limit))


def served_model(name: str, engine: Engine | None) -> ServedModel | None:
    """The served model of the parameters `model` and `engine`; None if this process computes.

    The server that `model` names is asked for its kind. Raises ConfigError for two servers.
    """
    if not is_address(name):
        if engine and engine.kind == EngineKind.TINKER and engine.name is None:
            engine = engine.model_copy(update={"name": name.partition("@")[0]})
        return ServedModel(name, engine) if engine and engine.serves else None
    if engine is not None:
        raise ConfigError(
            f"model {name!r} names a server, and engine says what computes too; expected the name "
            "of the model beside engine."
        )
    base_url, _, own_name = name.partition("#")
    try:
        server = Engine(kind=EngineKind.OPENAI, base_url=base_url, name=own_name or None)
    except ValidationError as error:
        raise ConfigError(
            f"model {shortened(name)!r} is not the address of a server; expected one such as "
            "http://host:8000/v1#NAME."
        ) from error
    return ServedModel(name, server.model_copy(update={"kind": found_kind(base_url)}))
