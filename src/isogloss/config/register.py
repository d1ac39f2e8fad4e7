"""Parameters of the entry point `register`."""

from typing import Annotated

from pydantic import Field

from isogloss.config import fields
from isogloss.config.words import NoneWord, alias_name, one_line, text


class RegisterConfig(fields.Config):
    """Register an adapter from a finetune run, and point an alias at the new version."""

    adapter: Annotated[
        str,
        text("the id of a finetune run or a models:/ URI"),
        Field(description="id of a finetune run, or the models:/ URI of an adapter it logged"),
    ]
    name: Annotated[
        fields.RegisteredName,
        Field(description="registered model; auto: isogloss-TASK-SOURCE"),
    ] = "auto"
    alias: Annotated[
        Annotated[str, text("an alias"), one_line(), alias_name()] | None,
        NoneWord("none"),
        Field(
            description="alias to point at the version, or none; champion moves only if the "
            "adapter is better on source-language dev data than the current champion"
        ),
    ] = "candidate"
