"""What one condition changes against another, and whether the change follows kinship.

Works from tables of predictions alone: the same items, answered by one or several models in any two
conditions. Accuracies and gains are fractions here; text shows them in points (times 100).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from isogloss.analysis.adjusted_contrast import Adjustment, Covariates, adjustments
from isogloss.analysis.aligned_study import AlignedStudy, ComparisonSpec, language_groups
from isogloss.analysis.alignment import align
from isogloss.analysis.answer_positions import answer_positions
from isogloss.analysis.crossed import CrossedComparison, Overlaps, crossed_comparison
from isogloss.analysis.crossed_sensitivity import MIN_RELATED_BRANCHES
from isogloss.analysis.distance import DistanceTest, distance_test
from isogloss.analysis.double_difference import DoubleDifference, double_differences
from isogloss.analysis.family_correlation import FamilyCorrelation, family_correlation
from isogloss.analysis.gain_slopes import (
    GainAgreement,
    GainSlope,
    LevelContrast,
    ModelLevel,
    ability_slopes,
    baseline_slopes,
    gain_agreements,
    level_contrasts,
    model_levels,
)
from isogloss.analysis.gains import (
    ConditionGains,
    LanguageGain,
    condition_gains,
    models_label,
)
from isogloss.analysis.informative import InformativeContrast, informative_contrast
from isogloss.analysis.learning import Learning, learning, source_learning
from isogloss.analysis.missing_items import complete_items
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.placebo import PlaceboBranches, placebo_branches
from isogloss.analysis.relative_margin import (
    NO_MARGIN,
    RelativeMargin,
    margin_share,
    relative_margin,
)
from isogloss.analysis.score_matrix import RunKey
from isogloss.analysis.unit_permutations import UnitPermutations, unit_permutations
from isogloss.errors import ComparisonError
from isogloss.languages import source_branch, source_name
from isogloss.predictions.positions import OnePosition
from isogloss.stats.contrasts import Contrast
from isogloss.stats.paired import holm
from isogloss.stats.permutation import ALPHA
from isogloss.types import Condition, Measure, Missing, Reasoning, Verdict

FEWEST_BRANCHES = 3  # of sources in a crossed design; two can be matched in two ways only


@dataclass(frozen=True)
class QuickLook:
    """Runs of quick=true, which show what a study does and are no result.

    `steps` are those of training, `command` is the one without quick; None and empty if unknown.
    """

    steps: int | None = None
    command: str = ""


@dataclass(frozen=True)
class ConditionResult:
    """A condition against the reference: averaged over models (`overall`) and for each model.

    `holm_p` adjusts the permutation p of each model's accuracy contrast for the number of models.
    """

    overall: ConditionGains
    models: tuple[ConditionGains, ...]
    holm_p: tuple[float, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdict of each model's contrast, adjusted for the number of models (Holm).

        A model is equivalent if its 90% permutation interval lies within the margin and Holm's p
        of its two one-sided Welch tests is at most 0.05.
        """
        contrasts = [gains.contrasts[Measure.ACCURACY] for gains in self.models]
        tost_p = holm([1.0 if each.tost_p is None else each.tost_p for each in contrasts])
        return tuple(
            Verdict.INCONCLUSIVE
            if (equal_p if each.verdict == Verdict.EQUIVALENT else different_p) > ALPHA
            else each.verdict
            for each, different_p, equal_p in zip(contrasts, self.holm_p, tost_p, strict=True)
        )


