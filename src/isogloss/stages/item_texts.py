"""The texts of compared items, from the data that the evaluate runs were made with.

Runs keep ids and answers alone: texts have licences of their own. So they are read where the report
is made, and only if they are still the ones that were evaluated.
"""

import logging
from collections.abc import Sequence

from mlflow.entities import Run
from pydantic import ValidationError

from isogloss.config import EvaluateConfig
from isogloss.errors import DataError, IsoglossError
from isogloss.report.items import ItemTexts
from isogloss.stages.task_data import evaluation_data
from isogloss.tasks import Item
from isogloss.tasks.hub import cached_only
from isogloss.tracking import data_digest, tag
from isogloss.tracking.comparability import LANGUAGE_DIGEST_LENGTH, language_digests
from isogloss.types import LanguageCode

logger = logging.getLogger(__name__)

IMPORTED = "imported results have no texts."
# Parameters that decide which items are shown, and how.
PARAMETERS = (
    *("task", "data_dir", "test_items", "share_passages", "source", "languages", "split", "limit"),
    *("prompt_language", "shuffle_options", "seed", "format", "labels", "reasoning"),
)
CHANGED = "the data of task {task} are no longer those that were evaluated."


def item_texts(runs: Sequence[Run]) -> ItemTexts:
    """The items of each language of evaluate runs, as the model saw them.

    Nothing is downloaded. Languages whose data are not on this machine, or are no longer those that
    were evaluated, are left out, and the log says why.
    """
    wanted = {code: digest for run in runs for code, digest in language_digests(run).items()}
    texts: dict[LanguageCode, dict[str, Item]] = {}
    problem = ""
    for run in runs:
        if set(language_digests(run)) <= set(texts):
            continue
        try:
            shown = _shown(run)
        except (IsoglossError, ValidationError) as error:
            problem = problem or _reason(error)
            continue
        for code, items in shown.items():
            if data_digest(items)[:LANGUAGE_DIGEST_LENGTH] == wanted.get(code):
                texts[code] = {item.item_id: item for item in items}
            else:
                problem = problem or CHANGED.format(task=tag(run, "task"))
    if not wanted:
        problem = problem or IMPORTED
    if wanted and set(wanted) <= set(texts):
        return ItemTexts(texts)
    logger.info(f"the report has no texts of some items: {problem}")
    return ItemTexts(texts, problem)


def _reason(error: Exception) -> str:
    """An error of ours as it is; what pydantic says of a parameter is for whoever set it."""
    if isinstance(error, IsoglossError):
        return str(error)
    return "the parameters of the runs are not those of this version of isogloss."


def _shown(run: Run) -> dict[LanguageCode, list[Item]]:
    """The items of a run by language; DataError if it was imported."""
    if tag(run, "imported"):
        raise DataError(IMPORTED)
    values = {name: value for name, value in run.data.params.items() if name in PARAMETERS}
    with cached_only():
        _, shown = evaluation_data(EvaluateConfig.model_validate(values))
    return shown
