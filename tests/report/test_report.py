"""The report page is self-contained, escapes its data, and can be read on a phone."""

import base64
import hashlib
import html
import math
import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
from browser import Browser
from synthetic_predictions import CONTROL, RELATED, gains, pair, study, tables

from isogloss.analysis.comparison import compare
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import RunKey
from isogloss.report.claims import claim_texts
from isogloss.report.model_order import by_baseline
from isogloss.report.page import write
from isogloss.report.verdict import summary
from isogloss.types import Condition

PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = "<img src=x onerror=alert(1)>|`*_$"
ARABIC = "نموذج العربية"
ENDLESS = "organisation/" + "x" * 120
PROVENANCE = {"study": "<script>alert('study')</script>", "data": "3f1c|2b7a", "recipe": ENDLESS}
RUNS = [
    ("Model", "Condition", "Source", "Run"),
    (HOSTILE, "base", "none", "88aa*01bc*"),
    (ARABIC, "tuned", "arb_Arab", "0" * 32),
    (ENDLESS, "tuned", "arb_Arab", "0" * 32),
]


MISSING = Omission(
    OmissionReason.MISSING_CONDITION, model=f"{HOSTILE}<b>no</b>", conditions=(Condition.TUNED,)
)


@pytest.fixture(scope="module")
def comparison():
    """One model in two conditions."""
    codes = {"arb_Arab": 0.15, "ary_Arab": 0.1, **gains(0.1, 0.09)}
    return compare(tables(codes, n=60), source="arb_Arab")


