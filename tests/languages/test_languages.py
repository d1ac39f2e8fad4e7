import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import ConfigError
from isogloss.languages import (
    NODES,
    UNSPACED,
    distance,
    group,
    kilometres,
    language,
    members,
    pooled_source,
    source_branch,
    source_distance,
    source_kilometres,
    source_languages,
    source_name,
    table,
)
from isogloss.types import Group

CODES = st.sampled_from(sorted(table()))

# Members of branches; the second name is Glottolog's for the same node.
BRANCHES = {
    ("Semitic", "Semitic"): """
        acm_Arab acq_Arab aeb_Arab ajp_Arab amh_Ethi apc_Arab arb_Arab arb_Latn ars_Arab ary_Arab
        arz_Arab heb_Hebr mlt_Latn tir_Ethi""",
    ("Cushitic", "Cushitic"): "gaz_Latn som_Latn",
    ("Chadic", "Chadic"): "hau_Latn",
    ("Berber", "Berber"): "kab_Latn taq_Latn taq_Tfng tzm_Tfng",
    ("Bantu", "Narrow Bantu"): """
        bem_Latn cjk_Latn kam_Latn kik_Latn kin_Latn kmb_Latn kon_Latn lin_Latn lua_Latn lug_Latn
        nso_Latn nya_Latn run_Latn sna_Latn sot_Latn ssw_Latn swh_Latn tsn_Latn tso_Latn tum_Latn
        umb_Latn xho_Latn zul_Latn""",
    ("Kwa", "Kwa Volta-Congo"): "aka_Latn ewe_Latn fon_Latn twi_Latn",
    ("Nilotic", "Nilotic"): "dik_Latn luo_Latn nus_Latn",
    ("Indo-Aryan", "Indo-Aryan"): """
        asm_Beng awa_Deva ben_Beng ben_Latn bho_Deva guj_Gujr hin_Deva hin_Latn hne_Deva kas_Arab
        kas_Deva mag_Deva mai_Deva mar_Deva npi_Deva npi_Latn ory_Orya pan_Guru san_Deva sin_Latn
        sin_Sinh snd_Arab urd_Arab urd_Latn""",
    ("Iranian", "Iranian"): "ckb_Arab kmr_Latn pbt_Arab pes_Arab prs_Arab tgk_Cyrl",
    ("Romance", "Romance"): """
        ast_Latn cat_Latn fra_Latn fur_Latn glg_Latn hat_Latn ita_Latn kea_Latn lij_Latn lmo_Latn
        oci_Latn pap_Latn por_Latn ron_Latn scn_Latn spa_Latn srd_Latn vec_Latn""",
    ("Germanic", "Germanic"): """
        afr_Latn dan_Latn deu_Latn eng_Latn fao_Latn isl_Latn lim_Latn ltz_Latn nld_Latn nno_Latn
        nob_Latn swe_Latn tpi_Latn ydd_Hebr""",
    ("Slavic", "Slavic"): """
        bel_Cyrl bos_Latn bul_Cyrl ces_Latn hrv_Latn mkd_Cyrl pol_Latn rus_Cyrl slk_Latn slv_Latn
        srp_Cyrl szl_Latn ukr_Cyrl""",
    ("Baltic", "Eastern Baltic"): "lit_Latn ltg_Latn lvs_Latn",
    ("Celtic", "Celtic"): "cym_Latn gla_Latn gle_Latn",
    ("Turkic", "Turkic"): """
        azb_Arab azj_Latn bak_Cyrl crh_Latn kaz_Cyrl kir_Cyrl tat_Cyrl tuk_Latn tur_Latn uig_Arab
        uzn_Latn""",
    ("Dravidian", "Dravidian"): "kan_Knda mal_Mlym tam_Taml tel_Telu",
    ("Uralic", "Uralic"): "est_Latn fin_Latn hun_Latn",
    ("Finnic", "Finnic"): "est_Latn fin_Latn",
    ("Sinitic", "Sinitic"): "yue_Hant zho_Hans zho_Hant",
    ("Tai", "Daic"): "lao_Laoo shn_Mymr tha_Thai",
    ("Malayo-Polynesian", "Malayo-Polynesian"): """
        ace_Arab ace_Latn ban_Latn bjn_Arab bjn_Latn bug_Latn ceb_Latn fij_Latn ilo_Latn ind_Latn
        jav_Latn min_Arab min_Latn mri_Latn pag_Latn plt_Latn smo_Latn sun_Latn tgl_Latn war_Latn
        zsm_Latn""",
}


