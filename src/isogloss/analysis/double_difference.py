"""The double difference: what relatives gain from the source beyond a control source."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.analysis.gains import ComparisonSpec, runs_matching
from isogloss.analysis.score_matrix import Scores
from isogloss.errors import ComparisonError
from isogloss.languages import group, language
from isogloss.stats.contrasts import Contrast, relatedness_contrast
from isogloss.types import Group


@dataclass(frozen=True)
class DoubleDifference:
    """The double difference: what relatives of the source gain more from it than from `code`."""

    code: str
    name: str
    models: tuple[str, ...]
    related: tuple[str, ...]
    control: tuple[str, ...]
    contrast: Contrast


def double_differences(
    scores: Scores, models: Sequence[str], spec: ComparisonSpec, left_out: list[str]
) -> tuple[DoubleDifference, ...]:
    """The double difference against each other source that models were tuned on too.

    Tuned accuracy after one source minus that after the other, so that the base and all that makes
    a language easy to improve cancel; relatives of the source against languages that are kin to
    neither.
    """
    found = []
    condition = spec.condition
    others = sorted({run.source for run in scores.runs} - {"", spec.source})
    for other in others if condition.startswith("tuned") else ():
        having = [model for model in models if runs_matching(scores, model, condition, other)]
        if not having:
            continue
        weight_K = np.zeros(len(scores.runs))
        for model in having:
            for code, sign in ((spec.source, 1), (other, -1)):
                runs = runs_matching(scores, model, condition, code)
                weight_K[runs] = sign / len(runs) / len(having)
        difference_L = weight_K @ scores.accuracy
        places = [
            (group(code, spec.source, spec.branch), group(code, other)) for code in scores.languages
        ]
        kept = np.array(
            [
                there == Group.CONTROL and here in (Group.RELATED, Group.CONTROL)
                for here, there in places
            ]
        )
        related = np.array([here == Group.RELATED for here, _ in places])[kept]
        codes = np.array(scores.languages)[kept]
        try:
            contrast = relatedness_contrast(
                difference_L[kept], related, spec.margin, seed=spec.seed
            )
        except ComparisonError as error:
            left_out.append(f"No double difference against {language(other).name}: {error}")
            continue
        found.append(
            DoubleDifference(
                code=other,
                name=language(other).name,
                models=tuple(having),
                related=tuple(map(str, codes[related])),
                control=tuple(map(str, codes[~related])),
                contrast=contrast,
            )
        )
    return tuple(found)
