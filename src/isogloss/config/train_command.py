"""The command of an external trainer: its words, and the placeholders in them.

The command is split into words as a shell would, and no shell runs it. A placeholder is a name in
braces; each is replaced within its word, so that a path with spaces stays one word. Other braces,
as in JSON, are left alone.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from isogloss.files import file_sha256
from isogloss.formatting import closest

PLACEHOLDER = re.compile(r"(?<!\$)\{([A-Za-z_]+)\}")
# Endings of files that a command names and that decide what it does.
READ = (".cfg", ".ini", ".jinja", ".json", ".py", ".sh", ".toml", ".yaml", ".yml")


class Placeholder(StrEnum):
    """What stands for a value in a training command."""

    TRAIN = "train"  # prompts and completions
    DEV = "dev"
    TRAIN_CHAT = "train_chat"  # messages
    DEV_CHAT = "dev_chat"
    TRAIN_TOKENS = "train_tokens"  # token ids and labels
    DEV_TOKENS = "dev_tokens"
    RECIPE = "recipe"
    OUTPUT = "output"
    MODEL = "model"
    STEPS = "steps"
    BATCH_SIZE = "batch_size"
    LEARNING_RATE = "learning_rate"
    RANK = "rank"
    ALPHA = "alpha"
    DROPOUT = "dropout"
    SEED = "seed"


TRAINING_DATA = (Placeholder.TRAIN, Placeholder.TRAIN_CHAT, Placeholder.TRAIN_TOKENS)


def placeholders(command: str) -> list[str]:
    """Names in braces in a command, in order."""
    return PLACEHOLDER.findall(command)


def split_words(command: str) -> list[str]:
    """The words of a command; ValueError says what is wrong with it, as the end of a sentence."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"be words as in a shell ({str(error).lower()})") from error
    if not words:
        raise ValueError("be a command")
    known = list(Placeholder)
    for name in placeholders(command):
        if name not in known:
            accepted = ", ".join(f"{{{each}}}" for each in known)
            close = "".join(f" (did you mean {{{word}}}?)" for word in closest(name, known)[:1])
            raise ValueError(f"have no placeholder {{{name}}}; accepted are {accepted}{close}")
    return words


def missing_placeholder(command: str) -> str | None:
    """The placeholder that a command lacks and cannot do without, as the end of a sentence."""
    named = placeholders(command)
    if Placeholder.OUTPUT not in named:
        return "{output}, the folder for the adapter"
    if not any(name in named for name in (*TRAINING_DATA, Placeholder.RECIPE)):
        return "{train}, {train_chat}, {train_tokens} or {recipe}, which lead to the data"
    return None


def filled(words: Sequence[str], values: Mapping[Placeholder, str]) -> list[str]:
    """The words with their placeholders replaced."""
    return [PLACEHOLDER.sub(lambda match: values[Placeholder(match[1])], word) for word in words]


def read_files(words: Sequence[str]) -> list[Path]:
    """Scripts and configurations that a command names and that exist, by their endings."""
    named = (Path(word.rpartition("=")[2]).expanduser() for word in words)
    return [path for path in named if path.suffix in READ and path.is_file()]


def command_facts(command: str) -> dict[str, object]:
    """What decides the result of a training command: its text, and the files that it reads."""
    files = {str(path): file_sha256(path) for path in read_files(split_words(command))}
    return {"command": command, "files": files}