def test_languages_have_their_groups_relative_to_arabic() -> None:
    expected = {
        "arb_Arab": "source", "arz_Arab": "variety", "arb_Latn": "variety", "ajp_Arab": "variety",
        "heb_Hebr": "related", "amh_Ethi": "related", "tir_Ethi": "related", "mlt_Latn": "related",
        "hau_Latn": "control", "som_Latn": "control", "pes_Arab": "control", "eng_Latn": "control",
    }  # fmt: skip
    assert {code: group(code, "arb_Arab") for code in expected} == expected


@pytest.mark.parametrize(
    ("source", "related", "control"),
    [
        ("tur_Latn", "uzn_Latn kaz_Cyrl uig_Arab tat_Cyrl", "khk_Cyrl pes_Arab hun_Latn"),
        ("swh_Latn", "zul_Latn kin_Latn lin_Latn", "yor_Latn ibo_Latn wol_Latn ewe_Latn"),
        ("hin_Deva", "urd_Arab ben_Beng urd_Latn sin_Sinh", "pes_Arab tam_Taml eng_Latn"),
        ("fra_Latn", "spa_Latn ron_Latn hat_Latn", "deu_Latn eus_Latn mlt_Latn"),
    ],
)
def test_by_default_related_languages_are_the_branch_of_the_source(
    source: str, related: str, control: str
) -> None:
    assert {group(code, source) for code in related.split()} == {"related"}
    assert {group(code, source) for code in control.split()} == {"control"}


def test_the_branch_and_the_source_can_be_any() -> None:
    assert group("hin_Deva", "urd_Arab") == "related"
    assert group("azj_Latn", "tur_Latn") == "related"
    assert group("heb_Hebr", "eng_Latn", branch="Semitic") == "related"
    assert group("arb_Arab", "arz_Arab") == "variety"


def test_a_family_and_any_node_of_glottolog_are_branches_too() -> None:
    assert group("hau_Latn", "arb_Arab", "Afro-Asiatic") == "related"
    assert group("heb_Hebr", "arb_Arab", "Central Semitic") == "related"
    assert group("amh_Ethi", "arb_Arab", "Central Semitic") == "control"
    assert group("rus_Cyrl", "lit_Latn", "Balto-Slavic") == "related"
    assert members("Bantu") == members("Narrow Bantu") < members("Benue-Congo")
    assert members("Basque") == {"eus_Latn"}


def test_an_unknown_branch_is_rejected_with_the_closest_names() -> None:
    with pytest.raises(ConfigError, match="unknown branch 'semitic'; expected Semitic"):
        group("heb_Hebr", "arb_Arab", "semitic")
    with pytest.raises(
        ConfigError, match="unknown branch 'Klingonic'; expected a family or branch"
    ):
        group("arb_Arab", "arb_Arab", "Klingonic")


def test_an_unknown_code_is_rejected_with_the_closest_codes() -> None:
    with pytest.raises(ConfigError, match="unknown language 'xyz'; expected a FLORES-200 code"):
        language("xyz")
    for given_, meant in {"heb": "heb_Hebr", "zho": "zho_Hans", "french": "fra_Latn"}.items():
        with pytest.raises(ConfigError, match=f"unknown language '{given_}'; expected {meant}\\."):
            language(given_)


def test_a_word_of_a_name_means_the_languages_that_have_it() -> None:
    meant = {"arabic": "arb_Arab", "Chinese": "zho_Hans", "Kurdish": "ckb_Arab or kmr_Latn"}
    for given_, codes in meant.items():
        with pytest.raises(ConfigError, match=f"unknown language '{given_}'; expected {codes}\\."):
            language(given_)


