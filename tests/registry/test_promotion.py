"""The rule for a champion: significantly better on the dev items that both adapters answered."""

from pathlib import Path

import pandas as pd
import pytest

from isogloss.registry.promotion import Promotion, compare_on_dev
from isogloss.training.dev_predictions import DEV_PREDICTIONS

THIRD = [True, False, False] * 20
ALL = [True] * 60
NONE = [False] * 60


def dev_folder(
    path: Path,
    correct: list[bool],
    first: int = 0,
    language: str = "arb_Arab",
    task: str = "probe",
    content: str = "text",
) -> Path:
    """A folder with dev predictions; two items share a passage."""
    path.mkdir()
    numbers = range(first, first + len(correct))
    pd.DataFrame(
        {
            "task": task,
            "language": language,
            "item_id": [f"i{number}" for number in numbers],
            "passage_id": [f"p{number // 2}" for number in numbers],
            "answer": 0,
            "content": [f"{content} {number}" for number in numbers],
            "correct": correct,
        }
    ).to_parquet(path / DEV_PREDICTIONS)
    return path


@pytest.mark.parametrize(
    ("champion", "challenger", "promoted", "reason"),
    [
        (
            THIRD, ALL, True,
            "better on the 60 shared dev items: accuracy 0.333 for the champion and 1.000 for this "
            "one, +66.7 points",
        ),
        (THIRD, THIRD, False, "not shown to be better"),
        (ALL, THIRD, False, "not shown to be better"),
        # One or two more correct items of 60 are not significant, ten are.
        (NONE, [True, *NONE[1:]], False, "not shown to be better"),
        (NONE, [True, False, True, *NONE[3:]], False, "not shown to be better"),
        (NONE, [*[True, False] * 10, *NONE[20:]], True, "better"),
        # Only items that both answered count.
        ([*THIRD, *ALL], ALL, True, "better on the 60 shared dev items"),
        (THIRD, [*ALL, *NONE], True, "better on the 60 shared dev items"),
    ],
)  # fmt: skip
def test_a_challenger_is_promoted_if_it_is_significantly_better(
    tmp_path: Path, champion: list[bool], challenger: list[bool], promoted: bool, reason: str
) -> None:
    promotion = compare_on_dev(
        dev_folder(tmp_path / "champion", champion), dev_folder(tmp_path / "challenger", challenger)
    )
    assert promotion.promoted is promoted
    assert promotion.reason.startswith(reason)


@pytest.mark.parametrize(
    "other",
    [{"first": 60}, {"language": "eng_Latn"}, {"task": "sib200"}, {"content": "other text"}],
)
def test_a_challenger_without_a_shared_dev_item_is_not_promoted(
    tmp_path: Path, other: dict[str, object]
) -> None:
    champion = dev_folder(tmp_path / "champion", NONE)
    challenger = dev_folder(tmp_path / "challenger", ALL, **other)
    assert compare_on_dev(champion, challenger) == Promotion(
        False, "the two have no dev item in common, so they are not comparable"
    )


def test_an_adapter_without_dev_predictions_is_not_compared(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path / "one", NONE)
    reason = "one of the two has no dev predictions, so they are not comparable"
    assert compare_on_dev(folder, tmp_path) == Promotion(False, reason)
    assert compare_on_dev(tmp_path, folder) == Promotion(False, reason)
