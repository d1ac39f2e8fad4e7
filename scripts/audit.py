"""Look the pinned packages up in PyPI's database of vulnerabilities, with pip-audit.

    python -m scripts.audit [requirements-hashes.txt]

Exits with status 1 if a package has a known vulnerability. Where the database does not answer, it
says so and exits with 0: nothing has been audited then.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).parents[1] / "requirements-hashes.txt"
COMMAND = ("-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off")
SECONDS = 600


def verdict(dependencies: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """What pip-audit's report says, and whether no package has a known vulnerability."""
    vulnerable = [package for package in dependencies if package.get("vulns")]
    skipped = [package for package in dependencies if "skip_reason" in package]
    if vulnerable:
        lines = [
            f"{package['name']} {package['version']}: "
            + ", ".join(entry["id"] for entry in package["vulns"])
            for package in vulnerable
        ]
        return "\n".join(["known vulnerabilities:", *lines]), False
    if len(skipped) == len(dependencies):
        return "nothing is audited: PyPI's database of vulnerabilities does not answer.", True
    known = f"{len(dependencies) - len(skipped)} of {len(dependencies)} packages"
    return f"{known} are in PyPI's database and have no known vulnerability.", True


def main(requirements: Path = REQUIREMENTS) -> bool:
    """Print what is known; whether nothing is known to be wrong."""
    words = [sys.executable, *COMMAND, "--format", "json", "-r", str(requirements)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS)
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):  # pip-audit ends with a traceback where it has no network
        lines = done.stderr.strip().splitlines() or ["no output"]
        print(f"nothing is audited: pip-audit ended with {lines[-1][:200]!r}.")
        return True
    text, sound = verdict(dependencies)
    print(text)
    return sound


if __name__ == "__main__":
    sys.exit(0 if main(*map(Path, sys.argv[1:2])) else 1)