@dataclass(frozen=True)
class Comparison:
    """Every number of a report on two conditions of some models on one task.

    `change` is what distinguishes the conditions, as it reads after "with". `conditions` holds
    every condition that was compared with `against`, `condition` first. `margin` is a fraction,
    that of `relative_margin` where it was a percentage of the mean gain. `crossed` is the effect of
    kinship over all sources, None with fewer than three branches of them. `chance` is the accuracy
    of guessing, None where items have no choices. `learning` is what was learnt on average,
    `model_learning` by each model and `source_learning` from each source of `crossed`, in its
    order and over its targets. `omissions` are runs, languages and analyses that are missing.
    `one_position` has the runs that answer with one position of the options, whatever the question.
    `quick` is None unless the runs are of quick=true.
    """

    change: str
    condition: Condition
    against: Condition
    source: str
    source_name: str
    branch: str
    task: str
    format: str
    margin: float
    relative_margin: RelativeMargin | None
    chance: float | None
    conditions: Mapping[Condition, ConditionResult]
    adjustments: tuple[Adjustment, ...]
    distance: DistanceTest | None
    double_differences: tuple[DoubleDifference, ...]
    crossed: CrossedComparison | None
    baseline_slopes: tuple[GainSlope, ...]
    ability_slopes: tuple[GainSlope, ...]
    gain_agreements: tuple[GainAgreement, ...]
    learning: Learning
    model_learning: tuple[Learning, ...]
    source_learning: tuple[Learning, ...]
    model_levels: tuple[ModelLevel, ...]
    level_contrasts: tuple[LevelContrast, ...]
    family_correlation: FamilyCorrelation
    placebo: PlaceboBranches
    unit_permutations: UnitPermutations
    informative: InformativeContrast
    omissions: tuple[Omission, ...]
    one_position: Mapping[RunKey, OnePosition]
    quick: QuickLook | None = None

    @property
    def overall(self) -> ConditionGains:
        """Gains of the compared condition, averaged over models."""
        return self.conditions[self.condition].overall

    @property
    def models(self) -> tuple[ConditionGains, ...]:
        """Gains of the compared condition for each model."""
        return self.conditions[self.condition].models

    @property
    def languages(self) -> tuple[LanguageGain, ...]:
        """Gains by language, averaged over models."""
        return self.overall.languages

    @property
    def other_sources(self) -> tuple[str, ...]:
        """The other sources that models were tuned on, with or without a double difference."""
        without = (
            omission.source
            for omission in self.omissions
            if omission.reason == OmissionReason.NO_DOUBLE_DIFFERENCE
        )
        return tuple(sorted({*(double.code for double in self.double_differences), *without}))

    @property
    def decisive(self) -> CrossedComparison | None:
        """The crossed comparison that decides on kinship; None with too few sources for it."""
        return self.crossed if self.crossed and self.crossed.tests_kinship else None

    @property
    def contrast(self) -> Contrast:
        """The single-source contrast; the verdict rests on it where the study is not crossed."""
        return self.overall.contrasts[Measure.ACCURACY]


def compare(
    tables: Mapping[RunKey, pd.DataFrame],
    *,
    source: str,
    margin: float | str = 0.03,
    branch: str | None = None,
    condition: Condition = Condition.TUNED,
    against: Condition = Condition.BASE,
    seed: int = 0,
    covariates: Covariates | None = None,
    omissions: Iterable[Omission] = (),
    shared_vocabulary: Overlaps | None = None,
    missing: Missing = Missing.REFUSE,
    quick: QuickLook | None = None,
) -> Comparison:
    """Compare two conditions from tables of predictions, one table per run.

    Each table has one row per (language, item_id), with the columns of predictions.parquet.
    `branch` defines the languages related to `source` (default: the source's own). `margin` is the
    equivalence margin: a fraction, or a percentage of the mean gain such as `20%` (see
    `relative_margin`). `seed` is that of Monte Carlo permutations. `covariates` are further values
    of languages, by name and code, that the contrast is adjusted for. Models without one of the two
    conditions are left out; `omissions` are those made before. `shared_vocabulary`, by source and
    language, is a covariate of the crossed design. `missing` says what becomes of items that some
    run lacks: refuse them, or drop them from all runs. `quick` says that the runs were cut down.

    Raises ComparisonError if the tables do not hold the same items of one task and format, or if
    there are fewer than two related or two control languages.
    """
    share = margin_share(margin)
    spec = ComparisonSpec(
        source,
        branch,
        Condition(condition),
        Condition(against),
        margin=float(margin) if share is None else NO_MARGIN,
        seed=seed,
    )
    complete, incomplete_models = _complete_models(tables, spec)
    missing_items: tuple[Omission, ...] = ()
    if missing is Missing.DROP:
        complete, missing_items = complete_items(complete)
    scores, missing_languages = align(complete)
    study = AlignedStudy(
        scores,
        models=tuple(dict.fromkeys(run.model for run in scores.runs)),
        groups=language_groups(scores.languages, spec),
        spec=spec,
    )
    relative = None if share is None else relative_margin(study, share)
    if relative is not None:
        study = replace(study, spec=replace(spec, margin=relative.value))
    differences, no_difference = double_differences(study)
    crossed, not_crossed = _crossed(study, shared_vocabulary)
    slopes, no_baseline_slope = baseline_slopes(study)
    agreements, no_cot_slope = gain_agreements(study)
    conditions = _condition_results(study)
    contrast = conditions[spec.condition].overall.contrasts[Measure.ACCURACY]
    return Comparison(
        change=change(spec.condition, spec.against, source),
        condition=spec.condition,
        against=spec.against,
        source=source,
        source_name=source_name(source),
        branch=branch or source_branch(source),
        task=scores.task,
        format=scores.format,
        margin=study.spec.margin,
        relative_margin=relative,
        chance=scores.chance,
        conditions=conditions,
        adjustments=adjustments(study, covariates),
        distance=distance_test(study),
        double_differences=differences,
        crossed=crossed,
        baseline_slopes=slopes,
        ability_slopes=ability_slopes(study) if slopes else (),
        gain_agreements=agreements,
        learning=learning(study, study.models, models_label(study.models)),
        model_learning=tuple(learning(study, [model], model) for model in study.models),
        source_learning=source_learning(study, crossed) if crossed else (),
        model_levels=model_levels(study),
        level_contrasts=level_contrasts(study),
        family_correlation=family_correlation(study, contrast),
        placebo=placebo_branches(study, contrast),
        unit_permutations=unit_permutations(study, contrast),
        informative=informative_contrast(study),
        omissions=(
            *omissions,
            *incomplete_models,
            *missing_items,
            *missing_languages,
            *_missing_seeds(study),
            *no_difference,
            *not_crossed,
            *no_baseline_slope,
            *no_cot_slope,
        ),
        one_position=answer_positions(complete),
        quick=quick,
    )


