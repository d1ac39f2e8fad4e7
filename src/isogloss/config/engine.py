"""Engines: what computes a cell, if not this process.

An inference server evaluates, an external program trains. A mapping in study files (also of one of
its models), on the command line YAML text such as `{kind: vllm, base_url: "http://host:8000/v1"}`
or the path of a YAML file.
"""

from collections.abc import Mapping
from typing import Annotated, Self
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from isogloss.config.fields import Config
from isogloss.config.numbers import Count, CountOrZero, NonNegativeNumber, PositiveNumber
from isogloss.config.train_command import missing_placeholder, split_words
from isogloss.config.words import text
from isogloss.errors import ConfigError, IsoglossError
from isogloss.files import user_path
from isogloss.types import EngineKind
from isogloss.yaml_files import load_yaml

SERVERS = (EngineKind.VLLM, EngineKind.SGLANG, EngineKind.LLAMA_CPP, EngineKind.OPENAI)
SCHEMES = ("http://", "https://")
TINKER_KEY = "TINKER_API_KEY"
# What Tinker's SDK decides itself.
NOT_OF_TINKER = ("train", "timeout", "retries")


def _require_words(command: str) -> str:
    """A training command, refused if it is none or has an unknown placeholder."""
    try:
        split_words(command)
    except ValueError as error:
        raise PydanticCustomError(
            "no_command", "should {problem}", {"problem": str(error)}
        ) from error
    return command


def is_server_address(address: str) -> bool:
    """Whether a text is the address of a server: http, a host, perhaps a port and a path."""
    try:
        parts = urlsplit(address)
        port = parts.port  # ValueError for one that is none
    except ValueError:
        return False
    http = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
    rest = parts.query or parts.fragment or address.endswith(("?", "#"))
    return http and not rest and address.isprintable() and " " not in address


def _require_address(address: str) -> str:
    """The address of a server, refused if it is none or has a login in it."""
    if "@" in address.partition("//")[2].partition("/")[0]:
        # No error of pydantic, which would quote the address.
        raise ConfigError(
            "engine.base_url has a user or a password in it; expected the key in the environment "
            "variable that engine.key names."
        )
    if not is_server_address(address):
        raise PydanticCustomError(
            "no_address", "Input should be the address of a server, such as http://host:8000/v1"
        )
    return address


