"""Processes: several that compute as one, as `accelerate launch` and torchrun start them.

The first one leads. It alone reads the configuration, reaches MLflow, writes files and draws
progress. The others wait for it to call a function with `run_on_all`, which sends them the function
and its arguments, so that each calls it with its own copy of the model. Within such a function
they meet: to share items, to add up gradients, and to learn that one of them has failed, which
then raises the same error in all. Without a launcher there is one process, and all of this does
nothing.
"""

import functools
import hashlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, ParamSpec, TypeVar

import torch
import torch.distributed as dist

from isogloss import logs
from isogloss.errors import IsoglossError, ProcessError

P = ParamSpec("P")
T = TypeVar("T")
NOTHING, PASS, FAILED = range(3)  # what a process says when they meet
PATIENCE = timedelta(days=30)  # the leader may wait for another study's work


@dataclass
class _State:
    control: Any = None  # the group in which they meet: gloo, whatever computes
    within: bool = False  # a function that all of them are in
    told: bool = False  # of a failure
    alone: bool = False  # in a part of the work where the others cannot be told of one


_state = _State()


def count() -> int:
    """Number of processes that compute together."""
    return 1 if _state.control is None else dist.get_world_size()


def rank() -> int:
    """Number of this process; 0 leads."""
    return 0 if _state.control is None else dist.get_rank()


def is_leader() -> bool:
    """Whether this process is the one that writes and logs."""
    return rank() == 0


def run_on_leader(run: Callable[[], object]) -> None:
    """Call `run`, in the first process only: the others follow it until it ends."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "LOCAL_RANK" not in os.environ:
        run()
        return
    _start()
    if not is_leader():
        _follow()
        return
    run()  # if it fails, the others find this process gone, and not before it has said why
    _broadcast(None)
    _end()


def run_on_all(function: Callable[..., T], model: Any, *given: Any, **own: Any) -> T:
    """`function(model, *given, **own)`, called by every process with its own model.

    `given` is sent to the others, and has to be picklable; `own` is the leader's alone, and has
    defaults. What a function makes that is given None for a model is the model of the others from
    then on. If one of them fails, all raise its error.
    """
    if count() == 1 or _state.within:
        return function(model, *given, **own)
    _broadcast((function, given, model is None))
    return _take_part(function, model, given, own)


def synchronise(error: BaseException | None = None) -> None:
    """Wait for all processes to come here, or to fail: then raise what one of them has raised."""
    if count() > 1 and (error is None or not _state.alone):
        _agree(NOTHING if error is None else FAILED, error)


def any_needs_pass(mine: bool) -> bool:
    """Whether a pass through the model follows: one of this process's own or, where the weights are
    spread over all of them, one that another needs this process for.
    """
    if not sharded():
        return mine
    _state.alone = _agree(PASS if mine else NOTHING) == PASS
    return _state.alone


def _agree(value: int, error: BaseException | None = None) -> int:
    """The largest of what the processes say; raise what one of them has raised."""
    _state.alone = False
    said = torch.tensor([value])
    _try(dist.all_reduce, said, dist.ReduceOp.MAX, _state.control)
    if said.item() == FAILED:
        _state.told = True
        told: list[Exception | None] = [None] * count()
        _try(dist.all_gather_object, told, _as_told(error), _state.control)
        if error is None:
            raise next(filter(None, told))
    return int(said.item())


def all_gather(value: T) -> list[T]:
    """That value of each process, in all of them."""
    if count() == 1:
        return [value]
    synchronise()
    values: list[Any] = [None] * count()
    _try(dist.all_gather_object, values, value, _state.control)
    return values


def broadcast(value: T) -> T:
    """The leader's value."""
    if count() == 1:
        return value
    synchronise()
    return _broadcast(value)  # type: ignore[no-any-return]


def split_work(things: Sequence[T], size: Callable[[T], int]) -> list[T]:
    """What is this process's of `things`, which all of them have: about as much for each."""
    if count() == 1:
        return list(things)
    loads = [0] * count()
    mine = []
    for at in sorted(range(len(things)), key=lambda at: size(things[at]), reverse=True):
        least = loads.index(min(loads))
        loads[least] += size(things[at])
        if least == rank():
            mine.append(at)
    return [things[at] for at in sorted(mine)]


def broadcast_weights(weights: Sequence[torch.Tensor]) -> None:
    """Give all processes the weights of the leader."""
    if count() > 1:
        synchronise()
        for weight in weights:
            _try(dist.broadcast, weight.detach(), 0)


