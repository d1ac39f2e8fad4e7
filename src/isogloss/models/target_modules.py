"""What recipes write as `target_modules`: names of groups of layers, and whether experts are in it.

`models.lora` finds the layers of a model.
"""

from isogloss.errors import ConfigError
from isogloss.formatting import did_you_mean

EXPERTS = "+experts"
GROUPS = ("all-linear", "attention")


def has_experts(target_modules: str) -> bool:
    """Whether a recipe's `target_modules` includes experts.

    Raises ConfigError if it contains a plus and is not one of the spellings.
    """
    if target_modules in {f"{group}{EXPERTS}" for group in GROUPS}:
        return True
    if "+" not in target_modules:
        return False
    raise ConfigError(
        f"unknown target_modules {target_modules!r}; expected all-linear, attention, "
        f"all-linear{EXPERTS}, attention{EXPERTS}, or names separated by commas"
        f"{did_you_mean(target_modules, [f'{group}{EXPERTS}' for group in GROUPS])}"
    )


def reject_dropout(dropout: float, target_modules: str) -> None:
    """Raise ConfigError for dropout with LoRA that peft applies to parameters, not to modules."""
    if dropout > 0:
        raise ConfigError(
            f"dropout must be 0 with target_modules {target_modules!r}, but got {dropout:g}: peft "
            "does not support dropout for experts or for layers that share their names."
        )
