"""The page of architectures has the table of whole studies that tests/real/test_families.py finds."""

from scripts.architectures import TABLE, families_table, written


def test_the_page_has_the_table_of_whole_studies_and_the_steps_of_every_architecture() -> None:
    assert families_table() in TABLE.read_text("utf-8")
    assert len(written()) > 150
    assert written()["gemma3"].scoring == "fast"  # not a row of the table of whole studies