class Engine(Config):
    """What evaluates and trains a model in place of this process.

    A server kind evaluates; with `train` an external program trains the adapters that it evaluates.
    `tinker` trains and evaluates by the service of that name. `command` trains by `train` and
    evaluates in this process. Keys are read from the environment variable that `key` names.
    """

    kind: Annotated[
        EngineKind, Field(description="vllm, sglang, llama_cpp, openai, tinker, command")
    ]
    base_url: Annotated[
        Annotated[
            str,
            text("the address of a server, such as http://host:8000/v1"),
            AfterValidator(_require_address),
        ]
        | None,
        Field(
            description="address of the server, up to and including /v1; default for tinker: that "
            "of the service"
        ),
    ] = None
    name: Annotated[
        Annotated[str, text("a name that the server gives a model")] | None,
        Field(description="the server's name of the model; default: its only model"),
    ] = None
    adapter: Annotated[
        Annotated[str, text("a name that the server gives an adapter")] | None,
        Field(
            description="the server's name of the adapter that `adapter` gives; default: the "
            "adapter is found by its folder, or loaded"
        ),
    ] = None
    tokenizer: Annotated[
        Annotated[str, text("a Hub name or a folder with a tokenizer")] | None,
        Field(description="where the tokenizer is, as a Hub name or a folder; default: `model`"),
    ] = None
    train: Annotated[
        Annotated[str, text("a command"), AfterValidator(_require_words)] | None,
        Field(
            description="command that trains an adapter; {train}, {dev}, {recipe} and {output} "
            "stand for paths, {model} for the base model"
        ),
    ] = None
    key: Annotated[
        str,
        text("the name of an environment variable"),
        Field(description="environment variable with the server's key, if it needs one"),
    ] = "OPENAI_API_KEY"
    concurrency: Annotated[Count, Field(description="requests at a time")] = 16
    timeout: Annotated[PositiveNumber, Field(description="seconds until a request is repeated")] = (
        120.0
    )
    retries: Annotated[CountOrZero, Field(description="repetitions of a failed request")] = 8
    price_in: Annotated[
        NonNegativeNumber | None, Field(description="price of a million prompt tokens")
    ] = None
    price_out: Annotated[
        NonNegativeNumber | None, Field(description="price of a million generated tokens")
    ] = None
    price_train: Annotated[
        NonNegativeNumber | None,
        Field(description="price of a million tokens that Tinker trains on"),
    ] = None

    @property
    def serves(self) -> bool:
        """Whether an inference server or a service evaluates."""
        return self.kind in SERVERS or self.kind == EngineKind.TINKER

    @property
    def trains(self) -> bool:
        """Whether something else than this process trains."""
        return self.train is not None or self.kind == EngineKind.TINKER

    def cost(self, prompt_tokens: float, generated_tokens: float) -> float | None:
        """What tokens cost at the prices that are given; None without prices."""
        if self.price_in is None and self.price_out is None:
            return None
        paid = prompt_tokens * (self.price_in or 0) + generated_tokens * (self.price_out or 0)
        return paid / 1e6

    @model_validator(mode="before")
    @classmethod
    def _key_of_kind(cls, values: object) -> object:
        """Add the variable that Tinker's own SDK reads, where none is given."""
        if not isinstance(values, Mapping) or values.get("kind") != EngineKind.TINKER:
            return values
        return {"key": TINKER_KEY, **values}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Reject a kind without what it needs, or with what it has no use for."""
        needed = {"base_url": self.kind in SERVERS, "train": self.kind == EngineKind.COMMAND}
        for name, needs in needed.items():
            if needs and getattr(self, name) is None:
                raise PydanticCustomError(
                    "engine_incomplete",
                    "should have {name}, which kind {kind} needs",
                    {"kind": self.kind.value, "name": name},
                )
        if self.kind == EngineKind.TINKER:
            for name in NOT_OF_TINKER:
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise PydanticCustomError(
                        "engine_with_too_much",
                        "should have no {name}, which kind tinker decides itself",
                        {"name": name},
                    )
        elif self.price_train is not None:
            raise PydanticCustomError(
                "engine_with_too_much",
                "should have no price_train, which is of kind tinker, not of {kind}",
                {"kind": self.kind.value},
            )
        if self.base_url is not None and not self.serves:
            raise PydanticCustomError(
                "engine_without_server",
                "should have no base_url, since kind {kind} has no server",
                {"kind": self.kind.value},
            )
        lacking = missing_placeholder(self.train) if self.train else None
        if lacking:
            raise PydanticCustomError(
                "command_incomplete",
                "should have a `train` with {lacking}, but it is {command}",
                {"lacking": lacking, "command": repr(self.train)},
            )
        return self


def is_address(model: str) -> bool:
    """Whether the parameter `model` is the address of a server, as in http://host:8000/v1#NAME."""
    return model.startswith(SCHEMES)


def _read(value: object) -> object:
    """The mapping of an engine that is given as text: YAML, or the path of a YAML file."""
    if not isinstance(value, str):
        return value
    if value.strip().startswith("{"):
        place, written = "engine", value
    else:
        place = f"engine file {value!r}"
        try:
            written = user_path(value).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PydanticCustomError(
                "no_engine",
                "Input should be a mapping such as {example} or the path of a YAML file",
                {"example": "'{kind: vllm, base_url: \"http://host:8000/v1\"}'"},
            ) from error
    try:
        content = load_yaml(written, place)
    except IsoglossError as error:
        raise PydanticCustomError("no_engine", "{problem}", {"problem": str(error)}) from error
    if not isinstance(content, Mapping):
        raise PydanticCustomError(
            "no_engine", "should be a mapping, which {place} is not", {"place": place}
        )
    return content


EngineField = Annotated[Engine, BeforeValidator(_read)]


def as_yaml(engine: Engine) -> str:
    """An engine as the command line writes it: one line of YAML, without defaults."""
    values = engine.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(values, default_flow_style=True, width=10**6, sort_keys=False).strip()
