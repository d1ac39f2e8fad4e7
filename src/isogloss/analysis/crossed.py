"""The crossed design: does a target gain more from a related source than from other sources?

Works from aligned scores of several sources on the same targets. Gains are fractions. Shapes are
suffixes: S sources, T targets.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.crossed_sensitivity import (
    EffectWithout,
    effects_on_measures,
    effects_without,
    verdict_on_kinship,
)
from isogloss.analysis.crossed_targets import CrossedCell, CrossedTargets
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.errors import ComparisonError
from isogloss.languages import (
    is_mixed,
    language,
    source_branch,
    source_distance,
    source_kilometres,
    source_languages,
    source_name,
)
from isogloss.stats.crossed import CrossedEffect, crossed_effect
from isogloss.stats.paired import holm
from isogloss.stats.source_effects import SourceEffect
from isogloss.types import Condition, FloatArray, Measure, Verdict

NEAREST = 100.0  # km; the points that stand for languages say nothing about shorter distances

MIXED = "pooled from languages of several branches, so it counts as none of them."
UNSHARED = "not shared by all models of the average."

Overlaps = Mapping[tuple[str, str], float]  # by source and target language


class DyadicCovariate(StrEnum):
    """What a source and a target can share beside kinship."""

    SCRIPT = "same script"
    GEOGRAPHY = "geographic distance"
    VOCABULARY = "shared vocabulary"


@dataclass(frozen=True)
class CrossedSource:
    """A source, its relatives among the targets, and its own effect against those of the others.

    `effect` is None for a source without relatives, and where fewer than three branches have them.
    """

    code: str
    name: str
    branch: str
    relatives: tuple[str, ...]
    effect: SourceEffect | None


@dataclass(frozen=True)
class CrossedModel:
    """The effect of kinship for one model; `holm_p` is adjusted for the number of models."""

    model: str
    effect: CrossedEffect
    holm_p: float
    cells: tuple[CrossedCell, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that the model was tuned on."""
        return tuple(dict.fromkeys(cell.source for cell in self.cells))


@dataclass(frozen=True)
class CrossedAdjustment:
    """The effect of kinship with covariates held equal.

    Where it cannot be estimated, `effect` is None and `problem` says why.
    """

    covariates: tuple[DyadicCovariate, ...]
    effect: CrossedEffect | None
    problem: str = ""


