"""Adapter folders: what peft wrote, checked before a model is loaded.

An adapter whose effect scoring would miss, that was never trained, or that belongs to another model
would be scored as if it were tuned. Such adapters are rejected here, by what their files say;
`models.adapters` rejects those that show themselves only in a model.
"""

import hashlib
import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isogloss.compat.interfaces import Tokenizer
from isogloss.errors import ModelError
from isogloss.files import file_sha256, user_path
from isogloss.formatting import shortened
from isogloss.models import model_files
from isogloss.models.locate import ModelLocation
from isogloss.models.tokenizers import json_template

if TYPE_CHECKING:  # they take seconds to import
    import torch
    from peft import PeftConfig

logger = logging.getLogger(__name__)

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
# Methods whose effect is in the forward of the model's own modules. Scoring calls these directly,
# and not peft's model, in whose forward prompt learning (and X-LoRA, Poly) has its effect.
METHODS = (
    "LORA", "ADALORA", "BOFT", "C3A", "DELORA", "FOURIERFT", "GRALORA", "HRA", "IA3", "LN_TUNING",
    "LOHA", "LOKR", "MISS", "OFT", "RANDLORA", "TRAINABLE_TOKENS", "VBLORA", "VERA",
)  # fmt: skip
# Options of LoRA that act in peft's forward, or change what the base model computes.
UNSUPPORTED_OPTIONS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
)
# Initial values of LoRA that leave the base weights as they are; pissa, olora, corda, loftq and
# lora_ga subtract the initial product from them.
INITIAL_WEIGHTS = (True, False, None, "gaussian", "eva", "orthogonal")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # a commit of the Hub, or a sha256
SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})")
CAUSAL = (None, "CAUSAL_LM")


@dataclass(frozen=True)
class AdapterFiles:
    """The content of an adapter's folder. `settings` is its adapter_config.json."""

    folder: Path
    settings: Mapping[str, Any]  # Any: parsed JSON
    tensors: "Mapping[str, torch.Tensor]"

    @property
    def name(self) -> str:
        """How messages call the adapter."""
        return f"adapter {str(self.folder)!r}"


def read_settings(folder: Path) -> dict[str, Any]:  # Any: parsed JSON
    """The configuration of an adapter; ModelError if the folder has none or no weights."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"adapter folder {str(folder)!r} has no {name}.")
    return dict(model_files.read_settings(folder / CONFIG, f"adapter {str(folder)!r}"))


def adapter_digest(folder: Path) -> str:
    """Sha256 of an adapter's weights and configuration; ModelError if one is missing."""
    config = read_settings(folder)
    for name, value in config.items():
        if isinstance(value, list):  # peft writes sets, in an order that differs by process
            config[name] = sorted(value, key=str)
    canonical = json.dumps(config, sort_keys=True)
    return hashlib.sha256(f"{file_sha256(folder / WEIGHTS)}\n{canonical}".encode()).hexdigest()


