"""transformers' report of a loading: which weights it did not find, and set at random."""

import logging
from collections.abc import Collection, Mapping, Sequence

from isogloss.errors import ModelError

logger = logging.getLogger(__name__)

LoadingReport = Mapping[str, Collection[object]]  # names of weights, by what is wrong with them


def check_weights(name: str, report: LoadingReport) -> None:
    """Raise ModelError if transformers has set weights of a model at random, for lack of a file's.

    `report` is its loading report. Weights of the file that the model does not have are logged.
    """
    missing = sorted(map(str, report["missing_keys"]))
    misfits = sorted(str(entry[0]) for entry in report["mismatched_keys"])  # type: ignore[index]
    for keys, what in (
        (missing, "has no weights for"),
        (misfits, "has weights of other shapes for"),
    ):
        if keys:
            raise ModelError(
                f"model {name!r} {what} {', '.join(keys[:3])}{_and_more(keys[3:])}, which would be "
                "random; expected a file with all weights of the model."
            )
    if unexpected := sorted(map(str, report["unexpected_keys"])):
        logger.warning(
            f"{name}: its files have weights that the model does not use: "
            f"{', '.join(unexpected[:3])}{_and_more(unexpected[3:])}"
        )


def _and_more(keys: Sequence[str]) -> str:
    return f" and {len(keys)} more" if keys else ""
