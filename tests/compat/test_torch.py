"""PyTorch: a `forward` replaced on the instance, and the arguments of flash attention."""

import torch

from isogloss.compat.torch import replaced_forward

MOVED = (
    "torch.nn.Module.__call__ no longer looks `forward` up on the instance: logits of selected "
    "states (models/lm_head.py) and the last layer at selected tokens (models/forward.py) are "
    "wrong. Set ISOGLOSS_PUBLIC_INTERFACES=1 until compat/torch.py has another way."
)


def test_a_replaced_forward_is_called_within_the_hooks_and_then_restored() -> None:
    layer = torch.nn.Linear(2, 2)
    layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 1,))
    with replaced_forward(layer, lambda value: 10 * value):
        assert torch.equal(layer(torch.ones(2)), torch.full((2,), 20.0)), MOVED
    assert "forward" not in vars(layer)
    assert layer(torch.ones(2)).shape == (2,)


def test_an_earlier_replacement_is_restored() -> None:
    layer = torch.nn.Linear(2, 2)
    with replaced_forward(layer, lambda _: "outer"):
        with replaced_forward(layer, lambda _: "inner"):
            assert layer(None) == "inner"
        assert layer(None) == "outer"


def test_flash_attention_takes_the_arguments_that_decoding_gives_it() -> None:
    arguments = torch.ops.aten._flash_attention_forward.default._schema.arguments
    positional = [argument.name for argument in arguments if not argument.kwarg_only]
    assert positional == [
        "query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p",
        "is_causal", "return_debug_mask",
    ]  # fmt: skip
    named = {argument.name for argument in arguments if argument.kwarg_only}
    assert {"scale", "window_size_left", "window_size_right", "seqused_k"} <= named
