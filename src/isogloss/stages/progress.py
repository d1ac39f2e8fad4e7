"""What a cell of a study says of the whole study, in its own lines of progress."""

from collections.abc import Callable
from contextvars import ContextVar

# Called with the share of the running cell that is done, and whether it was found on disk.
study_report: ContextVar[Callable[[float, bool], str] | None] = ContextVar("report", default=None)


def rest_of_study(share: float, *, found: bool = False) -> str:
    """What is left of the study in which a `share` of a cell is done; empty outside a study.

    `found` is true for what another process has done, which tells no speed, and where the work of
    the cell begins.
    """
    report = study_report.get()
    return report(share, found) if report else ""
