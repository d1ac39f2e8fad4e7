"""The double difference: what relatives gain from the source beyond a control source.

Shapes are suffixes: K runs, L languages, U languages in this contrast.
"""

from dataclasses import dataclass

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy, head, varieties_together
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.errors import ComparisonError
from isogloss.languages import group, source_name
from isogloss.stats.contrasts import Contrast, relatedness_contrast
from isogloss.types import Group


@dataclass(frozen=True)
class DoubleDifference:
    """The contrast of accuracies after tuning on the source and on the control source `code`.

    `related` and `control` are the languages in it: relatives of the source, and languages related
    to neither source.
    """

    code: str
    name: str
    models: tuple[str, ...]
    related: tuple[str, ...]
    control: tuple[str, ...]
    contrast: Contrast


def double_differences(
    study: AlignedStudy,
) -> tuple[tuple[DoubleDifference, ...], tuple[Omission, ...]]:
    """The double difference against each other source that models were tuned on.

    The accuracy after tuning on one source minus that after tuning on the other, so that the base
    model and whatever makes a language easy to improve cancel. Sources with too few languages are
    returned as omissions.
    """
    differences, omissions = [], []
    for control_source in _control_sources(study):
        try:
            differences.append(_double_difference(study, control_source))
        except ComparisonError as error:
            omissions.append(
                Omission(
                    OmissionReason.NO_DOUBLE_DIFFERENCE, source=control_source, problem=str(error)
                )
            )
    return tuple(differences), tuple(omissions)


def _control_sources(study: AlignedStudy) -> list[str]:
    """Other sources that some model has in the compared condition."""
    if not study.spec.condition.tuned:
        return []
    sources = {run.source for run in study.scores.runs} - {"", study.spec.source}
    return [source for source in sorted(sources) if _models_tuned_on(study, source)]


def _models_tuned_on(study: AlignedStudy, source: str) -> list[str]:
    condition = study.spec.condition
    return [model for model in study.models if study.runs_matching(model, condition, source)]


def _double_difference(study: AlignedStudy, control_source: str) -> DoubleDifference:
    spec = study.spec
    models = _models_tuned_on(study, control_source)
    weight_K = study.mean_weights(models, spec.condition) - study.mean_weights(
        models, spec.condition, control_source
    )
    difference_L = weight_K @ study.scores.accuracy
    groups = [group(code, spec.source, spec.branch) for code in study.scores.languages]
    neither_L = [group(code, control_source) == Group.CONTROL for code in study.scores.languages]
    members = [
        places
        for places in varieties_together(study.scores.languages, groups)
        if neither_L[places[0]] and groups[places[0]] in (Group.RELATED, Group.CONTROL)
    ]
    codes = [head([study.scores.languages[place] for place in places]) for places in members]
    related_U = np.array([groups[places[0]] == Group.RELATED for places in members], dtype=bool)
    difference_U = np.array([difference_L[list(places)].mean() for places in members])
    contrast = relatedness_contrast(difference_U, related_U, spec.margin, seed=spec.seed)
    return DoubleDifference(
        code=control_source,
        name=source_name(control_source),
        models=tuple(models),
        related=tuple(code for code, related in zip(codes, related_U, strict=True) if related),
        control=tuple(code for code, related in zip(codes, related_U, strict=True) if not related),
        contrast=contrast,
    )
