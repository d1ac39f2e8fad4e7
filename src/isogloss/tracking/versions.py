"""Versions of what computes a result: components of isogloss, and libraries."""

import importlib.metadata
from collections.abc import Mapping
from functools import cache

from isogloss.prompts.answer_parser import PARSER_VERSION
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import PROMPT_VERSION
from isogloss.version import (
    GENERATION_VERSION,
    METRICS_VERSION,
    PROBE_VERSION,
    REPORT_VERSION,
    SCORING_VERSION,
    STATISTICS_VERSION,
    TRAINING_VERSION,
)

Versions = Mapping[str, str]  # by name

MODEL_LIBRARIES = ("torch", "transformers", "tokenizers")
CLIENT_LIBRARIES = ("transformers", "tokenizers")
ADAPTER_LIBRARY = "peft"
STATISTICS_LIBRARIES = ("numpy", "scipy", "pandas")


def scoring_versions(task: str, protocol: Protocol) -> dict[str, str]:
    """Versions of the components that decide predictions."""
    versions = {"prompts": PROMPT_VERSION, "scoring": SCORING_VERSION}
    if task == "probe":
        versions["probe"] = PROBE_VERSION
    if protocol.generates:
        versions |= {"generation": GENERATION_VERSION, "parser": PARSER_VERSION}
    return versions


def evaluation_versions(task: str, protocol: Protocol) -> dict[str, str]:
    """Versions of the components that decide an evaluate run."""
    return {**scoring_versions(task, protocol), "metrics": METRICS_VERSION}


def training_versions(task: str, protocol: Protocol) -> dict[str, str]:
    """Versions of the components that decide an adapter and its dev measurements."""
    return {**scoring_versions(task, protocol), "training": TRAINING_VERSION}


def comparison_versions() -> dict[str, str]:
    """Versions of the components that decide a compare run, apart from those of its runs."""
    return {"statistics": STATISTICS_VERSION, "report": REPORT_VERSION}


def model_libraries(*, adapter: bool) -> dict[str, str]:
    """Installed versions of the libraries that compute with a model, with an adapter or without."""
    return _installed((*MODEL_LIBRARIES, ADAPTER_LIBRARY) if adapter else MODEL_LIBRARIES)


def client_libraries() -> dict[str, str]:
    """Installed versions of the libraries that write the prompts for an inference server."""
    return _installed(CLIENT_LIBRARIES)


def statistics_libraries() -> dict[str, str]:
    """Installed versions of the libraries that compute a comparison."""
    return _installed(STATISTICS_LIBRARIES)


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    return {name: _version(name) for name in names}


@cache  # the files of each package are read
def _version(name: str) -> str:
    return importlib.metadata.version(name)


def major_version(version: str) -> str:
    """The part of a version that changes with incompatible behaviour: `2` of 2.13.0, `0.21` of
    0.21.2, since anything may change between minor versions before 1.0.
    """
    first, _, rest = version.partition(".")
    return f"0.{rest.partition('.')[0]}" if first == "0" else first


def versions_text(versions: Versions) -> str:
    """Versions as the value of a tag: `name:version`, separated by spaces, sorted by name."""
    return " ".join(f"{name}:{versions[name]}" for name in sorted(versions))


def parse_versions(text: str) -> dict[str, str]:
    """The versions of a tag's value."""
    return dict(pair.split(":", 1) for pair in text.split())
