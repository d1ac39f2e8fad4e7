"""Shared vocabulary: how much a source and a target have in common for a model's tokenizer.

It is computed where runs are compared, from the texts that were evaluated: predictions hold no
tokens. Shapes are suffixes: V vocabulary.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from mlflow.entities import Run
from pydantic import ValidationError

from isogloss import tracking
from isogloss.analysis.crossed import Overlaps
from isogloss.compat.interfaces import Tokenizer
from isogloss.config import EvaluateConfig
from isogloss.errors import DataError, IsoglossError, ModelError
from isogloss.languages import JOIN
from isogloss.models.locate import on_this_machine
from isogloss.models.tokenizers import load_tokenizer
from isogloss.stages.collect_runs import CollectedRuns
from isogloss.stages.task_data import configured_task, evaluation_data
from isogloss.tasks import Item, parallel_items
from isogloss.tracking import tag
from isogloss.types import FloatArray, LanguageCode

logger = logging.getLogger(__name__)


def shared_vocabulary(collected: CollectedRuns) -> Overlaps | None:
    """The overlap of each source with each language, in [0, 1], averaged over models.

    None with fewer than two sources, and where a tokenizer or the data are not on this machine or
    are no longer those that were evaluated; the log says which. Nothing is downloaded.
    """
    sources = sorted({key.source for key in collected.by_key} - {""})
    if len(sources) < 2:
        return None
    first_run: dict[str, Run] = {}
    for key, runs in collected.by_key.items():
        first_run.setdefault(key.model, runs[0])
    try:
        by_model = [_of_run(run, sources) for run in first_run.values()]
    except (IsoglossError, ValidationError) as error:
        logger.info(f"shared vocabulary is not adjusted for: {error}")
        return None
    common = set.intersection(*map(set, by_model))
    return {
        pair: float(np.mean([overlaps[pair] for overlaps in by_model])) for pair in sorted(common)
    }


def vocabulary_overlaps(
    tokenizer: Tokenizer,
    texts: Mapping[LanguageCode, Sequence[str]],
    sources: Iterable[LanguageCode],
) -> dict[tuple[LanguageCode, LanguageCode], float]:
    """The overlap of the tokens of each source, which may be pooled, with each language of `texts`.

    It is the sum over tokens of the smaller of two relative frequencies: one minus their total
    variation distance, so rare tokens count little and the amount of text hardly matters.
    """
    share_of = {code: _shares(tokenizer, rows) for code, rows in texts.items()}
    overlaps = {}
    for source in sources:
        source_V = np.mean([share_of[code] for code in source.split(JOIN)], axis=0)
        for code, share_V in share_of.items():
            overlaps[source, code] = float(np.minimum(source_V, share_V).sum())
    return overlaps


def _shares(tokenizer: Tokenizer, texts: Sequence[str]) -> FloatArray:
    """Relative frequencies of tokens, [V]."""
    encoded = tokenizer(list(texts), add_special_tokens=False).input_ids
    counts_V = np.bincount(np.concatenate(encoded).astype(np.intp), minlength=len(tokenizer))
    shares_V: FloatArray = counts_V / max(1, counts_V.sum())
    return shares_V


def _of_run(run: Run, sources: Sequence[str]) -> dict[tuple[str, str], float]:
    """Overlaps by the tokenizer and the items of one evaluate run."""
    values = {
        name: value
        for name, value in run.data.params.items()
        if name in EvaluateConfig.model_fields
    }
    config = EvaluateConfig.model_validate(values)
    location = on_this_machine(config.model)
    if location is None or location.revision != tag(run, "revision"):
        raise ModelError(f"model {config.model!r} of that revision is not on this machine.")
    texts = _texts(config, run, {code for source in sources for code in source.split(JOIN)})
    return vocabulary_overlaps(load_tokenizer(location), texts, sources)


def _texts(config: EvaluateConfig, run: Run, sources: set[str]) -> dict[str, list[str]]:
    """The texts of each evaluated language and of the sources."""
    task, shown = evaluation_data(config)
    evaluated = [item for rows in shown.values() for item in rows]
    if tracking.data_digest(evaluated) != tag(run, "data_digest"):
        raise DataError(f"the data of task {task.name!r} are not those of run {run.info.run_id}.")
    by_language = parallel_items(
        configured_task(config), sorted({*shown, *sources}), config.split, config.limit
    )

    def text(item: Item) -> str:
        # A task's own questions and options are the same English words in every language.
        own = () if task.own_texts else (item.question, *item.options)
        return "\n".join(filter(None, (item.passage, *own)))

    return {code: [text(item) for item in rows] for code, rows in by_language.items()}