def test_every_row_of_the_table_is_complete() -> None:
    for code, row in table().items():
        assert all((row.name, row.family, row.branch, row.script))
        assert row.variety_of is None or row.variety_of in table(), code
        assert row.path[:1] == (row.family,) or (row.path, row.branch) == ((), row.family), code
        assert row.belebele or row.sib200, code
    assert list(table()) == sorted(table())
    assert len({row.name for row in table().values()}) == len(table())


def test_the_languages_of_belebele_and_sib200_are_all_there() -> None:
    belebele = {row.code for row in table().values() if row.belebele}
    sib200 = {row.code for row in table().values() if row.sib200}
    assert (len(belebele), len(sib200), len(belebele | sib200)) == (122, 205, 210)
    assert belebele - sib200 == {"ben_Latn", "hin_Latn", "npi_Latn", "sin_Latn", "urd_Latn"}
    assert {"arb_Latn", "shn_Mymr", "kea_Latn", "zho_Hant", "gaz_Latn"} <= belebele & sib200
    assert {"nqo_Nkoo", "ajp_Arab", "san_Deva", "yue_Hant", "nno_Latn"} <= sib200 - belebele


@pytest.mark.parametrize(("branch", "node"), BRANCHES)
def test_a_branch_has_its_languages_and_those_below_its_node_in_glottolog(
    branch: str, node: str
) -> None:
    codes = set(BRANCHES[branch, node].split())
    assert members(branch) == codes
    assert {row.code for row in table().values() if node in row.path} == codes


def test_every_branch_is_one_node_of_glottolog_or_an_isolate() -> None:
    for branch in {row.branch for row in table().values()}:
        here = {row.code for row in table().values() if row.branch == branch}
        node = NODES.get(branch, branch)
        below = {row.code for row in table().values() if node in row.path}
        assert below == here or (not below and {language(code).path for code in here} == {()})


def test_a_node_occurs_once_in_the_tree() -> None:
    above: dict[str, tuple[str, ...]] = {}
    for row in table().values():
        for depth, node in enumerate(row.path):
            assert above.setdefault(node, row.path[:depth]) == row.path[:depth], node


def test_varieties_are_one_language_of_glottolog_or_arabic() -> None:
    rows = table().values()
    heads = {row.variety_of: row for row in rows}
    for row in rows:
        if row.variety_of:
            head = language(row.variety_of)
            assert head.variety_of is None, row.code
            assert row.glottocode == head.glottocode or "Arabic" in row.path, row.code
        else:
            same = {it.code for it in rows if it.glottocode == row.glottocode} - {row.code}
            assert {language(code).variety_of for code in same} <= {row.code}, row.code
    assert language("mlt_Latn").variety_of is None
    assert "mlt_Latn" not in heads


def test_the_script_is_that_of_the_code() -> None:
    names: dict[str, set[str]] = {}
    for row in table().values():
        names.setdefault(row.code[4:], set()).add(row.script)
    assert all(len(scripts) == 1 for scripts in names.values())
    assert names["Hans"] == names["Hant"] == {"Han"}
    assert names["Ethi"] == {"Ethiopic"}
    assert names["Cyrl"] == {"Cyrillic"}
    assert set(UNSPACED) <= set[str]().union(*names.values())


@given(CODES, CODES)
def test_distance_is_symmetric_and_between_0_and_1(left: str, right: str) -> None:
    assert 0 <= distance(left, right) == distance(right, left) <= 1
    here, there = language(left), language(right)
    assert (distance(left, right) == 0) == (here.glottocode == there.glottocode)
    assert (distance(left, right) == 1) == (here.family != there.family)


@given(CODES, CODES)
def test_kilometres_are_those_of_the_angle_between_two_points(left: str, right: str) -> None:
    points = []
    for row in (language(left), language(right)):
        north, east = math.radians(row.latitude), math.radians(row.longitude)
        points.append(
            (math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north))
        )
    chord = math.dist(*points)  # of the unit sphere
    assert kilometres(left, right) == pytest.approx(6371 * 2 * math.asin(min(1, chord / 2)))


