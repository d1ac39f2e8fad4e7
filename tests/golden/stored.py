"""Stored outputs of components: reading, writing, and comparing with what is computed now."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from golden.components import Component, Outputs

FOLDER = Path(__file__).parent
TOLERANCE = 1e-4  # absolute and relative, for results of float32 on other processors
DECIMAL = re.compile(r"\d+\.(\d+)")


def path(name: str) -> Path:
    """The file of a component."""
    return FOLDER / f"{name}.json"


def problem(name: str, component: Component, outputs: Outputs) -> str | None:
    """What is wrong with the stored outputs of a component, as a sentence; None if nothing is."""
    stored = json.loads(path(name).read_text("utf-8")) if path(name).is_file() else None
    if stored is None or stored["versions"] != component.versions:
        return f"the golden outputs of {name} are of other versions: run `python -m scripts.golden`"
    first = next(differences(stored["outputs"], json.loads(json.dumps(outputs))), None)
    if first is None:
        return None
    return (
        f"outputs changed ({first}): raise {component.constant} and run `python -m scripts.golden`"
    )


def differences(old: object, new: object, at: str = "") -> Iterator[str]:
    """Where two values from JSON differ by more than TOLERANCE, and how."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for key in old:
            yield from differences(old[key], new[key], f"{at}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{at}/{number}")
    elif isinstance(old, float) and isinstance(new, float):
        both_undefined = math.isnan(old) and math.isnan(new)
        if not (both_undefined or math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE)):
            yield f"{at}: {old} and {new}"
    elif isinstance(old, str) and isinstance(new, str):
        if not _same_but_for_rounding(old, new):
            yield f"{at}: {old!r} and {new!r}"
    elif type(old) is not type(new) or old != new:
        yield f"{at}: {old!r} and {new!r}"


def _same_but_for_rounding(old: str, new: str) -> bool:
    """Whether two texts differ by at most one in the last place of numbers with a decimal point.

    1.2499999 and 1.2500001, of two processors, are 1.2 and 1.3 in a report.
    """
    if DECIMAL.sub("", old) != DECIMAL.sub("", new):
        return False
    pairs = zip(DECIMAL.finditer(old), DECIMAL.finditer(new), strict=True)
    return all(
        len(before[1]) == len(after[1])
        and abs(float(before[0]) - float(after[0])) < 1.01 * 10 ** -len(before[1])
        for before, after in pairs
    )


def write(name: str, component: Component, outputs: Outputs) -> None:
    """Store the outputs of a component with its versions."""
    content = {"versions": component.versions, "outputs": outputs}
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
    path(name).write_text(text + "\n", encoding="utf-8")