@dataclass(frozen=True)
class CrossedComparison:
    """Every number of a crossed design.

    `overall`, the primary analysis, is of gains averaged over seeds and over `averaged_models`.
    `graded` replaces kinship by one minus the genealogical distance, so it is the difference
    between a language of another family and the source itself. `ability` is the effect on a scale
    of ability, in logits (`stats.item_response`). Both have no margin. `adjustments` has
    each covariate alone and then all that can be adjusted for. `without` leaves out each branch of
    sources in turn. `measures` are log-odds of accuracy and, where recorded, the log-probability of
    the answer. `targets` are languages; varieties of one count once. `left_out` are the targets
    that are a source or a variety of one. `fewest_seeds` is the number of adapters of the model and
    source that have the fewest.
    """

    sources: tuple[CrossedSource, ...]
    targets: tuple[str, ...]
    left_out: tuple[str, ...]
    averaged_models: tuple[str, ...]
    fewest_seeds: int
    overall: CrossedEffect
    models: tuple[CrossedModel, ...]
    graded: CrossedEffect | None
    ability: CrossedEffect | None
    adjustments: tuple[CrossedAdjustment, ...]
    without: tuple[EffectWithout, ...]
    measures: Mapping[Measure, CrossedEffect]
    cells: tuple[CrossedCell, ...]
    omissions: tuple[Omission, ...]

    @property
    def tests_kinship(self) -> bool:
        """Whether sources of at least four branches have relatives and p can be 0.05 or less."""
        return self.verdict is not None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on kinship; None with too few sources for one."""
        return verdict_on_kinship(self.overall)


def crossed_comparison(
    study: AlignedStudy, *, shared_vocabulary: Overlaps | None = None
) -> tuple[CrossedComparison | None, tuple[Omission, ...]]:
    """The crossed design of a study; None, with the reason, where it has none.

    Sources are those that models were tuned on. A target that is a source, or a variety of one, is
    left out for every source: without its own cell it tells nothing about kinship, and with all
    cells there the test of matchings is exact. A source pooled from languages of several branches
    is left out: it is no independent branch. `_averaged` chooses the models that are averaged and
    the sources that all of them have. `shared_vocabulary` is a covariate if it has every source and
    target.
    """
    by_model = {model: _sources(study, model) for model in study.models}
    every_source = tuple(dict.fromkeys(code for codes in by_model.values() for code in codes))
    mixed = _mixed(study)
    if len(every_source) + len(mixed) < 2:
        return None, tuple(_incomplete(study, every_source))
    omissions = _incomplete(study, every_source)
    if mixed:
        omissions.append(Omission(OmissionReason.SOURCES_NOT_CROSSED, sources=mixed, problem=MIXED))
    if len(every_source) < 2:
        return None, tuple(omissions)
    models, sources = _averaged(by_model)
    if len({source_branch(code) for code in sources}) > 1:
        omissions += [
            Omission(OmissionReason.MISSING_SOURCES, model=model, sources=missing)
            for model, codes in by_model.items()
            if (missing := tuple(code for code in sources if code not in codes))
        ]
        if unshared := tuple(code for code in every_source if code not in sources):
            omissions.append(
                Omission(OmissionReason.SOURCES_NOT_CROSSED, sources=unshared, problem=UNSHARED)
            )
    try:
        comparison = _comparison(study, models, sources, shared_vocabulary, tuple(omissions))
    except ComparisonError as error:
        omissions.append(
            Omission(OmissionReason.NO_CROSSED_DESIGN, sources=sources, problem=str(error))
        )
        return None, tuple(omissions)
    return comparison, tuple(omissions)


def _averaged(by_model: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The models that are averaged, and the sources that each of them was tuned on.

    Those with all sources; without such models, those that share sources of the most branches,
    then the most models, then the most sources, then those that come first. With one branch of
    sources for every model there is no design, and the sources are those that all models share.
    """
    every_source = tuple(dict.fromkeys(code for codes in by_model.values() for code in codes))
    shared_sets: dict[frozenset[str], None] = {}
    for own in map(frozenset, by_model.values()):
        shared_sets |= dict.fromkeys([own, *(own & other for other in shared_sets)])
    choices = [
        (
            tuple(model for model, codes in by_model.items() if shared <= set(codes)),
            tuple(code for code in every_source if code in shared),
        )
        for shared in shared_sets
    ]

    def rank(choice: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[int, ...]:
        models, sources = choice
        n_branches = len({source_branch(code) for code in sources})
        complete = len(sources) == len(every_source)
        return int(complete), n_branches, len(models), len(sources)

    return max(choices, key=rank)


def _comparison(
    study: AlignedStudy,
    models: Sequence[str],
    sources: tuple[str, ...],
    shared_vocabulary: Overlaps | None,
    omissions: tuple[Omission, ...],
) -> CrossedComparison:
    targets = CrossedTargets.of(study, sources)
    gains = targets.gains_by_measure(study, models, sources)
    gain_ST = gains[Measure.ACCURACY]
    kin_ST = targets.kinship(study, sources)
    branches = [source_branch(code) for code in sources]
    margin, seed = study.spec.margin, study.spec.seed
    overall = crossed_effect(gain_ST, kin_ST, branches, margin, seed=seed)
    graded_ST = 1 - targets.dyads(sources, source_distance)
    effect_of = {effect.source: effect for effect in overall.by_source}
    return CrossedComparison(
        sources=tuple(
            CrossedSource(
                code,
                source_name(code),
                branches[place],
                tuple(np.array(targets.codes)[kin_ST[place] > 0].tolist()),
                effect_of.get(place),
            )
            for place, code in enumerate(sources)
        ),
        targets=targets.codes,
        left_out=targets.left_out,
        averaged_models=tuple(models),
        fewest_seeds=min(
            len(study.runs_matching(model, study.spec.condition, source))
            for model in models
            for source in sources
        ),
        overall=overall,
        models=_by_model(study),
        graded=_effect(gain_ST, graded_ST, branches, seed),
        ability=_effect(
            targets.gains(study, models, sources, study.scores.abilities.ability),
            kin_ST,
            branches,
            seed,
        ),
        adjustments=_adjustments(
            gain_ST,
            kin_ST,
            branches,
            margin,
            seed,
            _covariates(targets, sources, shared_vocabulary),
        ),
        without=effects_without(gain_ST, kin_ST, sources, branches, margin, seed),
        measures=effects_on_measures(gains, kin_ST, branches, seed),
        cells=targets.cells(sources, gain_ST, kin_ST),
        omissions=omissions,
    )


def _sources(study: AlignedStudy, model: str) -> tuple[str, ...]:
    """Sources of one branch for which a model has both conditions, that of the spec first."""
    tuned = [
        condition for condition in (study.spec.condition, study.spec.against) if condition.tuned
    ]
    if not tuned:
        return ()

    def has(condition: Condition, source: str) -> bool:
        return any(
            (run.model, run.condition, run.source) == (model, condition, source)
            for run in study.scores.runs
        )

    codes = sorted({run.source for run in study.scores.runs} - {""})
    codes.sort(key=lambda code: code != study.spec.source)
    return tuple(
        code
        for code in codes
        if not is_mixed(code) and all(has(condition, code) for condition in tuned)
    )


def _incomplete(study: AlignedStudy, complete: Sequence[str]) -> list[Omission]:
    """Sources of one branch of which no model has both conditions."""
    tuned = {study.spec.condition, study.spec.against} - {Condition.BASE, Condition.BASE_COT}
    codes = {run.source for run in study.scores.runs} - {"", *complete}
    lacking: dict[str, list[str]] = {}
    for code in sorted(codes):
        present = {run.condition for run in study.scores.runs if run.source == code}
        if tuned and not is_mixed(code):
            missing = sorted(tuned - present) or sorted(tuned)
            lacking.setdefault(" and no ".join(missing), []).append(code)
    return [
        Omission(OmissionReason.LOST_SOURCES, sources=tuple(own), problem=f"no {conditions} run.")
        for conditions, own in lacking.items()
    ]


def _mixed(study: AlignedStudy) -> tuple[str, ...]:
    """Sources that are pooled from languages of several branches."""
    return tuple(
        sorted(
            {
                run.source
                for run in study.scores.runs
                if run.condition == study.spec.condition and run.source and is_mixed(run.source)
            }
        )
    )


def _by_model(study: AlignedStudy) -> tuple[CrossedModel, ...]:
    """The effect of each model that has a crossed design."""
    effects: dict[str, tuple[tuple[CrossedCell, ...], CrossedEffect]] = {}
    for model in study.models:
        sources = _sources(study, model)
        branches = [source_branch(code) for code in sources]
        if len(set(branches)) < 2:
            continue
        targets = CrossedTargets.of(study, sources)
        gain_ST = targets.gains(study, [model], sources)
        kin_ST = targets.kinship(study, sources)
        effect = _effect(gain_ST, kin_ST, branches, study.spec.seed, study.spec.margin)
        if effect is not None:
            effects[model] = targets.cells(sources, gain_ST, kin_ST), effect
    adjusted = holm([effect.p for _, effect in effects.values()])
    return tuple(
        CrossedModel(model, effect, float(holm_p), cells)
        for (model, (cells, effect)), holm_p in zip(effects.items(), adjusted, strict=True)
    )


def _effect(
    gain_ST: FloatArray,
    kin_ST: FloatArray,
    branches: Sequence[str],
    seed: int,
    margin: float | None = None,
) -> CrossedEffect | None:
    """The effect of kinship, or None where it cannot be estimated."""
    try:
        return crossed_effect(gain_ST, kin_ST, branches, margin, seed=seed)
    except ComparisonError:
        return None


def _covariates(
    targets: CrossedTargets, sources: Sequence[str], shared_vocabulary: Overlaps | None
) -> dict[DyadicCovariate, FloatArray]:
    """Values of each covariate, [S, T]: an indicator, the logarithm of kilometres, a share."""

    def same_script(source: str, code: str) -> bool:
        return language(code).script in {row.script for row in source_languages(source)}

    values = {
        DyadicCovariate.SCRIPT: targets.dyads(sources, same_script),
        DyadicCovariate.GEOGRAPHY: targets.dyads(
            sources,
            lambda source, code: math.log(max(source_kilometres(source, code), NEAREST)),
        ),
    }
    if shared_vocabulary is not None:
        overlap_ST = targets.dyads(
            sources, lambda source, code: shared_vocabulary.get((source, code), math.nan)
        )
        if np.isfinite(overlap_ST).all():
            values[DyadicCovariate.VOCABULARY] = overlap_ST
    return values


def _adjustments(
    gain_ST: FloatArray,
    kin_ST: FloatArray,
    branches: Sequence[str],
    margin: float,
    seed: int,
    values: Mapping[DyadicCovariate, FloatArray],
) -> tuple[CrossedAdjustment, ...]:
    """The effect with each covariate held equal, then with all that can be adjusted for."""

    def adjust(covariates: tuple[DyadicCovariate, ...]) -> CrossedAdjustment:
        held = {covariate.value: values[covariate] for covariate in covariates}
        try:
            return CrossedAdjustment(
                covariates,
                crossed_effect(gain_ST, kin_ST, branches, margin, covariates=held, seed=seed),
            )
        except ComparisonError as error:
            return CrossedAdjustment(covariates, None, str(error))

    results = [adjust((covariate,)) for covariate in values]
    usable = tuple(result.covariates[0] for result in results if result.effect is not None)
    if len(usable) > 1:
        results.append(adjust(usable))
    return tuple(results)
