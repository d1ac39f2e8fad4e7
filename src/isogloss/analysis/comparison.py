"""What conditions changed, and whether it follows kinship with the source language.

Works from tables of predictions alone: the same items, answered by one or several models without
and with an adapter (or in any two conditions). Accuracies and gains are fractions here; text shows
them in points (times 100). Shapes are suffixes: K runs, L languages, T languages in a contrast, P
passages.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from isogloss.analysis.adjusted_contrast import Adjustment, adjustments
from isogloss.analysis.distance import DistanceTest, distance_test
from isogloss.analysis.double_difference import DoubleDifference, double_differences
from isogloss.analysis.gain_slopes import (
    GainAgreement,
    GainSlope,
    baseline_slopes,
    gain_agreements,
)
from isogloss.analysis.gains import (
    ComparisonSpec,
    ConditionGains,
    LanguageGain,
    condition_gains,
    language_groups,
    runs_matching,
)
from isogloss.analysis.score_matrix import RunKey, Scores, align
from isogloss.errors import ComparisonError
from isogloss.languages import language
from isogloss.stats.contrasts import Contrast
from isogloss.stats.paired import holm
from isogloss.types import Group


@dataclass(frozen=True)
class ConditionResult:
    """A condition against another: over all models (`overall`) and for each.

    `holm_p` adjusts the permutation p of each model's accuracy contrast for the number of models.
    """

    overall: ConditionGains
    models: tuple[ConditionGains, ...]
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
    conditions: Mapping[str, ConditionResult]
    adjustments: tuple[Adjustment, ...]
    distance: DistanceTest | None
    double_differences: tuple[DoubleDifference, ...]
    baseline_slopes: tuple[GainSlope, ...]
    gain_agreements: tuple[GainAgreement, ...]
    left_out: tuple[str, ...]

    @property
    def overall(self) -> ConditionGains:
        """The judged condition of the only model, or on average over models."""
        return self.conditions[self.condition].overall

    @property
    def models(self) -> tuple[ConditionGains, ...]:
        """The judged condition of each model."""
        return self.conditions[self.condition].models

    @property
    def languages(self) -> tuple[LanguageGain, ...]:
        """Gains by language, on average over models."""
        return self.overall.languages

    @property
    def contrast(self) -> Contrast:
        """The contrast that the verdict rests on."""
        return self.overall.contrasts["accuracy"]


def compare(
    tables: Mapping[RunKey, pd.DataFrame],
    *,
    source: str,
    margin: float = 0.03,
    branch: str | None = None,
    condition: str = "tuned",
    against: str = "base",
    seed: int = 0,
    left_out: Iterable[str] = (),
) -> Comparison:
    """Compare conditions from tables of predictions, one for each run.

    Each table has one row for each (language, item_id), with the columns of predictions.parquet.
    `source` is the language tuned on, `branch` what counts as its kin (its own branch by default),
    `margin` the equivalence margin as a fraction, `seed` that of Monte Carlo relabelling. Models
    without one of the two conditions are left out and named, after what is `left_out` already.
    ComparisonError if the tables do not hold the same items of one task and format, or if there are
    fewer than two related or two control languages.
    """
    spec = ComparisonSpec(source, branch, condition, against, margin, seed)
    used, lacking = _used(tables, spec)
    scores, missing = align(used)
    left_out = [*left_out, *lacking]
    left_out += [f"Languages left out, since these runs lack them: {line}." for line in missing]
    groups = language_groups(scores.languages, spec)
    models = list(dict.fromkeys(run.model for run in scores.runs))
    left_out += _lacking_seeds(scores, models, condition, source)
    others = ("tuned", "base+cot", "tuned+cot") if against == "base" else ()
    conditions = {}
    for name in dict.fromkeys((condition, *others)):
        having = [model for model in models if runs_matching(scores, model, name, source)]
        if having:
            conditions[name] = _condition_result(scores, having, groups, spec, name)
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
        adjustments=adjustments(scores, models, groups, spec),
        distance=distance_test(scores, models, groups, spec),
        double_differences=double_differences(scores, models, spec, left_out),
        baseline_slopes=baseline_slopes(scores, models, groups, spec, left_out),
        gain_agreements=gain_agreements(scores, models, groups, spec, left_out),
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
    tables: Mapping[RunKey, pd.DataFrame], spec: ComparisonSpec
) -> tuple[dict[RunKey, pd.DataFrame], list[str]]:
    """The tables of models that have both conditions, and what is left out."""
    condition, against, source = spec.condition, spec.against, spec.source
    here = {(run.model, run.condition) for run in tables if run.source in ("", source)}
    models = dict.fromkeys(run.model for run in tables)
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
    return {run: table for run, table in tables.items() if run.model in whole}, left_out


def _lacking_seeds(scores: Scores, models: Sequence[str], condition: str, source: str) -> list[str]:
    """A sentence for each model and source that lacks seeds which others have."""
    seeds = {
        (model, code): {
            run.seed
            for run in scores.runs
            if (run.model, run.condition, run.source) == (model, condition, code)
        }
        for model in models
        for code in sorted({run.source for run in scores.runs} - {""} | {source})
    }
    everywhere = set().union(*seeds.values())
    return [
        f"Model {model} has no {condition} run on {code} of seed {', '.join(sorted(lacking))}."
        for (model, code), found in seeds.items()
        if found and (lacking := everywhere - found)
    ]


def _condition_result(
    scores: Scores,
    models: Sequence[str],
    groups: Sequence[Group],
    spec: ComparisonSpec,
    condition: str,
) -> ConditionResult:
    each = tuple(condition_gains(scores, [model], groups, spec, condition) for model in models)
    overall = (
        each[0] if len(each) == 1 else condition_gains(scores, models, groups, spec, condition)
    )
    adjusted = holm([one.contrasts["accuracy"].permutation.p for one in each])
    return ConditionResult(overall, each, tuple(map(float, adjusted)))
