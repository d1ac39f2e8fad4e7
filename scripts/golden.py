"""Write tests/golden/COMPONENT.json: what each component computes, with its version.

    PYTHONPATH=src python -m scripts.golden

Refuses to replace outputs that have changed while the component's version has not: results of the
old code would be reused for the new one.
"""

import importlib
import json
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"


def main() -> None:
    """Write the files whose versions have changed."""
    sys.path.insert(0, str(TESTS))
    stored = importlib.import_module("golden.stored")
    components = importlib.import_module("golden.components").COMPONENTS
    refused = []
    for name, component in components.items():
        path, outputs = stored.path(name), component.outputs()
        problem = stored.problem(name, component, outputs)
        if problem is None:
            continue
        old = json.loads(path.read_text("utf-8")) if path.is_file() else None
        if old is not None and old["versions"] == component.versions:
            refused.append(f"{name}: {problem}")
        else:
            stored.write(name, component, outputs)
            print(f"wrote {path}")
    sys.exit("\n".join(refused) or None)


if __name__ == "__main__":
    main()
