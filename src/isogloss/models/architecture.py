"""Architecture: whether a model can be a causal language model, by its config.json alone."""

import hashlib
from importlib.resources import files
from typing import cast

from pydantic import TypeAdapter

from isogloss.compat.interfaces import ModelConfig
from isogloss.errors import ModelError
from isogloss.files import file_sha256
from isogloss.formatting import shortened
from isogloss.models.kept_facts import kept_fact, versions_of
from isogloss.models.locate import ModelLocation
from isogloss.models.model_files import LONGEST_REASON, model_settings

EXPECTED = "expected a causal language model of transformers, such as Gemma, Llama or Qwen"


def require_scorable(location: ModelLocation) -> None:
    """`check_architecture`, which takes seconds, once per config.json and transformers."""
    path = location.folder / "config.json"
    if not path.is_file():
        check_architecture(location)  # says what is missing
        return
    rules = files(__package__) / "architecture.py"  # in a served model it is in a zip file
    depends_on = {
        "config": file_sha256(path),
        "rules": hashlib.sha256(rules.read_bytes()).hexdigest(),
        **versions_of("transformers"),
    }

    def check() -> bool:
        check_architecture(location)
        return True

    kept_fact("scorable", depends_on, TypeAdapter(bool), check)


def check_architecture(location: ModelLocation) -> ModelConfig:
    """Return a model's configuration; ModelError for an architecture that cannot be scored.

    These are encoders, models with an encoder and a decoder, models that need code of their own,
    which is never run, and all that transformers has no causal language model for. An architecture
    that passes may still be refused when the model is tried; see `models.paths`.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    settings = model_settings(location.folder, f"model {location.name!r}")
    model_type, architectures = settings.get("model_type"), settings.get("architectures")
    named = shortened(
        str(architectures[0] if isinstance(architectures, list) and architectures else model_type)
    )
    refused = f"model {location.name!r} has the architecture {named}"
    if not isinstance(model_type, str) or model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        reason = "for which transformers has no causal language model"
        if "auto_map" in settings:
            reason = "which needs code of its own, and that is never run"
        raise ModelError(f"{refused}, {reason}; {EXPECTED}.")
    if model_type == "reformer":
        raise ModelError(f"{refused}, whose attention hashes tokens at random; {EXPECTED}.")
    try:
        config = AutoConfig.from_pretrained(location.folder, local_files_only=True)
    except Exception as error:  # whatever a configuration's own code raises for its values
        reason = shortened(" ".join(str(error).split()) or type(error).__name__, LONGEST_REASON)
        raise ModelError(
            f"model {location.name!r} has a config.json that transformers rejects ({reason})."
        ) from error
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{refused}, which has an encoder and a decoder; {EXPECTED}.")
    causal = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    if model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not causal:
        raise ModelError(f"{refused}, which is an encoder; {EXPECTED}.")
    return cast(ModelConfig, config)
