"""The Ray cluster that runs the cells of a study: an existing one, or one of this machine alone."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mlflow

from isogloss.distributed import processes
from isogloss.errors import ConfigError
from isogloss.tracking.server import shown_uri

logger = logging.getLogger(__name__)

ADDRESS = "RAY_ADDRESS"  # Ray's own
OBJECT_STORE = 200_000_000  # bytes; only cells and ids of runs pass through it
# Nothing is sent to Ray's makers, and lines of different workers are not merged.
DEFAULTS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


@dataclass(frozen=True)
class Node:
    """A machine of a cluster, and all it has: GPUs of a type, processors, bytes of memory."""

    id: str
    host: str
    gpus: float
    cpus: float
    memory: float
    accelerator: str | None


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster of $RAY_ADDRESS, else to that of this machine, else start one here.

    Raises ConfigError if Ray is not installed, or does not answer.
    """
    if processes.count() > 1:
        raise ConfigError(
            f"launcher 'ray' starts processes of its own, but this is one of {processes.count()} "
            "that were started together; start a single one."
        )
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "launcher 'ray' needs Ray, which is not installed; run `pip install 'ray>=2.60,<2.61'`."
        ) from error
    if ray.is_initialized():  # by the program that imports isogloss
        yield
        return
    with _signal_handlers_kept():
        _connect()
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Context after which this process handles SIGTERM and SIGHUP as before.

    `ray.init` sets handlers of its own, whose SIGTERM ends a process with status 134.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: set by another language than Python
                signal.signal(number, handler)


def _connect() -> None:
    import ray
    from ray.exceptions import RayError

    address = os.environ.get(ADDRESS)
    if address and address.startswith("ray://"):
        raise ConfigError(
            f"{ADDRESS} is {address!r}, of a Ray client; run the study on the cluster instead "
            "(`ray job submit`), or set the address of its head, HOST:6379."
        )
    level = logging.WARNING
    try:
        ray.init(address="auto", logging_level=level)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        if address:
            reason = (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
            raise ConfigError(
                f"no Ray cluster can be used at {ADDRESS} {address!r}: {reason}."
            ) from error
        ray.init(
            address="local",
            logging_level=level,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            _node_ip_address="127.0.0.1",
        )
        logger.info("no Ray cluster runs here: one of this machine alone is started")


def nodes() -> list[Node]:
    """The machines of the cluster that are alive."""
    import ray

    alive = [entry for entry in ray.nodes() if entry["Alive"]]
    return [
        Node(
            id=entry["NodeID"],
            host=entry["NodeManagerHostname"],
            gpus=entry["Resources"].get("GPU", 0.0),
            cpus=entry["Resources"].get("CPU", 0.0),
            memory=entry["Resources"].get("memory", 0.0),
            accelerator=entry.get("Labels", {}).get("ray.io/accelerator-type"),
        )
        for entry in alive
    ]


def check_store(cluster: list[Node]) -> None:
    """Raise ConfigError if workers of other machines cannot reach MLflow's store."""
    hosts = {node.host for node in cluster} | {socket.gethostname()}
    if len(hosts) > 1 and mlflow.get_tracking_uri().startswith("sqlite:"):
        raise ConfigError(
            f"launcher 'ray' has nodes on {len(hosts)} machines, but MLflow's store {shown_uri()} "
            "is a file of one; set MLFLOW_TRACKING_URI to a tracking server or a PostgreSQL "
            "database."
        )
