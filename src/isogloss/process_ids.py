"""What identifies a process on this machine, and whether one has ended."""

import hashlib
import os
import socket
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil


@cache
def machine() -> str:
    """What identifies this machine, since it started; processes of containers see their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        text = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        text = f"{socket.gethostname()} {uuid.getnode()}"
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def started_at(pid: int) -> str:
    """When a process started, in the machine's own units; empty if it is gone.

    A new process may have the number of one that is gone.
    """
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    if Path("/proc/self/stat").exists():
        return ""
    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""


def this_process() -> str:
    """What identifies this process, for `has_ended`; without characters of paths."""
    pid = os.getpid()
    return f"{machine()}-{pid}-{started_at(pid)}"


def has_ended(process: str) -> bool:
    """Whether a process of this machine, named by `this_process`, has ended."""
    own, _, rest = process.partition("-")
    pid, _, started = rest.partition("-")
    return own == machine() and pid.isdecimal() and started_at(int(pid)) != started
