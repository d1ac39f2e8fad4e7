"""Runs, languages and analyses that a comparison leaves out, and why."""

from dataclasses import dataclass
from enum import StrEnum

from isogloss.analysis.score_matrix import RunKey
from isogloss.types import Condition, Units


class OmissionReason(StrEnum):
    """Why something is missing from a comparison."""

    FAILED_CELLS = "failed cells"
    UNFINISHED_RUN = "unfinished run"
    STUDY_RUN = "study run"
    MISSING_CONDITION = "missing condition"
    MISSING_LANGUAGES = "missing languages"
    MISSING_ITEMS = "missing items"
    MISSING_SEEDS = "missing seeds"
    NO_DOUBLE_DIFFERENCE = "no double difference"
    NO_SLOPE = "no slope"
    MISSING_SOURCES = "missing sources"
    LOST_SOURCES = "lost sources"
    SOURCES_NOT_CROSSED = "sources not crossed"
    NO_CROSSED_DESIGN = "no crossed design"


class Predictor(StrEnum):
    """What a gain is regressed on."""

    BASELINE = "baseline"
    CHAIN_OF_THOUGHT = "chain of thought"


@dataclass(frozen=True)
class Omission:
    """One thing left out: the reason, and the facts that this reason has.

    | reason               | facts                               |
    |----------------------|-------------------------------------|
    | failed cells         | `cells` (their labels), `problem`   |
    | unfinished run       | `run`, `run_id`, `status`           |
    | study run            | `run_id`, `problem`                 |
    | missing condition    | `model`, `conditions`, `source`     |
    | missing languages    | `run`, `languages`                  |
    | missing items        | `run` and `counts` by language; or of all runs, `counts`, `totals` |
    | missing seeds        | `model`, `conditions`, `source`, `seeds` |
    | no double difference | `source` (the control), `problem`   |
    | no slope             | `predictor`, `units`, `problem`     |
    | missing sources      | `model`, `sources`                  |
    | lost sources         | `sources`, `problem`                |
    | sources not crossed  | `sources`, `problem`                |
    | no crossed design    | `sources`, `problem`                |
    """

    reason: OmissionReason
    cells: tuple[str, ...] = ()
    run: RunKey | None = None
    run_id: str = ""
    status: str = ""
    model: str = ""
    conditions: tuple[Condition, ...] = ()
    source: str = ""
    sources: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    totals: tuple[tuple[str, int], ...] = ()
    seeds: tuple[str, ...] = ()
    predictor: Predictor | None = None
    units: Units | None = None
    problem: str = ""
