"""Pinned packages: each has hashes of the version that is pinned; what an audit says."""

import re
from pathlib import Path

from scripts.audit import verdict

ROOT = Path(__file__).parents[2]


def pins(text: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^\s\\]+)", text, flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_every_pinned_package_has_hashes() -> None:
    hashed = (ROOT / "requirements-hashes.txt").read_text("utf-8")
    assert pins(hashed) == pins((ROOT / "requirements.txt").read_text("utf-8"))
    for package in re.split(r"\n(?=[A-Za-z])", hashed)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", package), package[:80]


def test_what_an_audit_says() -> None:
    sound = {"name": "a", "version": "1", "vulns": []}
    away = {"name": "b", "skip_reason": "not found"}
    bad = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]}
    assert verdict([sound, away]) == (
        "1 of 2 packages are in PyPI's database and have no known vulnerability.", True
    )  # fmt: skip
    assert verdict([away, away]) == (
        "nothing is audited: PyPI's database of vulnerabilities does not answer.", True
    )  # fmt: skip
    assert verdict([sound, bad]) == ("known vulnerabilities:\nc 2: CVE-1, CVE-2", False)
