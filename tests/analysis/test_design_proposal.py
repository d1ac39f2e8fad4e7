"""Proposed sources and targets: balanced, of different families and scripts, the same every time."""

import math
import random

import numpy as np
import pytest

from isogloss.analysis.design_proposal import candidate_branches, feasible_designs, propose
from isogloss.errors import ConfigError
from isogloss.languages import group, language, table
from isogloss.languages.pretraining_text import pretraining_words
from isogloss.types import Group

BELEBELE = [code for code, row in table().items() if row.belebele]
BRANCHES = candidate_branches(BELEBELE)


@pytest.mark.parametrize(("sources", "relatives"), [(4, 4), (6, 4), (8, 3), (5, 2)])
def test_every_source_has_its_own_branch_and_as_many_relatives_as_the_others(sources, relatives):
    proposal = propose(BRANCHES, sources, relatives)
    assert len({language(code).branch for code in proposal.sources}) == sources
    assert len(set(proposal.targets)) == sources * relatives
    for source in proposal.sources:
        kin = [code for code in proposal.targets if group(code, source) == Group.RELATED]
        assert tuple(kin) == proposal.relatives[source]
    assert not set(proposal.sources) & set(proposal.targets)


def test_the_order_of_languages_does_not_matter():
    shuffled = random.Random(1).sample(BELEBELE, len(BELEBELE))
    assert propose(candidate_branches(shuffled), 6, 4) == propose(BRANCHES, 6, 4)


def test_different_families_come_first():
    families = {language(code).family for code in propose(BRANCHES, 4, 4).sources}
    assert len(families) == 4


def test_varieties_of_a_language_count_once():
    heads = [row.variety_of or row.code for rows in BRANCHES.values() for row in rows]
    assert len(heads) == len(set(heads))
    (arabic,) = (row for row in BRANCHES["Semitic"] if row.script == "Arabic")
    assert arabic.code == "arb_Arab"
    (only,) = candidate_branches(["arz_Arab", "ary_Arab"])["Semitic"]
    assert only.code in ("arz_Arab", "ary_Arab")


def test_relatives_are_in_the_sources_script_and_in_others():
    proposal = propose(BRANCHES, 6, 4)
    scripts = {code: language(code).script for code in proposal.targets}
    turkic = proposal.relatives["tur_Latn"]
    assert sorted(scripts[code] for code in turkic) == ["Cyrillic", "Cyrillic", "Latin", "Latin"]


def test_the_language_with_most_text_is_the_source():
    sources = set(propose(BRANCHES, 8, 4).sources)
    assert {"arb_Arab", "tur_Latn", "rus_Cyrl", "swh_Latn", "hin_Deva", "eng_Latn"} <= sources
    for source, relatives in propose(BRANCHES, 6, 3).relatives.items():
        if source != "eng_Latn":
            most = pretraining_words(source)
            assert all(most >= (pretraining_words(code) or 0) for code in relatives)


def test_the_inflation_is_that_of_least_squares_with_the_shared_script():
    proposal = propose(BRANCHES, 6, 4)
    sources, targets = proposal.sources, proposal.targets
    columns, kin = [], []
    for s, source in enumerate(sources):
        for t, target in enumerate(targets):
            row = np.zeros(len(sources) + len(targets) + 1)
            row[s] = row[len(sources) + t] = 1
            row[-1] = language(source).script == language(target).script
            columns.append(row)
            kin.append(target in proposal.relatives[source])
    design, kin = np.array(columns), np.array(kin, float)

    def unexplained(matrix):
        return float(((kin - matrix @ np.linalg.lstsq(matrix, kin)[0]) ** 2).sum())

    expected = math.sqrt(unexplained(design[:, :-1]) / unexplained(design))
    assert proposal.script_inflation == pytest.approx(expected)


def test_designs_are_those_that_the_branches_have():
    branches = {name: BRANCHES[name] for name in ("Semitic", "Turkic", "Iranian", "Tai", "Bantu")}
    assert list(feasible_designs(branches)) == [(4, 2), (4, 3), (5, 2)]
    with pytest.raises(ConfigError, match="branches of at least 5 languages, but there are 3"):
        propose(branches, 4, 4)
