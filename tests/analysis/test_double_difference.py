"""The double difference against a control source."""

import numpy as np
import pytest
from synthetic_predictions import CONTROL, RELATED, compare_pair, study

from isogloss.analysis.comparison import compare
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.types import Condition


def test_it_compares_languages_related_to_neither_source_and_cancels_the_base(six_models):
    (difference,) = six_models.double_differences
    assert (difference.code, difference.name) == ("eng_Latn", "English")
    assert difference.related == RELATED
    assert "deu_Latn" not in difference.control  # related to English
    assert len(difference.models) == 6
    accuracy = {
        source: np.mean(
            [
                rows.groupby("language")["correct"].mean()
                for run, rows in study(seeds=3).items()
                if (run.condition, run.source) == (Condition.TUNED, source)
            ],
            axis=0,
        )
        for source in ("arb_Arab", "eng_Latn")
    }
    codes = sorted({row.code for row in six_models.languages})
    gain = dict(zip(codes, accuracy["arb_Arab"] - accuracy["eng_Latn"], strict=True))
    expected = np.mean([gain[code] for code in RELATED]) - np.mean(
        [gain[code] for code in difference.control]
    )
    assert difference.contrast.estimate == pytest.approx(expected)


def test_without_a_control_source_or_an_adapter_there_is_none(runs):
    assert compare_pair(runs).double_differences == ()
    untuned = compare(study(1, n=20), source="arb_Arab", condition=Condition.BASE_COT)
    assert untuned.double_differences == ()


def test_a_control_source_related_to_all_controls_is_an_omission():
    germanic = ("deu_Latn", "nld_Latn", "swe_Latn")
    tables = study(1, seeds=1, n=20, languages=("arb_Arab", *RELATED, *germanic))
    comparison = compare(tables, source="arb_Arab")
    assert comparison.double_differences == ()
    (omission,) = (
        omission
        for omission in comparison.omissions
        if omission.reason == OmissionReason.NO_DOUBLE_DIFFERENCE
    )
    assert omission == Omission(
        OmissionReason.NO_DOUBLE_DIFFERENCE, source="eng_Latn", problem=omission.problem
    )
    assert "got 4 related and 0 control" in omission.problem
    assert set(CONTROL) & set(germanic) == {"deu_Latn"}