@pytest.fixture(scope="module")
def folder(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "report"
    assert write(comparison, folder, PROVENANCE, RUNS) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def several():
    """Six models in four conditions with two sources; model names are hard to escape or draw."""
    names = (HOSTILE, ARABIC, ENDLESS, "d", "e", "f")
    named = {
        run._replace(model=names[int(run.model[-1])]): rows for run, rows in study(n=40).items()
    }
    return compare(named, source="arb_Arab", omissions=[MISSING])


@pytest.fixture(scope="module")
def several_folder(several, tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    write(several, folder, PROVENANCE, RUNS)
    return folder


class Page(HTMLParser):
    """Tags, ids, text and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.ids, self.alts, self.headings = [], [], [], [], []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.headings += [""] if tag in ("h2", "h3") else []
        values = dict(attrs)
        self.addresses += [values[k] for k in ("src", "href", "srcset", "action") if k in values]
        self.ids += [values["id"]] if "id" in values else []
        self.alts += [values["alt"]] if tag == "img" else []

    def handle_data(self, data):
        self.text += data.replace("\u00a0", " ")  # intervals do not break across lines
        if self.tags and self.tags[-1] in ("h2", "h3") and not self.headings[-1]:
            self.headings[-1] = data


def page_of(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_folder_holds_the_page_its_markdown_twin_the_numbers_and_the_figures(
    folder, several_folder
):
    figures = ["baseline", "before_after", "contrast", "gains", "parts"]
    others = ["contrasts.csv", "gains.csv", "published.csv", "report.html", "report.md"]
    images = [f"{name}.png" for name in figures]
    assert sorted(path.name for path in folder.iterdir()) == sorted(images + others)
    images += ["models.png", "reasoning.png"]
    assert sorted(path.name for path in several_folder.iterdir()) == sorted(images + others)
    for name in images:
        image = (several_folder / name).read_bytes()
        assert image.startswith(PNG)
        assert len(image) > 10_000


def test_the_page_loads_nothing_and_its_links_have_targets(several_folder):
    text = (several_folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?://|@import|url\(", text)
    images = [address for address in page.addresses if address.startswith("data:image/png;base64,")]
    links = [address for address in page.addresses if address.startswith("#")]
    assert page.tags.count("img") == len(images) == len(page.alts) == 7
    assert all(page.alts)
    assert len(links) > 15
    assert {link[1:] for link in links} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert len(images) + len(links) == len(page.addresses)
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert "Items and answers" not in page.text  # it was given none


def test_the_policy_of_the_page_allows_its_one_script_alone(several_folder):
    text = (several_folder / "report.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    assert html.unescape(policy) == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
        f"'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_text_from_data_is_escaped(several_folder):
    text = (several_folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(&#39;study&#39;)&lt;/script&gt;" in text
    assert "&lt;b&gt;no&lt;/b&gt; is left out: it has no tuned run" in text
    page = Page(text)
    assert page.tags.count("script") == 1  # the page's own
    assert "b" not in page.tags
    assert HOSTILE in page.text
    assert "Names in figures" in page.text
    markdown = (several_folder / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"<(script|img|b>)", markdown)
    assert "| data | 3f1c\\|2b7a |" in markdown
    assert "88aa\\*01bc\\*" in markdown
    rows = [re.sub(r"\\.", "", line) for line in markdown.splitlines() if line.startswith("| ")]
    widths = [row.count("|") for row in rows]
    assert widths[-1] == widths[-2] == 3
    assert f"<bdi>{ARABIC}</bdi>" in text


def test_the_verdict_comes_first_in_page_and_twin(folder, comparison):
    html = page_of(folder).text
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    text = summary(comparison)
    first = markdown.splitlines()[2].replace("\\", "")
    assert first.startswith(f"**{text.verdict}:** {text.headline}")
    order = [text.verdict, text.headline, text.numbers, text.next_steps, text.details[0].text]
    places = [html.index(part) for part in order]
    assert places == sorted(places)
    assert "C1: " in html[places[-1] :]
    headings = re.findall(r"^###? (.*)$", markdown, re.MULTILINE)
    in_page = [text for text in page_of(folder).headings if not text.startswith("C")]
    assert in_page == headings
    order = ["What the answer rests on", "The three claims", "Figures", "All numbers"]
    order += ["Relatedness contrast", "Gains by language"]
    order += ["What is missing", "Runs and provenance", "Runs used", "Provenance"]
    order += ["How to read this"]
    assert [heading for heading in headings if heading in order] == order
    for text in (html, markdown):
        assert "Hebrew (heb" in text
        assert "Nothing." in text


def test_every_claim_has_its_verdict_numbers_and_sentences(several_folder, several):
    html = page_of(several_folder).text
    for claim in claim_texts(by_baseline(several)):
        assert f"{claim.name}: {claim.title}" in html
        for label, value in claim.numbers:
            assert label in html
            assert value in html
        for text in (claim.verdict, claim.conclusion, claim.key_result, *claim.details):
            assert text in html


def test_every_analysis_has_a_table(several_folder):
    page = page_of(several_folder)
    for title in (
        *("Contrast by model", "Contrast in other conditions", "Contrast by seed"),
        *("Adjusted contrast", "Double difference", "Genealogical distance", "Slopes"),
        *("Tuning and chain of thought", "Means by group", "Gains by model"),
        *("Published analysis beside ours", "Published regression"),
        "McNemar intervals by language",
    ):
        beside = title == "Published analysis beside ours"  # a part and its only table
        assert page.headings.count(title) == 1 + beside
        key = f"#{title.lower().replace(' ', '-')}"
        assert (f"{key}-fold" if beside else key) in page.addresses


def test_every_figure_of_the_twin_is_in_the_folder(several_folder):
    markdown = (several_folder / "report.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\((\w+\.png)\)", markdown)
    assert len(linked) == 7
    assert all((several_folder / name).exists() for name in linked)


def test_gains_csv_has_one_row_per_language(folder, comparison):
    rows = pd.read_csv(folder / "gains.csv")
    assert list(rows["code"]) == [row.code for row in comparison.languages]


def test_contrasts_csv_holds_every_estimate_as_a_fraction(several_folder, several):
    rows = pd.read_csv(several_folder / "contrasts.csv", keep_default_na=False, na_values=[""])
    first = rows.iloc[0]
    test = several.contrast.permutation
    assert first["kind"] == "contrast"
    assert first["estimate"] == pytest.approx(several.contrast.estimate)
    assert first["low_95"] == pytest.approx(test.interval_95.low)
    assert first["p"] == pytest.approx(test.p)
    assert first["verdict"] == several.contrast.verdict
    kinds = rows["kind"].value_counts()
    assert kinds["contrast"] == 3 * 4 * 7  # conditions, measures, models and their mean
    assert kinds["seed"] == 6 * 2
    assert kinds["adjusted"] == len(several.adjustments)
    slopes = (several.baseline_slopes, several.ability_slopes, several.gain_agreements)
    assert kinds["slope"] == sum(map(len, slopes))
    assert kinds["double difference"] == 1
    tuned = rows[(rows["condition"] == "tuned") & (rows["measure"] == "accuracy")]
    each = tuned[(tuned["kind"] == "contrast") & tuned["holm_p"].notna()]
    assert list(each["holm_p"]) == pytest.approx(several.conditions["tuned"].holm_p)
    slope = rows[rows["kind"] == "slope"].iloc[0]
    assert slope["naive"] == pytest.approx(several.baseline_slopes[0].test.naive)


def test_a_report_of_few_languages_and_columns_can_be_written(tmp_path):
    few = {code: 0.2 + 0.1 * i for i, code in enumerate((*RELATED[:2], *CONTROL[:2]))}
    before, after = (
        rows.drop(columns=["gold_logprob", "greedy", "forced", "valid"]).assign(
            choice_logprobs=[[]] * len(rows), passage_id="one"
        )
        for rows in pair(few, n=6, base=0.5)
    )
    made = {RunKey("m", Condition.BASE): before, RunKey("m", Condition.TUNED, "arb_Arab"): after}
    comparison = compare(made, source="arb_Arab")
    assert comparison.chance is None
    assert math.isnan(comparison.languages[0].low)
    page = write(comparison, tmp_path, {}, []).read_text(encoding="utf-8")
    assert "∞" not in page
    assert "no 95% interval: 2 related and 2 control languages allow only 6" in page
    assert "<bdi>none</bdi>" in page
    assert "<bdi>n/a</bdi>" in page
    assert "No slope on baseline" in page
    assert "Gold log-probability" not in page


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not shutil.which("chromium"):
        pytest.skip("Chromium is not installed, so no page was opened")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_fits_the_screen_and_requests_nothing(browser, several_folder, width):
    page = several_folder / "report.html"
    requests, messages = browser.open(page, width, "light")
    assert requests == [page.as_uri()]
    assert messages == []
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("[...document.images].every(image => image.naturalWidth > 500)")
    # Wide tables and figures scroll inside the page, and row labels stay visible.
    assert browser.value(
        "[...document.querySelectorAll('.scroll')]"
        ".every(each => each.getBoundingClientRect().right <= innerWidth)"
    )
    label_visible = browser.value(
        "(() => { document.querySelector('a[href=\"#gains-by-language\"]').click();"
        " const s = document.querySelector('#gains-by-language ~ .scroll');"
        " s.scrollLeft = 9999; const label = s.querySelector('tbody th').getBoundingClientRect();"
        " return label.left >= s.getBoundingClientRect().left - 1; })()"
    )
    assert label_visible


def test_the_page_is_dark_if_the_reader_prefers_it(browser, folder):
    shades = {}
    for scheme in ("light", "dark"):
        browser.open(folder / "report.html", 390, scheme)
        shades[scheme] = browser.value("getComputedStyle(document.body).backgroundColor")
    assert shades == {"light": "rgb(255, 255, 255)", "dark": "rgb(27, 27, 27)"}
