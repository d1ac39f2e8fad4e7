"""Loading: a model from disk, in the requested precision and on the requested devices."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open

from isogloss.compat.interfaces import CausalNetwork, Tokenizer
from isogloss.distributed import processes
from isogloss.distributed.sharding import shard
from isogloss.errors import ModelError
from isogloss.models.compilation import compile_layers, worth_compiling
from isogloss.models.dtypes import NF4, nf4_config, resolve_dtype, weights_dtype
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading_report import LoadingReport, check_weights
from isogloss.models.locate import SAFETENSORS_INDEX, ModelLocation
from isogloss.models.memory import keep_freed_memory, page_out
from isogloss.models.model_files import read_settings, reason_of
from isogloss.models.paths import proven_paths
from isogloss.models.tokenizers import load_tokenizer

logger = logging.getLogger(__name__)

ROWS_PER_CAST = 4096  # rows of a weight that are cast at a time


def load(
    location: ModelLocation,
    dtype: str = "auto",
    attention: str = "auto",
    device_map: str | dict[str, int | str] = "none",
    tokenizer: Tokenizer | None = None,
) -> LanguageModel:
    """Load a located model in evaluation mode, on the GPU if there is one.

    `dtype` is the dtype of matrix products: auto, float32 or bfloat16, see `resolve_dtype`; or nf4,
    4-bit weights of linear layers with bfloat16 products, see `nf4_config`. `attention` is an
    attention implementation of transformers, auto its default. `device_map` is none for one device,
    auto to let accelerate distribute layers over all GPUs and CPU memory, or such a map.
    `tokenizer` is that of the location, where it is in memory already.
    Raises ModelError if this machine cannot load the model that way.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    products = resolve_dtype(dtype)
    check_options(dtype, attention, device_map)
    # Never a pickle. By default transformers takes one where there are no safetensors.
    options: dict[str, object] = {
        "dtype": weights_dtype(dtype, device),
        "use_safetensors": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are in the report, by name
    }
    if attention != "auto":
        options["attn_implementation"] = attention
    if device_map != "none":
        options["device_map"] = device_map
    if dtype == NF4:
        options["quantization_config"] = nf4_config()
    if tokenizer is None:
        tokenizer = load_tokenizer(location)
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            location.folder, local_files_only=True, **options
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a model's own code raises for its configuration
        raise ModelError(
            f"model {location.name!r} cannot be loaded ({reason_of(error)})."
        ) from error
    network, report = cast("tuple[CausalNetwork, LoadingReport]", loaded)
    check_weights(location.name, report)
    module = cast(torch.nn.Module, network)
    module.eval()
    module.requires_grad_(False)
    if processes.sharded():
        shard(network)
    elif device_map != "none":
        places = getattr(network, "hf_device_map", {}).values()
        device = next((torch.device(at) for at in places if at not in ("cpu", "disk")), device)
    elif dtype != NF4:  # a quantised model is on its device already
        module.to(device)
    if dtype == NF4:
        _check_quantised(network, location)
        _log_unquantised(network, location)
    if not processes.sharded():  # sharded weights must have one dtype
        _cast_matrices(network, products)
    keep_freed_memory()
    model = LanguageModel(location, tokenizer, network, device, products)
    if not processes.sharded():  # processes load one after another, and passes need all of them
        proven_paths(model)
    if worth_compiling(model):
        compile_layers(model)
    return model


def check_options(dtype: str, attention: str, device_map: object) -> None:
    """Raise ModelError for options of `load` that this machine or its launcher does not support."""
    if processes.sharded() and (dtype == NF4 or device_map != "none"):
        raise ModelError(
            "the launcher shards the weights over its processes; dtype 'nf4' and device_map do not "
            "work with that."
        )
    if dtype == NF4:
        nf4_config()
    if attention != "auto":
        _check_attention(attention, resolve_dtype(dtype))


def check_weight_files(location: ModelLocation) -> None:
    """Raise ModelError if a file of weights is missing, cut off or not safetensors.

    Reads the headers alone. The files are those that transformers takes.
    """
    folder = location.folder
    names = ["model.safetensors"]
    if not (folder / names[0]).is_file():
        index = folder / SAFETENSORS_INDEX
        if not index.is_file():
            return
        try:
            files = read_settings(index, f"model {location.name!r}")["weight_map"].values()
            names = sorted(set(map(str, files)))
        except (LookupError, TypeError, AttributeError) as error:
            raise _not_an_index(location) from error
        if not names or any(Path(name).name != name for name in names):
            raise _not_an_index(location)
    for name in names:
        try:
            with safe_open(folder / name, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"model {location.name!r} cannot be loaded ({name}: {reason_of(error)})."
            ) from error