def test_a_pooled_source_is_as_far_as_its_nearest_language() -> None:
    # Glottolog: Modern Hebrew at 31.1 N 35.0 E, Turkish at 39.9 N 32.9 E.
    assert kilometres("heb_Hebr", "tur_Latn") == pytest.approx(993, abs=5)
    assert source_kilometres("heb_Hebr+jpn_Jpan", "tur_Latn") == kilometres("heb_Hebr", "tur_Latn")


def test_distance_equals_a_value_computed_by_hand() -> None:
    # Nodes of Hebrew: Afro-Asiatic > Semitic > West > Central > Northwest > Canaanite > Hebrewic;
    # of Arabic: Afro-Asiatic > Semitic > West > Central > Arabian > Arabic; each with itself.
    assert distance("heb_Hebr", "arb_Arab") == pytest.approx(1 - 2 * 4 / (8 + 7))


@pytest.mark.parametrize(
    "order",
    [
        "heb_Hebr heb_Hebr arb_Arab amh_Ethi hau_Latn eng_Latn",
        "arb_Arab arb_Latn arz_Arab mlt_Latn heb_Hebr som_Latn tur_Latn",
        "eng_Latn deu_Latn rus_Cyrl fin_Latn",
        "hin_Deva hin_Latn urd_Arab ben_Beng pes_Arab tam_Taml",
        "swh_Latn zul_Latn yor_Latn hau_Latn",
    ],
)
def test_closer_relatives_have_smaller_distances(order: str) -> None:
    source, *targets = order.split()
    distances = [distance(source, target) for target in targets]
    assert all(nearer < farther for nearer, farther in pairwise(distances))


def test_dialects_and_scripts_of_one_language_have_distance_zero() -> None:
    for pair in (
        "hin_Deva hin_Latn",
        "zho_Hans zho_Hant",
        "nob_Latn nno_Latn",
        "hrv_Latn srp_Cyrl",
    ):
        assert distance(*pair.split()) == 0


POOL = "arb_Arab+heb_Hebr"


def test_a_pooled_source_has_one_order_with_a_language_before_its_varieties() -> None:
    assert pooled_source("ary_Arab+arb_Arab + acm_Arab") == "arb_Arab+acm_Arab+ary_Arab"
    assert pooled_source("heb_Hebr+arb_Arab+heb_Hebr") == POOL
    assert pooled_source("heb_Hebr") == "heb_Hebr"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("arb_Arab", Group.SOURCE),
        ("heb_Hebr", Group.SOURCE),
        ("arz_Arab", Group.VARIETY),
        ("amh_Ethi", Group.RELATED),
        ("hau_Latn", Group.CONTROL),
    ],
)
def test_groups_are_relative_to_every_language_of_a_pooled_source(
    target: str, expected: Group
) -> None:
    assert group(target, POOL) == expected


def test_relatives_of_any_branch_of_a_pooled_source_are_related() -> None:
    assert group("fra_Latn", "arb_Arab+spa_Latn") == Group.RELATED
    assert group("fra_Latn", "arb_Arab+spa_Latn", "Semitic") == Group.CONTROL
    assert source_branch("arb_Arab+spa_Latn") == "Semitic + Romance"


def test_a_pooled_source_is_as_near_as_its_nearest_language() -> None:
    assert source_distance(POOL, "arz_Arab") == distance("arb_Arab", "arz_Arab") < 1
    nearest = min(distance("arb_Arab", "mlt_Latn"), distance("heb_Hebr", "mlt_Latn"))
    assert source_distance(POOL, "mlt_Latn") == nearest


def test_pooled_sources_have_names_and_unknown_ones_are_rejected() -> None:
    assert source_name(POOL) == "Standard Arabic + Hebrew"
    six = "arb_Arab+acm_Arab+apc_Arab+ars_Arab+ary_Arab+arz_Arab"
    assert source_name(six) == "Standard Arabic + 5 pooled languages"
    with pytest.raises(ConfigError, match="unknown language 'xyz_Latn'"):
        source_languages("arb_Arab+xyz_Latn")