def sum_gradients(loss: float, weights: Sequence[torch.Tensor]) -> float:
    """The sum of all processes' losses; the gradients of `weights` become their sums.

    A weight without a gradient in all of them stays without.
    """
    if count() == 1:
        return loss
    device = weights[0].device
    used = [weight.grad is not None for weight in weights]
    gradients = [
        torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights
    ]
    flat = torch.cat(
        [gradient.flatten().float() for gradient in gradients]
        + [torch.tensor([float(flag) for flag in used] + [loss], device=device)]
    )
    synchronise()
    _try(dist.all_reduce, flat)
    *parts, flags, total = torch.split(
        flat, [*(weight.numel() for weight in weights), len(used), 1]
    )
    for weight, part, flag in zip(weights, parts, flags.tolist(), strict=True):
        if flag:
            weight.grad = part.view_as(weight).to(weight.dtype)
    return float(total)


def sharded() -> bool:
    """Whether each process has but a part of the model's weights, so that all pass through it
    together (FSDP, DeepSpeed).
    """
    return count() > 1 and (
        launcher_flag("ACCELERATE_USE_FSDP") or launcher_flag("ACCELERATE_USE_DEEPSPEED")
    )


@contextmanager
def in_turn() -> Iterator[None]:
    """Context that the processes of a machine are in one after the other."""
    here = int(os.environ["LOCAL_RANK"])
    turns = max(all_gather(int(os.environ["LOCAL_WORLD_SIZE"])))
    for _ in range(here):
        synchronise()
    yield
    for _ in range(here, turns):
        synchronise()


def no_gradients(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator of functions that need no gradients."""

    @functools.wraps(function)
    def without(*given: P.args, **named: P.kwargs) -> T:
        # What is gathered in inference mode cannot be trained with later.
        with torch.no_grad() if sharded() else torch.inference_mode():
            return function(*given, **named)

    return without


def seed_step(seed: int, step: int) -> None:
    """Give each process a random state of its own, which is the same when the step is repeated."""
    if count() > 1:
        digest = hashlib.sha256(f"{seed} {step} {rank()}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:6]))


def _start() -> None:
    """Find the other processes."""
    if os.environ["RANK"] != "0":
        logs.silence()
    if launcher_flag("ACCELERATE_USE_CPU"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    _state.control = dist.new_group(backend="gloo", timeout=PATIENCE)


def _leave(said: str = "") -> NoReturn:
    """End a process that has lost the others, before gloo's threads make a crash of it."""
    print(said, end="\n" if said else "", file=sys.stderr, flush=True)
    os._exit(1)


def _end() -> None:
    _state.control = None
    dist.destroy_process_group()


def launcher_flag(name: str) -> bool:
    """Whether the launcher has set a variable of the environment to true."""
    return os.environ.get(name, "").lower() in ("1", "true", "yes")


def _follow() -> None:
    """Take part in what the leader calls, until it ends."""
    model: Any = None
    while True:
        try:
            order = _broadcast(None)
        except ProcessError:
            _leave()
        if order is None:
            _end()
            return
        function, given, makes_model = order
        try:
            result = _take_part(function, model, given, {})
        except Exception as error:
            if _state.told:
                continue  # so the leader knows of it, and decides
            if not isinstance(error, IsoglossError):
                traceback.print_exc()
            _leave(f"Error: {error}")
        if makes_model:
            model = result


def _take_part(
    function: Callable[..., T], model: Any, given: Sequence[Any], own: dict[str, Any]
) -> T:
    _state.within, _state.told = True, False
    try:
        result = function(model, *given, **own)
        synchronise()
        return result
    except BaseException as error:
        if not _state.told:
            synchronise(error)
        raise
    finally:
        _state.within = False


def _as_told(error: BaseException | None) -> Exception | None:
    """An error as another process can raise it: one of the user's as it is, any other as text."""
    if error is None or isinstance(error, IsoglossError):
        return error
    lines = "".join(traceback.format_exception(error))
    return RuntimeError(f"process {rank()} of {count()} has failed:\n{lines}")


def _broadcast(value: Any) -> Any:
    values = [value]
    _try(dist.broadcast_object_list, values, 0, _state.control)
    return values[0]


def _try(collective: Callable[..., object], *given: Any) -> None:
    """Call what all processes call; ProcessError if one of them is gone."""
    try:
        collective(*given)
    except RuntimeError as error:
        _state.told = _state.alone = True  # there is nobody left to tell
        raise ProcessError(
            f"process {rank()} of {count()} has lost the others: one of them has ended before "
            f"its time ({str(error).strip().splitlines()[0][:200]})."
        ) from error