def _not_an_index(location: ModelLocation) -> ModelError:
    return ModelError(
        f"model {location.name!r} cannot be loaded: {SAFETENSORS_INDEX} must name files of its "
        "folder under 'weight_map'."
    )


def _check_attention(attention: str, products: torch.dtype) -> None:
    """Raise ModelError if `attention` is flash attention and it is not available."""
    from transformers.utils.import_utils import is_flash_attn_2_available

    if attention != "flash_attention_2":
        return
    if not is_flash_attn_2_available():
        raise ModelError(
            "attention is 'flash_attention_2', but the package flash-attn is not installed or "
            "there is no GPU for it; expected auto, eager or sdpa."
        )
    if products == torch.float32:
        raise ModelError("attention is 'flash_attention_2', which needs dtype bfloat16 or nf4.")


def _check_quantised(network: CausalNetwork, location: ModelLocation) -> None:
    """Avoid two bugs of bitsandbytes 0.50 on a CPU; ModelError if one cannot be avoided."""
    from bitsandbytes.nn.modules import Linear4bit

    for module in network.modules():
        if isinstance(module, Linear4bit) and module.weight.device.type == "cpu":
            # With AVX512_BF16 it would repack weights at the first pass without gradients, and
            # gradients could not pass through them from then on.
            module.support_avx512bf16_for_cpu = False
            if module.in_features % 64:
                raise ModelError(
                    f"dtype is 'nf4', but model {location.name!r} has layers with "
                    f"{module.in_features} inputs; on a CPU bitsandbytes needs a multiple of 64."
                )


def _log_unquantised(network: CausalNetwork, location: ModelLocation) -> None:
    """Say how many of the weights nf4 leaves in bfloat16, and what all of them take in memory.

    bitsandbytes quantises linear layers. A Mixture-of-Experts model has the experts of a layer in
    one parameter of three dimensions, so most of it is left.
    """
    total = memory = left = experts = 0
    for weight in network.parameters():
        state = getattr(weight, "quant_state", None)
        count = weight.numel() if state is None else math.prod(state.shape)
        total, memory = total + count, memory + weight.nbytes
        if state is None:
            left += count
            experts += count if weight.dim() == 3 else 0
        else:
            memory += state.absmax.nbytes
    text = (
        f"{location.name}: nf4 leaves {left / total:.0%} of the weights in bfloat16; all weights "
        f"take {memory / 1e9:.2f} GB"
    )
    if experts:
        logger.warning(
            f"{text}. {experts / total:.0%} are experts, which bitsandbytes does not quantise."
        )
    else:
        logger.info(f"{text}.")


def _cast_matrices(network: CausalNetwork, dtype: torch.dtype) -> None:
    """Cast matrices and embeddings to the dtype of products; autocast would do so on every pass.

    All else keeps its dtype: norms, the states of recurrent layers, and the residual stream, which
    starts from the embeddings.
    """
    embedding = network.get_input_embeddings()
    residual_dtype = embedding.weight.dtype
    if residual_dtype == dtype:
        return
    head = network.get_output_embeddings()
    matrices = {embedding.weight, *_matrices(network)}
    for weight in {*network.get_decoder().parameters(), *(head.parameters() if head else ())}:
        if weight.is_floating_point() and not weight.is_meta:
            cast = torch.empty_like(weight, dtype=dtype if weight in matrices else residual_dtype)
            for rows, loaded in zip(
                torch.split(cast, ROWS_PER_CAST),
                torch.split(weight.data, ROWS_PER_CAST),
                strict=True,
            ):
                rows.copy_(loaded)
                page_out(loaded)
            weight.data = cast
    embedding.register_forward_hook(lambda module, args, output: output.to(residual_dtype))


def _matrices(network: CausalNetwork) -> Iterator[torch.nn.Parameter]:
    """The weights of products: of linear layers, and of experts, which are parameters."""
    for module in network.modules():
        if isinstance(module, torch.nn.Linear) or "Expert" in type(module).__name__:
            yield from (weight for weight in module.parameters(recurse=False) if weight.dim() > 1)
