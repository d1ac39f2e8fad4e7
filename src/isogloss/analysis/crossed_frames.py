"""The numbers of a crossed design as DataFrames (crossed.csv, crossed_effects.csv) and metrics."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from isogloss.analysis.crossed import CrossedComparison
from isogloss.analysis.crossed_targets import CrossedCell
from isogloss.analysis.gains import models_label
from isogloss.languages import (
    JOIN,
    language,
    source_branch,
    source_distance,
    source_kilometres,
    source_languages,
)
from isogloss.stats.crossed import CrossedEffect
from isogloss.types import FloatArray

BEYOND = "gain_beyond_average"


def crossed_cells_frame(crossed: CrossedComparison) -> pd.DataFrame:
    """One row per model, source and target; first the mean of several. Fractions.

    `gain_beyond_average` is the gain without what the source gives to all targets and what the
    target gains from all sources, as fitted beside the effect of kinship.
    """
    effects = [(models_label(crossed.averaged_models), crossed.cells, crossed.overall)]
    effects += [
        (model.model, model.cells, model.effect)
        for model in crossed.models
        if (model.model,) != crossed.averaged_models
    ]
    return pd.concat([_cells(*effect) for effect in effects], ignore_index=True)


def _cells(model: str, cells: Sequence[CrossedCell], effect: CrossedEffect) -> pd.DataFrame:
    frame = pd.DataFrame(
        [
            {
                "model": model,
                "source": cell.source,
                "source_branch": source_branch(cell.source),
                "target": cell.target,
                "target_branch": language(cell.target).branch,
                "related": cell.related,
                "gain": cell.gain,
                "genealogical_distance": source_distance(cell.source, cell.target),
                "same_script": language(cell.target).script
                in {row.script for row in source_languages(cell.source)},
                "kilometres": source_kilometres(cell.source, cell.target),
            }
            for cell in cells
        ]
    )
    rest = frame["gain"] - effect.estimate * frame["related"]
    effects_NP = np.column_stack(
        [pd.get_dummies(frame[name]).to_numpy(float) for name in ("source", "target")]
    )
    fit: FloatArray = np.linalg.lstsq(effects_NP, rest.to_numpy(), rcond=None)[0]
    frame[BEYOND] = frame["gain"] - effects_NP @ fit
    return frame


def crossed_effects_frame(crossed: CrossedComparison) -> pd.DataFrame:
    """One row per estimate: overall, graded, in ability, without each source, by source and so on.

    Fractions, of ability and log-odds logits, of log-probability nats.
    """
    return pd.DataFrame([*_effect_rows(crossed), *_source_rows(crossed)])


def _effect_rows(crossed: CrossedComparison) -> Iterator[dict[str, object]]:
    model = models_label(crossed.averaged_models)
    yield {"analysis": "kinship", "model": model, **_effect(crossed.overall)}
    if crossed.graded is not None:
        yield {"analysis": "degree of kinship", "model": model, **_effect(crossed.graded)}
    if crossed.ability is not None:
        yield {"analysis": "kinship in ability", "model": model, **_effect(crossed.ability)}
    for each in crossed.models:
        yield {
            "analysis": "kinship by model",
            "model": each.model,
            **_effect(each.effect),
            "holm_p": each.holm_p,
        }
    for adjustment in crossed.adjustments:
        yield {
            "analysis": "kinship at equal covariates",
            "model": model,
            "covariates": "; ".join(adjustment.covariates),
            **(_effect(adjustment.effect) if adjustment.effect else {}),
            "problem": adjustment.problem,
        }
    for each_without in crossed.without:
        yield {
            "analysis": "kinship without a source",
            "model": model,
            "left_out": JOIN.join(each_without.sources),
            **_effect(each_without.effect),
            "verdict": each_without.verdict or "",
        }
    for measure, effect in crossed.measures.items():
        yield {
            "analysis": "kinship on another measure",
            "model": model,
            "measure": measure,
            **_effect(effect),
        }


def _source_rows(crossed: CrossedComparison) -> Iterator[dict[str, object]]:
    for source in crossed.sources:
        if source.effect is not None:
            yield {
                "analysis": "kinship by source",
                "model": models_label(crossed.averaged_models),
                "source": source.code,
                "estimate": source.effect.estimate,
                "p": source.effect.p,
                "lowest_p": source.effect.lowest_p,
                "others": source.effect.others,
                "difference": source.effect.difference,
                "difference_low_95": source.effect.interval_95.low,
                "difference_high_95": source.effect.interval_95.high,
                "student_p": source.effect.student_p,
            }


def _effect(effect: CrossedEffect) -> dict[str, object]:
    return {
        "estimate": effect.estimate,
        "low_95": effect.interval_95.low,
        "high_95": effect.interval_95.high,
        "low_90": effect.interval_90.low,
        "high_90": effect.interval_90.high,
        "p": effect.p,
        "equivalence_p": effect.equivalence_p,
        "matchings": effect.matchings,
        "exact": effect.exact,
        "lowest_p": effect.lowest_p,
        "robust_low_95": effect.robust.low,
        "robust_high_95": effect.robust.high,
        "minimum_detectable_effect": effect.minimum_detectable,
        "sources": effect.n_sources,
        "branches": effect.n_branches,
        "related_branches": effect.n_related_branches,
        "targets": effect.n_targets,
        "cells": effect.n_cells,
        **{f"slope_{name.replace(' ', '_')}": slope for name, slope in effect.slopes.items()},
    }


def crossed_metrics(crossed: CrossedComparison) -> dict[str, float | None]:
    """Headline numbers by metric name; some may be infinite or undefined."""
    effect = crossed.overall
    values: dict[str, float | None] = {
        "crossed/kinship": effect.estimate,
        "crossed/kinship_low": effect.interval_95.low,
        "crossed/kinship_high": effect.interval_95.high,
        "crossed/kinship_low_90": effect.interval_90.low,
        "crossed/kinship_high_90": effect.interval_90.high,
        "crossed/kinship_p": effect.p,
        "crossed/kinship_tost_p": effect.equivalence_p,
        "crossed/kinship_robust_low": effect.robust.low,
        "crossed/kinship_robust_high": effect.robust.high,
        "crossed/minimum_detectable_effect": effect.minimum_detectable,
        "crossed/matchings": effect.matchings,
        "crossed/lowest_p": effect.lowest_p,
        "crossed/sources": effect.n_sources,
        "crossed/related_branches": effect.n_related_branches,
        "crossed/targets": effect.n_targets,
    }
    if crossed.graded is not None:
        values["crossed/degree"] = crossed.graded.estimate
        values["crossed/degree_p"] = crossed.graded.p
    if crossed.ability is not None:
        values["crossed/ability"] = crossed.ability.estimate
        values["crossed/ability_low"] = crossed.ability.interval_95.low
        values["crossed/ability_high"] = crossed.ability.interval_95.high
        values["crossed/ability_p"] = crossed.ability.p
    for adjustment in crossed.adjustments:
        if adjustment.effect is not None:
            names = "_and_".join(adjustment.covariates).replace(" ", "_")
            values[f"crossed/at_equal_{names}"] = adjustment.effect.estimate
            values[f"crossed/at_equal_{names}_p"] = adjustment.effect.p
    for each in crossed.without:
        name = f"crossed_without/{'.'.join(each.sources).replace(JOIN, '.')}"
        values[name] = each.effect.estimate
        values[f"{name}_p"] = each.effect.p
    for measure, measured in crossed.measures.items():
        values[f"crossed/kinship_{measure}"] = measured.estimate
        values[f"crossed/kinship_{measure}_p"] = measured.p
    for source in crossed.sources:
        if source.effect is not None:
            # MLflow rejects `+` in the name of a metric.
            name = f"crossed_source/{source.code.replace(JOIN, '.')}"
            values[name] = source.effect.estimate
            values[f"{name}_p"] = source.effect.p
    return values
