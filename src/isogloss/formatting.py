"""Numbers and names as text, in the same way in sentences, tables and figures."""

import math
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from isogloss.types import Interval

# Parameters of a URL whose values are never shown.
SECRET = r"[\w-]*(?:password|passwd|pwd|token|secret|key|credential|signature)[\w-]*"


def points(value: float, *, signed: bool = True) -> str:
    """A fraction as points with one decimal and a true minus sign: 0.0312 is `+3.1`."""
    return decimal(100 * value, 1, signed=signed)


def decimal(value: float, digits: int, *, signed: bool = True) -> str:
    """A number with a true minus sign, `+` if `signed`, and no sign on what rounds to zero."""
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("−" if value < 0 else "+" if signed else "") + text


def p_value(p: float) -> str:
    """A p-value to print after p: `= 0.012`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def interval_points(interval: Interval) -> str:
    """An interval of fractions in points, see `interval_text`: `[−1.9, +2.4]`."""
    return interval_text(Interval(*(100 * end for end in interval)), 1)


def interval_text(interval: Interval, digits: int) -> str:
    """An interval without infinities: `[−1.9, +2.4]`, `≥ −1.9`, `≤ +2.4` or `unbounded`.

    `n/a` where an end is NaN.
    """
    if any(map(math.isnan, interval)):
        return "n/a"
    low, high = (decimal(end, digits) for end in interval)
    if math.isinf(interval.low):
        return "unbounded" if math.isinf(interval.high) else f"≤ {high}"
    return f"≥ {low}" if math.isinf(interval.high) else f"[{low}, {high}]"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def closest(text: str, names: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """Up to three names that are spelled like the text, the closest first; case does not matter.

    `cutoff` is the least similarity, see `difflib.get_close_matches`.
    """
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.casefold(), name)
    return [folded[match] for match in get_close_matches(text.casefold(), folded, cutoff=cutoff)]


def did_you_mean(text: str, names: Iterable[str], otherwise: str = "", cutoff: float = 0.6) -> str:
    """The end of a sentence about an unknown name: `; did you mean 'letter'?`.

    `; otherwise.` where no name is close to the text or one is equal to it, or just a full stop.
    """
    known = list(names)
    close = [] if text in known else closest(shortened(text), known, cutoff)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; {otherwise}." if otherwise else "."


def shortened(text: str, length: int = 200) -> str:
    """A text of at most about `length` characters: the middle of a longer one is left out."""
    left_out = len(text) - length
    if left_out <= 0:
        return text
    half = length // 2
    return f"{text[:half]}… ({left_out:,} more characters) …{text[-half:]}"


def natural_order(text: str) -> tuple[str | int, ...]:
    """A sorting key by which `4 steps` comes before `16 steps`."""
    parts = re.split(r"(\d+)", text)
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts))


def sentence(text: str) -> str:
    """The text with a capital first letter; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def size(n_bytes: int) -> str:
    """A number of bytes in decimal units: `536 MB`, `1.1 GB`."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(max(len(str(n_bytes)) - 1, 0) // 3, len(units) - 1)
    scaled = n_bytes / 1000**power
    return f"{scaled:.1f} {units[power]}" if power >= 3 else f"{scaled:.0f} {units[power]}"


def duration(seconds: float) -> str:
    """A duration in words, rounded: 40 s, 3 min, 2 h 10 min, 5 days."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(round(minutes / 10) * 10, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(hours / 24)} days"


def in_hours(hours: float | None) -> str:
    """Hours as text: unknown, < 0.01, 0.25, 1,240."""
    if hours is None:
        return "unknown"
    if 0 < hours < 0.005:
        return "< 0.01"
    return f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as lines, in columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def without_password(text: str) -> str:
    """A text with *** in place of every password in the URLs it contains.

    A password ends at the last @ before a space, since it may contain others; that of a query is
    the value of a parameter with a name of SECRET. A login of a web address without a password is
    one: a token.
    """
    # One slash where a URL was taken for a path, or was mistyped.
    text = re.sub(r"(:/{1,2}[^:/\s]*):\S*@", r"\1:***@", text)
    text = re.sub(r"(https?:/{1,2})[^:/@\s]+@", r"\1***@", text, flags=re.IGNORECASE)
    return re.sub(rf"([?&;](?:{SECRET})=)[^&;\s]*", r"\1***", text, flags=re.IGNORECASE)
