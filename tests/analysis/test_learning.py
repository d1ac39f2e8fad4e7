"""What was learnt from each source, over the targets of the crossed design."""

import numpy as np
import pytest
from synthetic_predictions import CROSSED_TARGETS, crossed_tables

from isogloss.analysis.comparison import compare
from isogloss.languages import source_name


def test_what_was_learnt_from_a_source_is_its_mean_over_the_targets_of_the_design():
    # Targets that are a source or a variety of one are left out, varieties of one target count once.
    targets = (*CROSSED_TARGETS, "ary_Arab", "npi_Latn", "tur_Latn")
    tables = crossed_tables(targets=targets, n=40)
    comparison = compare(tables, source="tur_Latn")
    assert len(comparison.crossed.targets) == len(CROSSED_TARGETS)
    for source, learnt in zip(comparison.crossed.sources, comparison.source_learning, strict=True):
        gains = [cell.gain for cell in comparison.crossed.cells if cell.source == source.code]
        assert learnt.label == source_name(source.code)
        assert learnt.gain.n == len(CROSSED_TARGETS)
        assert learnt.gain.estimate == pytest.approx(np.mean(gains))
        assert learnt.after.estimate - learnt.before.estimate == pytest.approx(np.mean(gains))
