"""Several processes that compute as one, as `accelerate launch` and torchrun start them.

The leader alone reads the configuration, reaches MLflow, writes files and shows progress. The
others, the followers, wait until it calls a function with `run_on_all`: it sends them the function
and its arguments, and every process calls it with its own copy of the model. Within the function
they share items, add gradients, and agree on errors: an error of one is raised in all, after which
they go on. Without a launcher there is one process, and all of this does nothing.

Why not a library's collectives: they have no agreement on errors. Measured with two processes on
one machine, when the follower runs out of memory in a step while the leader waits in a collective:

| | the leader learns of it | and then |
|---|---|---|
| this module | in 2 to 4 ms, with the error itself | both go on, for instance with the next trial |
| accelerate's `gather_object`, error raised | when the follower ends (1.5 s), as "connection \
closed" | the launcher ends all processes |
| accelerate's `gather_object`, error caught | never | the leader's step receives the follower's \
value of the next step: a wrong result |
| torch's rpc | a future has it in 2 ms, but the leader waits in its collective | until a timeout |

A call with `run_on_all` costs 1 to 2 ms. The calls themselves take 50 lines here; torch's rpc, or a
program that all processes run alike, would replace those lines, but not the agreement on errors
and the division of work by size.
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
from typing import NoReturn, ParamSpec, TypeVar

import torch
import torch.distributed as dist

from isogloss import logs
from isogloss.distributed.world import world
from isogloss.errors import IsoglossError, ProcessError

P = ParamSpec("P")
T = TypeVar("T")
NOTHING, PASS, FAILED = range(3)  # what a process reports when all synchronise
TIMEOUT = timedelta(days=30)  # the leader may wait for a cell that another machine computes


@dataclass
class _State:
    group: dist.ProcessGroup | None = None  # gloo, whatever computes; None for one process
    on_all: bool = False  # within a function that all processes run
    error_agreed: bool = False  # every process knows of the error
    unreachable: bool = False  # the others cannot be told of an error: a pass, or they are gone


_state = _State()


def count() -> int:
    """Number of processes."""
    return world.size


def count_tag() -> str | None:
    """Value of the run's tag `processes`; None for one process."""
    return str(count()) if count() > 1 else None


def rank() -> int:
    """Number of this process; 0 is the leader."""
    return world.rank


def is_leader() -> bool:
    """Whether this process writes and logs."""
    return rank() == 0


def sharded() -> bool:
    """Whether each process holds only a part of the weights (FSDP, DeepSpeed).

    Every pass then needs all processes.
    """
    return count() > 1 and (
        launcher_flag("ACCELERATE_USE_FSDP") or launcher_flag("ACCELERATE_USE_DEEPSPEED")
    )


def launcher_flag(name: str) -> bool:
    """Whether the launcher has set an environment variable to true."""
    return os.environ.get(name, "").lower() in ("1", "true", "yes")


def run_on_leader(run: Callable[[], object]) -> None:
    """Call `run` in the leader; the followers take part in its `run_on_all` until it returns."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "LOCAL_RANK" not in os.environ:
        run()
        return
    _start()
    if not is_leader():
        _follow()
        return
    run()  # on an error the leader prints it and ends, and the followers find it gone
    _broadcast(None)
    _end()


def run_on_all(
    function: Callable[..., T], model: object, *args: object, **leader_only: object
) -> T:
    """Call `function(model, *args)` in every process, each with its own model.

    `args` are sent and must be picklable. `leader_only` are keyword arguments of the leader alone;
    the function has defaults for them. With None for a model, followers keep the result as their
    model. An error of one process is raised in all. Returns the leader's result.
    """
    if count() == 1 or _state.on_all:
        return function(model, *args, **leader_only)
    _broadcast((function, args, model is None))
    return _take_part(function, model, args, leader_only)


def synchronise(error: BaseException | None = None) -> None:
    """Wait for all processes; raise the error of one that calls this with an error."""
    if count() > 1 and (error is None or not _state.unreachable):
        _agree(NOTHING if error is None else FAILED, error)


def any_needs_pass(mine: bool) -> bool:
    """Whether a pass through the model follows.

    One of this process or, with sharded weights, one of another process that needs its shards.
    """
    if not sharded():
        return mine
    _state.unreachable = _agree(PASS if mine else NOTHING) == PASS
    return _state.unreachable


def all_gather(value: T) -> list[T]:
    """The value of each process, by rank."""
    if count() == 1:
        return [value]
    synchronise()
    return _all_gather(value)


def broadcast(value: T) -> T:
    """The value of the leader."""
    if count() == 1:
        return value
    synchronise()
    return _broadcast(value)


def split_work(items: Sequence[T], size: Callable[[T], int]) -> list[T]:
    """This process's share of items that all processes have, in their order.

    Largest first, each to the process with the least so far, so that shares have about the same
    total size.
    """
    if count() == 1:
        return list(items)
    totals = [0] * count()
    mine = []
    for index in sorted(range(len(items)), key=lambda index: size(items[index]), reverse=True):
        least = totals.index(min(totals))
        totals[least] += size(items[index])
        if least == rank():
            mine.append(index)
    return [items[index] for index in sorted(mine)]


def broadcast_weights(weights: Sequence[torch.Tensor]) -> None:
    """Copy the leader's weights to all processes."""
    if count() > 1:
        synchronise()
        for weight in weights:
            _collective(dist.broadcast, weight.detach(), 0)


