"""Cost of a study in operations and hours, before anything is loaded.

A forward pass takes 2 operations per parameter and token, and a training step 4, since the base
weights need no gradients of their own (Kaplan et al. 2020, arXiv:2001.08361, section 2.1, for the
factor 2). Mixture-of-Experts models count the parameters that are active per token. Estimates are
within a factor of about three.
"""

import time

FORWARD_OPERATIONS, TRAINING_OPERATIONS = 2, 4  # per parameter and token
UTILISATION = 0.4  # of the speed of matrix products
H100_OPERATIONS = 990e12  # per second, bfloat16 without sparsity (NVIDIA's data sheet)
TOKENS_PER_ITEM = 400  # where no data can be read


def h100_operations_per_second() -> float:
    """Operations per second of an H100, at the utilisation of a study."""
    return UTILISATION * H100_OPERATIONS


def operations_per_second_here() -> float:
    """Operations per second of this machine's matrix products, at the utilisation of a study."""
    import torch  # a plan on paper needs none of it

    from isogloss.models.dtypes import resolve_dtype

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    left = torch.ones(2048, 2048, dtype=resolve_dtype("auto"), device=device)
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        (left @ left).sum().item()
        seconds.append(time.perf_counter() - started)
    return UTILISATION * 2 * 2048**3 / min(seconds)


def evaluation_operations(n_items: float, tokens_per_item: float, active: float) -> float:
    """Operations of scoring so many items by a model with `active` parameters per token."""
    return FORWARD_OPERATIONS * active * n_items * tokens_per_item


def training_operations(n_items: float, tokens_per_item: float, active: float) -> float:
    """Operations of training on so many items."""
    return TRAINING_OPERATIONS * active * n_items * tokens_per_item
