"""Whether the arguments that another tool gave a model make it a tuned one."""

import re
from collections.abc import Iterable, Mapping

from isogloss.errors import DataError
from isogloss.files import user_path
from isogloss.importers.fields import Value
from isogloss.types import Condition

WORDS = {"adapter", "adapters", "delta", "lora", "loras", "peft", "steer"}
# Names with one of WORDS that set how adapters are served, not which one is used.
SETTINGS = {
    *("enable_lora", "enable_lora_bias", "fully_sharded_loras", "lora_backend", "lora_dtype"),
    *("lora_eviction_policy", "lora_extra_vocab_size", "lora_target_modules", "max_cpu_loras"),
    *("max_loaded_loras", "max_lora_chunk_size", "max_lora_rank", "max_loras"),
    *("max_loras_per_batch",),
}
OFF = ("", "none", "false", "0")
# Backends of lm-eval 0.4.13 that accept arguments which they do not use, and those that they do.
SERVERS = ("local-completions", "local-chat-completions", "openai-completions")
CHAT_SERVERS = ("openai-chat-completions", "sglang", "sglang-generate")
APPLIED: dict[str, set[str]] = {
    "vllm": {"lora_local_path"},
    "vllm-vlm": {"lora_local_path"},
    **{backend: set() for backend in (*SERVERS, *CHAT_SERVERS)},
}
ADAPTER_CONFIG = "adapter_config.json"  # of peft; transformers applies an adapter in its folder


def adapter_arguments(arguments: Mapping[str, Value]) -> list[str]:
    """The names of the arguments that name an adapter."""
    return [
        name
        for name, value in arguments.items()
        if WORDS & set(re.split(r"[^a-z]+", name.lower()))
        and name not in SETTINGS
        and str(value or "").strip().lower() not in OFF
    ]


def check_condition(
    condition: Condition | None,
    arguments: Mapping[str, Value],
    place: str,
    *,
    backend: str | None = None,
    others: Iterable[str] = (),
) -> None:
    """Raise DataError if the condition and the adapter of a model contradict each other.

    `others` name an adapter that the arguments do not. A base model must have none. A tuned one may
    be a merged checkpoint, but its backend must not have ignored the adapter it was given.
    """
    if condition is None:
        return
    named = [*adapter_arguments(arguments), *others]
    if named and not condition.tuned:
        raise DataError(
            f"{place}: the model has an adapter ({', '.join(named)}), but condition is "
            f"{condition}; expected tuned or tuned+cot."
        )
    if condition.tuned and backend is not None and backend in APPLIED:
        served = str(arguments.get("enable_lora") or "").strip().lower() not in OFF
        if (named or served) and not APPLIED[backend] & set(named):
            raise DataError(
                f"{place}: condition is {condition}, but {backend} does not apply "
                f"{', '.join(named) or 'any adapter if only enable_lora is set'}: the scores "
                "are those of the base model."
            )


def is_adapter_folder(name: str) -> bool:
    """Whether the name of a model is a local folder with an adapter."""
    return (user_path(name) / ADAPTER_CONFIG).is_file()
