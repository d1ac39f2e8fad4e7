"""Libraries that runs were computed with: which differences forbid a comparison or a reuse."""

import importlib.metadata
from collections.abc import Iterable, Sequence

from mlflow.entities import Run

from isogloss.tracking.comparability import Difference
from isogloss.tracking.tags import tag
from isogloss.tracking.versions import major_version, parse_versions


def libraries_of(run: Run) -> dict[str, str]:
    """Versions of the libraries of a run, and of its inference server; empty if it does not say."""
    server, version = tag(run, "engine"), tag(run, "server_version")
    of_server = {server: version} if server and version else {}
    return parse_versions(tag(run, "libraries") or "") | of_server


def library_differences(runs: Sequence[Run]) -> list[Difference]:
    """Libraries of which runs have different versions."""
    by_library: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        for name, version in libraries_of(run).items():
            by_library.setdefault(name, {}).setdefault(version, []).append(run)
    return [
        Difference(name, "", by_library[name])
        for name in sorted(by_library)
        if len(by_library[name]) > 1
    ]


def differ_in_major(runs: Sequence[Run]) -> bool:
    """Whether runs have versions of a library that may behave differently."""
    return any(is_major(difference.runs) for difference in library_differences(runs))


def is_major(versions: Iterable[str]) -> bool:
    """Whether versions of one library may behave differently."""
    return len({major_version(version) for version in versions}) > 1


def updates_since(run: Run) -> dict[str, tuple[str, str]]:
    """Versions then and now of the libraries that were replaced since a run, by name."""
    replaced = {}
    for name, then in parse_versions(tag(run, "libraries") or "").items():
        try:
            now = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            now = "none"
        if now != then:
            replaced[name] = (then, now)
    return replaced
