"""The order of models in a report: by accuracy before tuning, the weakest first."""

import math
from collections.abc import Mapping
from dataclasses import replace

from isogloss.analysis.comparison import Comparison, ConditionResult


def by_baseline(comparison: Comparison) -> Comparison:
    """The same comparison with models in the order of their baselines; no number changes."""
    before = {model.label: model.mean.before for model in comparison.models}
    if len(before) < 2:
        return comparison

    def baseline(label: str) -> float:
        return before.get(label, math.inf)

    crossed = comparison.crossed
    return replace(
        comparison,
        conditions={
            condition: _ordered(result, before)
            for condition, result in comparison.conditions.items()
        },
        model_learning=tuple(
            sorted(comparison.model_learning, key=lambda each: baseline(each.label))
        ),
        model_levels=tuple(
            sorted(comparison.model_levels, key=lambda each: baseline(each.tuned.label))
        ),
        crossed=crossed
        and replace(
            crossed, models=tuple(sorted(crossed.models, key=lambda each: baseline(each.model)))
        ),
    )


def _ordered(result: ConditionResult, before: Mapping[str, float]) -> ConditionResult:
    places = sorted(
        range(len(result.models)),
        key=lambda place: before.get(result.models[place].label, math.inf),
    )
    return replace(
        result,
        models=tuple(result.models[place] for place in places),
        holm_p=tuple(result.holm_p[place] for place in places),
    )
