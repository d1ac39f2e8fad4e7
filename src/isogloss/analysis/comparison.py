"""What conditions changed, and whether it follows kinship with the source language.

Works from tables of predictions alone: the same items, answered by one or several models without
and with an adapter (or in any two conditions). Accuracies and gains are fractions here; text shows
them in points (times 100). Shapes are suffixes: K cells, L languages, T languages in a contrast, P
passages.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from isogloss.analysis.gains import Gains, LanguageGain, Question, cells_of, gains, groups_of
from isogloss.analysis.robustness import (
    Adjustment,
    ControlSource,
    DistanceTest,
    Relation,
    Together,
    adjustments,
    control_sources,
    distance_test,
    together,
    weak_baselines,
)
from isogloss.analysis.score_matrix import Cell, Scores, align
from isogloss.errors import ComparisonError
from isogloss.languages import language
from isogloss.stats.contrasts import Contrast
from isogloss.stats.paired import holm
from isogloss.types import Group


@dataclass(frozen=True)
class Judged:
    """A condition against another: over all models (`overall`) and for each.

    `holm_p` adjusts the permutation p of each model's accuracy contrast for the number of models.
    """

    overall: Gains
    models: tuple[Gains, ...]
    holm_p: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything a report says of two conditions of some models on one task.

    `chance` is the accuracy of guessing, None where items have no choices. `change` is what the two
    conditions differ in, as it stands after "with". `conditions` holds every condition that was
    held against the same one, the judged one first. `left_out` names runs, languages and analyses
    that are missing, a sentence each.
    """

    change: str
    condition: str
    against: str
    source: str
    source_name: str
    branch: str
    task: str
    format: str
    margin: float
    chance: float | None
    conditions: Mapping[str, Judged]
    adjustments: tuple[Adjustment, ...]
    distance: DistanceTest | None
    control_sources: tuple[ControlSource, ...]
    weak_baselines: tuple[Relation, ...]
    together: tuple[Together, ...]
    left_out: tuple[str, ...]

    @property
    def overall(self) -> Gains:
        """The judged condition of the only model, or on average over models."""
        return self.conditions[self.condition].overall

    @property
    def models(self) -> tuple[Gains, ...]:
        """The judged condition of each model."""
        return self.conditions[self.condition].models

    @property
    def languages(self) -> tuple[LanguageGain, ...]:
        """Gains by language, on average over models."""
        return self.overall.languages

    @property
    def accuracy(self) -> Contrast:
        """The contrast that the verdict rests on."""
        return self.overall.contrasts["accuracy"]


def compare(
    tables: Mapping[Cell, pd.DataFrame],
    *,
    source: str,
    margin: float = 0.03,
    branch: str | None = None,
    condition: str = "tuned",
    against: str = "base",
    seed: int = 0,
    left_out: Iterable[str] = (),
) -> Comparison:
    """Compare conditions from tables of predictions, one for each cell.

    Each table has one row for each (language, item_id), with the columns of predictions.parquet.
    `source` is the language tuned on, `branch` what counts as its kin (its own branch by default),
    `margin` the equivalence margin as a fraction, `seed` that of Monte Carlo relabelling. Models
    without one of the two conditions are left out and named, after what is `left_out` already.
    ComparisonError if the tables do not hold the same items of one task and format, or if there are
    fewer than two related or two control languages.
    """
    question = Question(source, branch, condition, against, margin, seed)
    used, lacking = _used(tables, question)
    scores, missing = align(used)
    left_out = [*left_out, *lacking]
    left_out += [f"Languages left out, since these runs lack them: {line}." for line in missing]
    groups = groups_of(scores.languages, question)
    models = list(dict.fromkeys(cell.model for cell in scores.cells))
    left_out += _lacking_seeds(scores, models, condition, source)
    others = ("tuned", "base+cot", "tuned+cot") if against == "base" else ()
    conditions = {}
    for name in dict.fromkeys((condition, *others)):
        having = [model for model in models if cells_of(scores, model, name, source)]
        if having:
            conditions[name] = _judged(scores, having, groups, question, name)
    return Comparison(
        change=change(condition, against, source),
        condition=condition,
        against=against,
        source=source,
        source_name=language(source).name,
        branch=branch or language(source).branch,
        task=scores.task,
        format=scores.format,
        margin=margin,
        chance=scores.chance,
        conditions=conditions,
        adjustments=adjustments(scores, models, groups, question),
        distance=distance_test(scores, models, groups, question),
        control_sources=control_sources(scores, models, question, left_out),
        weak_baselines=weak_baselines(scores, models, groups, question, left_out),
        together=together(scores, models, groups, question, left_out),
        left_out=tuple(left_out),
    )


def change(condition: str, against: str, source: str) -> str:
    """What the one condition has that the other has not, as it stands after "with"."""
    changes = []
    tuned, before = (name.startswith("tuned") for name in (condition, against))
    if tuned != before:
        changes.append(f"{'' if tuned else 'no '}fine-tuning on {language(source).name}")
    thinks, thought = (name.endswith("+cot") for name in (condition, against))
    if thinks != thought:
        changes.append("chain of thought" if thinks else "no chain of thought")
    return " and ".join(changes)


def _used(
    tables: Mapping[Cell, pd.DataFrame], question: Question
) -> tuple[dict[Cell, pd.DataFrame], list[str]]:
    """The tables of models that have both conditions, and what is left out."""
    condition, against, source = question.condition, question.against, question.source
    here = {(cell.model, cell.condition) for cell in tables if cell.source in ("", source)}
    models = dict.fromkeys(cell.model for cell in tables)
    whole, left_out = [], []
    for model in models:
        lacking = [name for name in (against, condition) if (model, name) not in here]
        if not lacking:
            whole.append(model)
            continue
        tuned = f" with source {source}" if any("tuned" in name for name in lacking) else ""
        left_out.append(
            f"Model {model} is left out: it has no {' and no '.join(lacking)} run{tuned}."
        )
    if not whole:
        raise ComparisonError(
            f"no model has both {against} and {condition} runs. {' '.join(left_out)}".strip()
        )
    return {cell: table for cell, table in tables.items() if cell.model in whole}, left_out


def _lacking_seeds(scores: Scores, models: Sequence[str], condition: str, source: str) -> list[str]:
    """A sentence for each model and source that lacks seeds which others have."""
    seeds = {
        (model, code): {
            cell.seed
            for cell in scores.cells
            if (cell.model, cell.condition, cell.source) == (model, condition, code)
        }
        for model in models
        for code in sorted({cell.source for cell in scores.cells} - {""} | {source})
    }
    everywhere = set().union(*seeds.values())
    return [
        f"Model {model} has no {condition} run on {code} of seed {', '.join(sorted(lacking))}."
        for (model, code), found in seeds.items()
        if found and (lacking := everywhere - found)
    ]


def _judged(
    scores: Scores,
    models: Sequence[str],
    groups: Sequence[Group],
    question: Question,
    condition: str,
) -> Judged:
    each = tuple(gains(scores, [model], groups, question, condition) for model in models)
    overall = each[0] if len(each) == 1 else gains(scores, models, groups, question, condition)
    adjusted = holm([one.contrasts["accuracy"].permutation.p for one in each])
    return Judged(overall, each, tuple(map(float, adjusted)))
