"""The address of a server and the key for it, which is in no URL, message or representation."""

import os
from urllib.parse import quote, urlsplit, urlunsplit

import httpx2

from isogloss.config.engine import Engine
from isogloss.errors import ConfigError

HIDDEN = "***"


def root(base_url: str) -> str:
    """Return the address of a server, which `Engine` has checked, without final slash and `/v1`.

    Raises ConfigError for a host whose name cannot be written in ASCII.
    """
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/").removesuffix("/v1")
    address = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    try:
        httpx2.URL(address)
    except httpx2.InvalidURL as error:
        raise ConfigError(
            f"engine.base_url is {base_url!r}, which is not an address ({error}); expected one "
            "such as http://host:8000/v1."
        ) from error
    return address


def key(engine: Engine) -> str | None:
    """Return the key from the environment, None without one.

    Raises ConfigError, without the key, if no header can hold it.
    """
    value = os.environ.get(engine.key, "").strip()
    if not value:
        return None
    if not value.isascii() or not value.isprintable():
        raise ConfigError(
            f"the key in the environment variable {engine.key} has characters that no HTTP header "
            "can hold; expected letters, digits and punctuation on one line."
        )
    return value


def without_key(text: str, secret: str | None) -> str:
    """Return a text in which the key, as it is or as a URL writes it, is hidden."""
    if secret is None:
        return text
    return text.replace(secret, HIDDEN).replace(quote(secret, safe=""), HIDDEN)
