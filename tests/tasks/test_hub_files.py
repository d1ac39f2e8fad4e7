"""Names of languages on the Hub and the codes that they mean."""

import pytest

from isogloss.languages import table
from isogloss.languages.codes import languages_of
from isogloss.tasks import TASKS
from isogloss.tasks.hub_files import hub_names

COUNTS = {
    "global_mmlu": 42,
    "global_mmlu_lite": 7,
    "global_piqa_parallel": 97,
    "global_piqa_nonparallel": 99,
    "afrixnli": 18,
}


@pytest.mark.parametrize(("task", "count"), COUNTS.items())
def test_every_language_of_the_data_is_in_the_table_once(task: str, count: int) -> None:
    names = hub_names(task)
    assert len(names) == count
    assert names.keys() <= table().keys()
    assert len(set(names.values())) == count
    assert task.removesuffix("_lite") in TASKS


@pytest.mark.parametrize("task", COUNTS)
def test_names_mean_what_the_codes_of_iso_639_mean(task: str) -> None:
    """`languages_of` reads the code of the name without a region, independently of the list."""
    for code, name in hub_names(task).items():
        iso = "_".join(name.split("_")[:2])
        known = languages_of(iso) or languages_of(iso.split("_")[0])
        assert code in known or (code, name) in (
            ("ajp_Arab", "apc_arab_pale"),  # South Levantine, one code with North Levantine now
            ("zho_Hans", "cmn_hans"),
            ("zho_Hant", "cmn_hant"),
            ("est_Latn", "ekk_latn"),
        )


def test_a_regional_variety_is_that_of_the_country_of_origin() -> None:
    for task in ("global_piqa_parallel", "global_piqa_nonparallel"):
        names = hub_names(task)
        regional = {code: name for code, name in names.items() if name.count("_") == 2}
        assert regional == {
            "ajp_Arab": "apc_arab_pale",
            "apc_Arab": "apc_arab_syri",
            "fra_Latn": "fra_latn_fran",
            "por_Latn": "por_latn_port",
            "spa_Latn": "spa_latn_spai",
        }