def sum_gradients(loss: float, weights: Sequence[torch.Tensor]) -> float:
    """Replace the gradients of `weights` by their sums over all processes; return the summed loss.

    A weight that has no gradient in any process keeps none.
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
    _collective(dist.all_reduce, flat)
    *parts, flags, total = torch.split(
        flat, [*(weight.numel() for weight in weights), len(used), 1]
    )
    for weight, part, flag in zip(weights, parts, flags.tolist(), strict=True):
        if flag:
            weight.grad = part.view_as(weight).to(weight.dtype)
    return float(total)


def seed_step(seed: int, step: int) -> None:
    """Seed the random numbers of a step, differently in each process, so that it can be repeated.

    One process keeps its state instead, which checkpoints contain.
    """
    if count() > 1:
        digest = hashlib.sha256(f"{seed} {step} {rank()}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:6]))


@contextmanager
def in_turn() -> Iterator[None]:
    """Context that the processes of a machine enter one after the other."""
    local_rank = int(os.environ["LOCAL_RANK"])
    turns = max(all_gather(int(os.environ["LOCAL_WORLD_SIZE"])))
    for _ in range(local_rank):
        synchronise()
    yield
    for _ in range(local_rank, turns):
        synchronise()


def no_gradients(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator for functions that need no gradients."""

    @functools.wraps(function)
    def without_gradients(*args: P.args, **kwargs: P.kwargs) -> T:
        # Weights gathered in inference mode cannot be trained through later.
        with torch.no_grad() if sharded() else torch.inference_mode():
            return function(*args, **kwargs)

    return without_gradients


def _start() -> None:
    """Join the group of processes."""
    if os.environ["RANK"] != "0":
        logs.silence()
    if launcher_flag("ACCELERATE_USE_CPU"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    _state.group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    world.size, world.rank = dist.get_world_size(), dist.get_rank()


def _end() -> None:
    _state.group = None
    world.size, world.rank = 1, 0
    dist.destroy_process_group()


def _exit(message: str = "") -> NoReturn:
    """End a process that has lost the others, before the threads of gloo crash it."""
    print(message, end="\n" if message else "", file=sys.stderr, flush=True)
    os._exit(1)


def _follow() -> None:
    """Take part in the leader's calls until it ends."""
    model: object = None
    while True:
        try:
            call = _broadcast(None)
        except ProcessError:
            _exit()
        if call is None:
            _end()
            return
        function, args, makes_model = call
        try:
            result = _take_part(function, model, args, {})
        except Exception as error:
            if _state.error_agreed:
                continue  # the leader decides
            if not isinstance(error, IsoglossError):
                traceback.print_exc()
            _exit(f"Error: {error}")
        if makes_model:
            model = result


def _take_part(
    function: Callable[..., T],
    model: object,
    args: Sequence[object],
    leader_only: dict[str, object],
) -> T:
    """Call a function that all processes call; raise the error of any of them."""
    _state.on_all, _state.error_agreed = True, False
    try:
        result = function(model, *args, **leader_only)
        synchronise()
        return result
    except BaseException as error:
        if not _state.error_agreed:
            synchronise(error)
        raise
    finally:
        _state.on_all = False


def _agree(report: int, error: BaseException | None = None) -> int:
    """The highest report of all processes; if one has failed, raise its error in the others."""
    _state.unreachable = False
    highest = torch.tensor([report])
    _collective(dist.all_reduce, highest, dist.ReduceOp.MAX, _state.group)
    if highest.item() == FAILED:
        _state.error_agreed = True
        errors = _all_gather(_picklable(error))
        if error is None:
            raise next(filter(None, errors))
    return int(highest.item())


def _picklable(error: BaseException | None) -> Exception | None:
    """An error that another process can raise: a user's error itself, any other as text."""
    if error is None or isinstance(error, IsoglossError):
        return error
    lines = "".join(traceback.format_exception(error))
    return RuntimeError(f"process {rank()} of {count()} failed:\n{lines}")


def _all_gather(value: T) -> list[T]:
    values = [value] * count()
    _collective(dist.all_gather_object, values, value, _state.group)
    return values


def _broadcast(value: T) -> T:
    values = [value]
    _collective(dist.broadcast_object_list, values, 0, _state.group)
    return values[0]


def _collective(function: Callable[..., object], *args: object) -> None:
    """Call a collective; raise ProcessError if a process is gone."""
    try:
        function(*args)
    except RuntimeError as error:
        _state.error_agreed = _state.unreachable = True  # no process is left to agree with
        raise ProcessError(
            f"process {rank()} of {count()} cannot reach the others; one of them ended "
            f"({str(error).strip().splitlines()[0][:200]})."
        ) from error
