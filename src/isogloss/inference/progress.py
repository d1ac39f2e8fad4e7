"""Progress callbacks: functions that are called with the number of items newly reached."""

from collections.abc import Callable

Progress = Callable[[int], object]


def no_progress(count: int) -> None:
    """Ignore the progress."""


def extrapolated(progress: Progress, n_items: int, n_own: int) -> Progress:
    """Report progress over all items from the progress of this process's own share of them."""
    own_count = reported = 0

    def report(count: int) -> None:
        nonlocal own_count, reported
        own_count += count
        estimate = round(n_items * own_count / n_own)
        progress(estimate - reported)
        reported = estimate

    return report
