"""With missing=drop, items that some run lacks are left out of all runs, and counted."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_predictions import BASE, TUNED, gains, tables

from isogloss.analysis.comparison import compare
from isogloss.analysis.missing_items import complete_items
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import RunKey
from isogloss.errors import ComparisonError
from isogloss.report.omissions import omission_sentence
from isogloss.types import Condition, Missing

OTHER = RunKey("m", Condition.TUNED, "arb_Arab", "1")


def without(table: pd.DataFrame, *items: tuple[str, str]) -> pd.DataFrame:
    index = pd.MultiIndex.from_frame(table[["language", "item_id"]])
    return table[~index.isin(list(items))]


def test_gains_are_those_of_the_items_that_all_runs_have() -> None:
    whole = tables(gains(0.2, 0.05), n=40)
    lacking = {
        BASE: without(whole[BASE], ("heb_Hebr", "item-003")),
        TUNED: without(whole[TUNED], ("heb_Hebr", "item-003"), ("deu_Latn", "item-039"),
                       ("heb_Hebr", "item-020")),
    }  # fmt: skip
    with pytest.raises(ComparisonError, match=r"not in m, tuned .*; set missing=drop to leave out"):
        compare(lacking, source="arb_Arab")
    result = compare(lacking, source="arb_Arab", missing=Missing.DROP)
    gone = [("heb_Hebr", "item-003"), ("deu_Latn", "item-039"), ("heb_Hebr", "item-020")]
    by_hand = compare(
        {run: without(table, *gone) for run, table in whole.items()}, source="arb_Arab"
    )
    assert result.contrast == by_hand.contrast
    assert result.overall.languages == by_hand.overall.languages
    # Hebrew: 38 items, the first 16 of 40 right before (one is lost), 24 after (two are lost).
    hebrew = next(row for row in result.languages if row.code == "heb_Hebr")
    before = whole[BASE].set_index(["language", "item_id"])["correct"]["heb_Hebr"]
    after = whole[TUNED].set_index(["language", "item_id"])["correct"]["heb_Hebr"]
    kept = [name for name in before.index if name not in ("item-003", "item-020")]
    assert hebrew.gain == pytest.approx(after[kept].mean() - before[kept].mean())
    sentences = [omission_sentence(omission) for omission in result.omissions]
    assert sentences == [
        "2 items without an answer in some run are left out of all runs: deu_Latn 1 of 40, "
        "heb_Hebr 1 of 39.",
        "m, tuned on arb_Arab, seed 0 lacks 2 items that other runs have: deu_Latn 1, heb_Hebr 1.",
    ]


def test_complete_tables_are_left_as_they_are() -> None:
    whole = tables(gains(0.2, 0.05), n=8)
    complete, omissions = complete_items(whole)
    assert omissions == ()
    assert all(complete[run] is table for run, table in whole.items())


def test_a_language_that_a_run_lacks_counts_as_a_language() -> None:
    whole = tables(gains(0.2, 0.05), n=8)
    lacking = whole | {TUNED: whole[TUNED][whole[TUNED]["language"] != "heb_Hebr"]}
    assert complete_items(lacking) == (lacking, ())
    result = compare(lacking, source="arb_Arab", missing=Missing.DROP)
    assert [omission.reason for omission in result.omissions] == [OmissionReason.MISSING_LANGUAGES]


CELLS = [(code, item) for code in ("deu_Latn", "heb_Hebr") for item in "abc"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sets(st.sampled_from(CELLS), min_size=1), min_size=3, max_size=3))
def test_what_is_left_is_the_intersection(cells: list[set[tuple[str, str]]]) -> None:
    runs = dict(zip((BASE, TUNED, OTHER), map(sorted, cells), strict=True))
    frames = {
        run: pd.DataFrame(rows, columns=["language", "item_id"]) for run, rows in runs.items()
    }
    complete, omissions = complete_items(frames)
    shared = set.intersection(*({code for code, _ in rows} for rows in cells))
    everywhere = set.intersection(*cells)
    somewhere = {cell for cell in set.union(*cells) if cell[0] in shared}
    for run, rows in zip(runs, cells, strict=True):
        kept = set(complete[run].itertuples(index=False, name=None))
        assert {cell for cell in kept if cell[0] in shared} == rows & everywhere
        assert {cell for cell in kept if cell[0] not in shared} == {
            cell for cell in rows if cell[0] not in shared
        }
    lost = somewhere - everywhere
    totals = [omission for omission in omissions if omission.run is None]
    assert sum(n for omission in totals for _, n in omission.counts) == len(lost)
    expected = {
        (run, code): len({cell for cell in lost - rows if cell[0] == code})
        for run, rows in zip(runs, cells, strict=True)
        for code in shared
    }
    counted = {
        (omission.run, code): n
        for omission in omissions if omission.run is not None
        for code, n in omission.counts
    }  # fmt: skip
    assert counted == {key: n for key, n in expected.items() if n}


def test_one_item_is_singular() -> None:
    omission = Omission(
        OmissionReason.MISSING_ITEMS, counts=(("deu_Latn", 1),), totals=(("deu_Latn", 900),)
    )
    assert omission_sentence(omission).startswith("1 item without an answer in some run is left")