def read_adapter(folder: Path) -> AdapterFiles:
    """Read an adapter and check its files.

    Raises ModelError for a method or option whose effect scoring would miss, for weights that are
    not finite, and for LoRA that was never trained.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    settings = read_settings(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{WEIGHTS} of adapter {str(folder)!r} cannot be read ({error})."
        ) from error
    files = AdapterFiles(folder, settings, tensors)
    _check_method(files)
    if not tensors:
        raise ModelError(f"{files.name} has no weights: its {WEIGHTS} holds no tensor.")
    for key, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ModelError(
                f"{files.name} has weights that are NaN or infinite, first in {key!r}."
            )
    _check_trained(files)
    return files


def peft_config(files: AdapterFiles) -> "PeftConfig":
    """peft's configuration of an adapter.

    Raises ModelError for an option that the installed peft does not know and would ignore, and for
    a value that it rejects.
    """
    import dataclasses

    import peft

    method = peft.PeftType(files.settings["peft_type"])
    config_class = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[method]
    known = {field.name for field in dataclasses.fields(config_class)}
    unknown = [name for name, value in files.settings.items() if name not in known and value]
    if unknown:
        raise ModelError(
            f"{files.name} has options that peft {peft.__version__} does not know and would ignore "
            f"({', '.join(sorted(unknown))}); install the version that wrote it."
        )
    try:
        config: PeftConfig = config_class.from_pretrained(str(files.folder))
    except Exception as error:  # whatever a method's own class raises for its values
        reason = shortened(" ".join(str(error).split()) or type(error).__name__)
        raise ModelError(f"{files.name} has a {CONFIG} that peft rejects ({reason}).") from error
    return config


def _check_method(files: AdapterFiles) -> None:
    settings = files.settings
    method = settings.get("peft_type")
    if method not in METHODS:
        raise ModelError(
            f"{files.name} uses the method {method}, which does not act within the model's own "
            f"modules and would not be scored; expected one of {', '.join(METHODS)}."
        )
    if settings.get("task_type") not in CAUSAL:
        raise ModelError(
            f"{files.name} was trained for task_type {settings['task_type']}; expected CAUSAL_LM."
        )
    for option in UNSUPPORTED_OPTIONS:
        if settings.get(option):
            raise ModelError(
                f"{files.name} has the option {option}, which changes more than the model's own "
                "modules; expected LoRA without it."
            )
    initial = settings.get("init_lora_weights")
    if initial not in INITIAL_WEIGHTS:
        raise ModelError(
            f"{files.name} was initialised by init_lora_weights {initial!r}, which changes the "
            "base weights; convert it to plain LoRA (peft's "
            "`path_initial_model_for_weight_conversion`)."
        )


def _check_trained(files: AdapterFiles) -> None:
    """Raise ModelError for LoRA whose product is zero everywhere, as before its first step."""
    factor = {"LORA": ("lora_B", "lora_embedding_A"), "ADALORA": ("lora_E",)}.get(
        files.settings["peft_type"], ()
    )
    others = ("lora_A", "lora_B", "lora_embedding", "lora_magnitude_vector", "ranknum")
    zero, rest = [], []
    for key, tensor in files.tensors.items():
        if any(part in key for part in factor):
            zero.append(not bool(tensor.any()))
        elif not any(part in key for part in others):
            rest.append(key)
    if zero and all(zero) and not rest:
        raise ModelError(
            f"{files.name} is untrained: {factor[0]} is zero in all of its {len(zero)} modules."
        )


def check_base(files: AdapterFiles, location: ModelLocation, allowed: Collection[str]) -> None:
    """Raise ModelError if the adapter names another base model, unless `allowed` has that name.

    Hashes of one kind decide: two commits, or two sha256 of local files. Otherwise names do: equal
    ones, the same folder, or a Hub name and a folder that is called like it. A branch such as
    `main` is no hash.
    """
    named = files.settings.get("base_model_name_or_path")
    revision = files.settings.get("revision")
    base = str(named or "")
    if base and base in allowed:
        return
    if cached := SNAPSHOT.search(base.replace("\\", "/")):
        base, revision = f"{cached[1]}/{cached[2]}", cached[3]
    at = ""
    if revision is not None and HASH.fullmatch(str(revision)):
        at = f" at {revision[:12]}"
        if revision == location.revision:
            return
        comparable = len(revision) == len(location.revision)
        if not comparable and _same_name(base, location):
            return
    elif not base:
        logger.warning(f"{files.name} names no base model; it is taken for {location.name}'s")
        return
    elif _same_name(base, location):
        return
    advice = f"; if it is the same model, set allow_base to {str(named)!r}" if base else ""
    raise ModelError(
        f"{files.name} was trained on {str(named)!r}{at}, but the model is {location.name!r} at "
        f"{location.revision[:12]}{advice}."
    )


def _same_name(base: str, location: ModelLocation) -> bool:
    """Whether two names are of one model, as far as names can tell."""
    name = location.name
    if base.casefold() == name.casefold():
        return True
    path = user_path(base)
    if path.exists() and path.resolve() == user_path(name).resolve():
        return True
    hub = [
        part for part in (base, name) if part.count("/") == 1 and not part.startswith((".", "~"))
    ]
    if len(hub) != 1 or base.endswith(".gguf") or name.endswith(".gguf"):
        return False
    same = Path(base).name.casefold() == Path(name).name.casefold()
    if same:
        logger.info(f"the adapter's base {base!r} is taken for {name!r}, by its name")
    return same


def check_tokens(files: AdapterFiles, tokenizer: Tokenizer) -> None:
    """Raise ModelError if the adapter's own tokenizer gives a token another id than the model's.

    Tokens that it adds occur in no prompt, which the model's tokenizer encodes.
    """
    own = _own_tokens(files.folder)
    ids = tokenizer.get_vocab()
    other = [token for token, number in own.items() if token in ids and ids[token] != number]
    if other:
        raise ModelError(
            f"{files.name} comes with a tokenizer of its own, in which {len(other)} tokens have "
            f"other ids than in the model's (first {other[0]!r}); expected the model's tokenizer."
        )
    added = [token for token in own if token not in ids]
    if added:
        logger.warning(
            f"{files.name} adds {len(added)} tokens (first {added[0]!r}), which no prompt contains"
        )


def _own_tokens(folder: Path) -> dict[str, int]:
    """The ids of the tokens in the tokenizer files of an adapter's folder, empty without such.

    Raises ModelError for a damaged file.
    """
    vocabulary: dict[str, int] = {}
    try:
        if (folder / "tokenizer.json").is_file():
            content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
            tokens = content["model"]["vocab"]
            if isinstance(tokens, list):  # unigram models have pairs of token and score
                tokens = {token: number for number, (token, _) in enumerate(tokens)}
            vocabulary |= tokens
            vocabulary |= {token["content"]: token["id"] for token in content["added_tokens"]}
        if (folder / "added_tokens.json").is_file():
            vocabulary |= json.loads((folder / "added_tokens.json").read_text("utf-8"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"the tokenizer files of adapter {str(folder)!r} cannot be read "
            f"({type(error).__name__}: {error}); expected those that transformers writes, or none."
        ) from error
    return vocabulary


def own_chat_template(folder: Path) -> str | None:
    """The chat template in an adapter's folder, None without one.

    Raises ModelError for a damaged file.
    """
    if (folder / "chat_template.jinja").is_file():
        try:
            return (folder / "chat_template.jinja").read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(
                f"adapter {str(folder)!r}: chat_template.jinja is not UTF-8 text ({error.reason})."
            ) from error
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = json_template(folder / name, f"adapter {str(folder)!r}")
        if isinstance(template, dict):  # named templates
            template = template.get("default")
        if template:
            return template
    return None


def check_chat_template(folder: Path, tokenizer: Tokenizer) -> None:
    """Raise ModelError if the adapter comes with another chat template than the model's."""
    own = own_chat_template(folder)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if own is not None and own.strip() != (template or "").strip():
        whose = "differs from the model's" if template else "the model does not have"
        accepted = "on (the model's template) or off" if template else "off"
        raise ModelError(
            f"adapter {str(folder)!r} comes with a chat template that {whose}; set chat to "
            f"{accepted}."
        )