def change(condition: Condition, against: Condition, source: str) -> str:
    """What `condition` has and `against` has not, as it reads after "with"."""
    changes = []
    if condition.tuned != against.tuned:
        changes.append(f"{'' if condition.tuned else 'no '}fine-tuning on {source_name(source)}")
    if condition.reasoning != against.reasoning:
        cot = condition.reasoning == Reasoning.COT
        changes.append("chain of thought" if cot else "no chain of thought")
    return " and ".join(changes)


def _complete_models(
    tables: Mapping[RunKey, pd.DataFrame], spec: ComparisonSpec
) -> tuple[dict[RunKey, pd.DataFrame], list[Omission]]:
    """The tables of models that have both conditions, and the models that have not."""
    present = {(run.model, run.condition) for run in tables if run.source in ("", spec.source)}
    omissions = []
    for model in dict.fromkeys(run.model for run in tables):
        missing = tuple(
            condition
            for condition in (spec.against, spec.condition)
            if (model, condition) not in present
        )
        if missing:
            omissions.append(
                Omission(
                    OmissionReason.MISSING_CONDITION,
                    model=model,
                    conditions=missing,
                    source=spec.source,
                )
            )
    incomplete = {omission.model for omission in omissions}
    complete = {run: table for run, table in tables.items() if run.model not in incomplete}
    if not complete:
        listed = "; ".join(
            f"{omission.model} has no {' and no '.join(omission.conditions)} run"
            for omission in omissions
        )
        raise ComparisonError(
            f"no model has both {spec.against} and {spec.condition} runs"
            + (f" with source {spec.source}" if spec.condition.tuned or spec.against.tuned else "")
            + (f": {listed}." if listed else ".")
        )
    return complete, omissions


def _crossed(
    study: AlignedStudy, shared_vocabulary: Overlaps | None
) -> tuple[CrossedComparison | None, tuple[Omission, ...]]:
    """The crossed design; None with two branches, which have only the double difference."""
    crossed, omissions = crossed_comparison(study, shared_vocabulary=shared_vocabulary)
    if crossed is None or crossed.overall.n_branches >= FEWEST_BRANCHES:
        return crossed, omissions
    few = Omission(
        OmissionReason.NO_CROSSED_DESIGN,
        sources=tuple(source.code for source in crossed.sources),
        problem=f"a crossed section needs sources of at least {FEWEST_BRANCHES} branches, and a "
        f"verdict on kinship of {MIN_RELATED_BRANCHES}.",
    )
    return None, (*omissions, few)


def _missing_seeds(study: AlignedStudy) -> list[Omission]:
    """Models and sources that lack seeds which others have in the compared condition."""
    condition = study.spec.condition
    sources = sorted({run.source for run in study.scores.runs} - {""} | {study.spec.source})
    seeds = {
        (model, source): {
            run.seed
            for run in study.scores.runs
            if (run.model, run.condition, run.source) == (model, condition, source)
        }
        for model in study.models
        for source in sources
    }
    all_seeds = set().union(*seeds.values())
    return [
        Omission(
            OmissionReason.MISSING_SEEDS,
            model=model,
            conditions=(condition,),
            source=source,
            seeds=tuple(sorted(all_seeds - present)),
        )
        for (model, source), present in seeds.items()
        if present and all_seeds - present
    ]


def _condition_results(study: AlignedStudy) -> dict[Condition, ConditionResult]:
    """The compared condition and, where the reference is the base, every other condition."""
    spec = study.spec
    others = [condition for condition in Condition if condition != Condition.BASE]
    conditions = (spec.condition, *(others if spec.against == Condition.BASE else ()))
    results = {}
    for condition in dict.fromkeys(conditions):
        models = [model for model in study.models if study.runs_matching(model, condition)]
        if models:
            results[condition] = _condition_result(study, models, condition)
    return results


def _condition_result(
    study: AlignedStudy, models: list[str], condition: Condition
) -> ConditionResult:
    by_model = tuple(condition_gains(study, [model], condition) for model in models)
    overall = by_model[0] if len(models) == 1 else condition_gains(study, models, condition)
    p_values = [gains.contrasts[Measure.ACCURACY].permutation.p for gains in by_model]
    return ConditionResult(overall, by_model, tuple(map(float, holm(p_values))))
