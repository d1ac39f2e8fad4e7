"""The report stands alone, escapes what it is given, and has every figure."""

import math
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from synthetic_predictions import CONTROL, RELATED, gains, pair

from isogloss.comparison import compare
from isogloss.report import figures, write

PNG = b"\x89PNG\r\n\x1a\n"
PROVENANCE = {
    "model": "<script>alert('model')</script>",
    "base run": "3f1c|2b7a",
    "tuned run": "88aa*01bc*",
}


@pytest.fixture(scope="module")
def comparison():
    codes = {"arb_Arab": 0.15, "ary_Arab": 0.1, **gains(0.1, 0.09)}
    return compare(*pair(codes, n=60), source="arb_Arab")


@pytest.fixture(scope="module")
def folder(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "report"
    assert write(comparison, folder, PROVENANCE) == folder / "report.html"
    return folder


class Page(HTMLParser):
    """Tags opened, and addresses that the page would fetch or lead to."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset", "action")]


def test_the_folder_holds_the_page_its_twin_the_table_and_the_figures(folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        *("before_after.png", "contrast.png", "gains.csv", "gains.png", "parts.png"),
        *("report.html", "report.md"),
    ]
    for name in ("before_after", "contrast", "gains", "parts"):
        image = (folder / f"{name}.png").read_bytes()
        assert image.startswith(PNG)
        assert len(image) > 10_000


def test_the_page_loads_nothing_from_elsewhere(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not re.search(r"https?://|@import|url\(", text)
    assert page.tags.count("img") == 4
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


def test_the_page_escapes_what_it_is_given(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(&#39;model&#39;)&lt;/script&gt;" in text
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "| base run | 3f1c\\|2b7a |" in markdown
    assert "88aa\\*01bc\\*" in markdown


def test_the_verdict_comes_first_in_page_and_twin(folder, comparison):
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert html.index(comparison.accuracy.verdict) < html.index("<img")
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert markdown.splitlines()[2].startswith(f"**{comparison.accuracy.verdict.capitalize()}.**")
    for text in (html, markdown):
        assert "Hebrew" in text
        assert "minimum detectable effect" in text
        assert text.index("Gains by language") < text.index("Provenance")


def test_the_page_fits_a_phone(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert 'name="viewport" content="width=device-width' in text
    assert "overflow-x: auto" in text


def test_every_figure_of_the_twin_is_in_the_folder(folder):
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\((\w+\.png)\)", markdown)
    assert len(linked) == 4
    assert all((folder / name).exists() for name in linked)


def test_gains_csv_has_one_row_a_language(folder, comparison):
    rows = pd.read_csv(folder / "gains.csv")
    assert list(rows["code"]) == [row.code for row in comparison.languages]


def test_figures_name_every_language_and_mark_the_chance_level(comparison):
    drawn = figures(comparison)
    assert sorted(drawn) == ["before_after", "contrast", "gains", "parts"]
    for name in ("before_after", "gains", "parts"):
        labels = {label.get_text() for label in drawn[name].axes[0].get_yticklabels()}
        assert {f"{row.name} ({row.code})" for row in comparison.languages} <= labels
        assert {"source", "control", "related: Semitic"} <= labels
    dashed = [line for line in drawn["before_after"].axes[0].lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [25]


def test_figures_use_no_global_state(comparison):
    from matplotlib import _pylab_helpers

    figures(comparison)
    assert not _pylab_helpers.Gcf.figs


def test_a_report_without_interval_chance_or_validity_can_still_be_written(tmp_path):
    few = {code: 0.1 + 0.1 * i for i, code in enumerate((*RELATED[:2], *CONTROL[:3]))}
    bare = [
        rows.assign(choice_logprobs=[[]] * len(rows), valid=None, passage_id="one")
        for rows in pair(few, n=10)
    ]
    comparison = compare(*bare, source="arb_Arab")
    assert comparison.chance is None
    assert math.isnan(comparison.languages[0].low)
    page = write(comparison, tmp_path, {}).read_text(encoding="utf-8")
    assert "−∞" in page
    assert "n/a" in page
