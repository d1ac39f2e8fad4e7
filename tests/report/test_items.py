"""Items and answers: the data are those of the predictions, and the page filters them in Chromium."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from browser import Browser
from synthetic_predictions import BASE, gains, study, tables

from isogloss.analysis.comparison import compare
from isogloss.analysis.score_matrix import RunKey
from isogloss.report import items as items_module
from isogloss.report.items import ItemTexts, item_data
from isogloss.report.items_page import items_note, without_items
from isogloss.report.page import write, write_items
from isogloss.tasks import Item
from isogloss.types import Condition, Normalisation

HOSTILE = '</script><img src=x onerror="hacked=1"><script>hacked=1</script>&amp;\u2028'
ARABIC = "سافرت سلمى إلى باريس"
SOURCE = "arb_Arab"
LANGUAGES = (SOURCE, "heb_Hebr", "amh_Ethi", "fra_Latn", "tur_Latn")
ANSWERS = 8 * 24 * len(LANGUAGES)  # of two models tuned on two sources with two seeds


def texts_of(table, options=("one", "two", HOSTILE, ARABIC)):
    """An item of each row, in Arabic script for Arabic and hostile everywhere else."""
    found: dict[str, dict[str, Item]] = {}
    for row in table.itertuples():
        passage = ARABIC if row.language == SOURCE else f"{HOSTILE} {row.item_id}"
        found.setdefault(row.language, {})[row.item_id] = Item(
            row.item_id, row.passage_id, row.language, passage, f"which? {row.item_id}",
            options, row.answer,
        )  # fmt: skip
    return ItemTexts(found)


@pytest.fixture(scope="module")
def runs():
    """Two models in four conditions, with two seeds and two sources."""
    made = study(2, n=24, languages=LANGUAGES)
    rng = np.random.default_rng(0)
    for table in made.values():
        table["choice_logprobs"] = list(-3 * rng.random((len(table), 4)))
    return made


@pytest.fixture(scope="module")
def comparison(runs):
    return compare(runs, source=SOURCE)


@pytest.fixture(scope="module")
def page(runs, comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    data = item_data(comparison, runs, texts_of(next(iter(runs.values()))))
    return write(comparison, folder, {}, [], data)


def outcomes(before, after):
    """The outcome of each answer by (language, item), from the tables themselves."""
    both = before.merge(after, on=["language", "item_id"], suffixes=("_before", "_after"))
    names = {
        (False, True): "turned right",
        (True, False): "turned wrong",
        (True, True): "stayed right",
        (False, False): "stayed wrong",
    }
    pairs = zip(both["correct_before"], both["correct_after"], strict=True)
    return both.assign(outcome=[names[bool(b), bool(a)] for b, a in pairs])


def test_the_data_are_the_answers_and_probabilities_of_the_predictions(runs, comparison):
    data = item_data(comparison, runs, texts_of(next(iter(runs.values()))))
    assert [language["name"] for language in data["languages"]] == sorted(
        row.name for row in comparison.languages
    )
    keys = list(runs)
    order = [
        (language["code"], item[0]) for language in data["languages"] for item in language["items"]
    ]
    assert len(order) == data["total"] == len(runs[keys[0]])
    for key, answers in zip(keys, data["runs"], strict=True):
        table = runs[key].set_index(["language", "item_id"]).loc[order]
        assert answers["correct"] == "".join(str(int(value)) for value in table["correct"])
        assert answers["choices"] == table["forced"].tolist()
        logprobs = np.array(table["choice_logprobs"].tolist())
        shares = np.exp(logprobs) / np.exp(logprobs).sum(axis=1, keepdims=True)
        assert np.abs(np.array(answers["probabilities"]) / 1000 - shares).max() <= 0.0005001
    # Two models, two sources, two seeds; the second run of each pair is tuned.
    assert len(data["pairs"]) == 8
    for pair in data["pairs"]:
        before, after = keys[pair["before"]], keys[pair["after"]]
        assert before == RunKey(pair["model"], Condition.BASE)
        assert (after.model, after.condition) == (pair["model"], Condition.TUNED)
        assert f"seed {after.seed}" in pair["adapter"]
        conditions = {keys[run].condition for run in pair["shown"]}
        own = after.source == SOURCE and after.seed == "0"
        assert conditions == {"base", "base+cot", "tuned"} | ({"tuned+cot"} if own else set())


def test_generated_answers_and_imports_without_choices_have_what_was_recorded():
    made = tables(gains(0.1, 0.1), n=8)
    generated = {run: table.assign(format="generate") for run, table in made.items()}
    data = item_data(compare(generated, source=SOURCE), generated, ItemTexts({}, "none here."))
    before = generated[BASE].sort_values(["language", "item_id"])
    assert sorted(data["runs"][0]["choices"]) == sorted(before["greedy"])
    assert -1 in data["runs"][0]["choices"]
    lean = {
        run: table[["task", "format", "language", "item_id", "passage_id", "correct"]]
        for run, table in made.items()
    }
    data = item_data(compare(lean, source=SOURCE), lean, ItemTexts({}, "none here."))
    assert data["runs"][0]["choices"] is None
    assert data["runs"][0]["probabilities"] is None
    assert data["languages"][0]["items"][0] == ("item-000", -1, "", [], -1)
    assert data["missing"] == "none here."


@pytest.mark.parametrize("normalisation", ["length", "unconditional"])
def test_of_normalised_scores_the_shares_are_those_that_decide(runs, comparison, normalisation):
    """A longer option has the lowest probability and the highest score per character."""
    rng = np.random.default_rng(1)
    options = ("a", "bb", "three", "a very long option")
    cloze, deciding = {}, {}
    for key, table in runs.items():
        alone = -9 * rng.random((len(table), 4))
        logprobs = alone - rng.random((len(table), 4))
        ranked = (
            logprobs - alone
            if normalisation == "unconditional"
            else (logprobs / np.array([len(option) for option in options]))
        )
        deciding[key] = np.exp(ranked) / np.exp(ranked).sum(axis=1, keepdims=True)
        cloze[key] = table.assign(
            choice_logprobs=list(logprobs), forced=ranked.argmax(axis=1),
            unconditional_logprobs=list(alone) if normalisation == "unconditional" else None,
        )  # fmt: skip
    texts = texts_of(next(iter(runs.values())), options)
    asked = replace(comparison, format="cloze")
    data = item_data(asked, cloze, texts, Normalisation(normalisation))
    order = [
        (language["code"], item[0]) for language in data["languages"] for item in language["items"]
    ]
    for key, answers in zip(runs, data["runs"], strict=True):
        at = cloze[key].reset_index().set_index(["language", "item_id"]).loc[order, "index"]
        assert np.abs(np.array(answers["shares"]) / 1000 - deciding[key][at]).max() <= 0.0005001
        highest = np.max(answers["shares"], axis=1)
        chosen = np.take_along_axis(
            np.array(answers["shares"]), np.array(answers["choices"])[:, None], axis=1
        )
        assert (chosen[:, 0] == highest).all()
        assert answers["shares"] != answers["probabilities"]
    assert "the option with the highest is the answer" in items_note(data, asked)
    without = item_data(asked, cloze, ItemTexts({}), Normalisation(normalisation))
    assert (without["runs"][0]["shares"] is None) == (normalisation == "length")
    letters = item_data(comparison, cloze, texts, Normalisation.NONE)
    assert letters["runs"][0]["shares"] is None
    assert "probabilities of the options" in items_note(letters, comparison)


@pytest.mark.parametrize("normalisation", [Normalisation.LENGTH, Normalisation.UNCONDITIONAL])
def test_an_item_with_an_impossible_option_has_no_shares(runs, comparison, normalisation):
    cloze = {
        key: table.assign(
            choice_logprobs=[[-np.inf, -1.0, -2.0, -3.0], *table["choice_logprobs"][1:]],
            unconditional_logprobs=[[-1.0, -2.0, -3.0, -4.0]] * len(table),
        )
        for key, table in runs.items()
    }
    texts = texts_of(next(iter(runs.values())), ("a", "bb", "three", "a very long option"))
    data = item_data(replace(comparison, format="cloze"), cloze, texts, normalisation)
    for answers in data["runs"]:
        assert [len(each) for each in answers["shares"]].count(0) == 1
        assert [len(each) for each in answers["probabilities"]].count(0) == 1


def test_the_page_shows_the_share_that_decides_and_the_probability_below(
    browser, runs, comparison, tmp_path
):
    options = ("a", "bb", "three", "a very long option")
    texts = texts_of(next(iter(runs.values())), options)
    cloze = replace(comparison, format="cloze")
    data = item_data(cloze, runs, texts, Normalisation.LENGTH)
    write_items(cloze, data, tmp_path / "items.html")
    browser.open(tmp_path / "items.html", 390, "light")
    choose(browser, language="heb_Hebr", model="model-0", text="which? item-003")
    table = runs[RunKey("model-0", Condition.BASE)]
    (row,) = table[(table["language"] == "heb_Hebr") & (table["item_id"] == "item-003")].to_dict(
        "records"
    )
    for place, option in enumerate(options):
        scores = np.array(row["choice_logprobs"]) / np.array([len(each) for each in options])
        share, probability = (
            100 * np.exp(values[place]) / np.exp(values).sum()
            for values in (scores, np.array(row["choice_logprobs"]))
        )
        answered = " answered" if row["forced"] == place else ""
        cell = f"document.querySelectorAll('#items-list tbody tr')[{place}].cells[1].textContent"
        expected = f"{share:.1f}%{answered} probability {probability:.1f}%"
        assert " ".join(browser.value(cell).split()) == expected, option
    assert browser.value("document.documentElement.scrollWidth") <= 390
    choose(browser, text="no such text")
    count = browser.value("document.getElementById('items-count').textContent")
    assert count == f"0 of {ANSWERS} answers. No item matches these filters."


def test_of_very_many_answers_the_first_items_of_each_language_are_shown(
    runs, comparison, monkeypatch
):
    monkeypatch.setattr(items_module, "MOST_ROWS", 8 * 5 * len(comparison.languages))
    data = item_data(comparison, runs, ItemTexts({}))
    assert {len(language["items"]) for language in data["languages"]} == {5}
    assert {len(run["correct"]) for run in data["runs"]} == {5 * len(comparison.languages)}
    assert data["total"] == 24 * len(comparison.languages)


def test_many_items_have_a_page_of_their_own(runs, comparison, tmp_path, monkeypatch):
    monkeypatch.setattr("isogloss.report.page.MOST_WITHIN", 1000)
    monkeypatch.setattr("isogloss.report.page.figures", lambda _: {})
    data = item_data(comparison, runs, texts_of(next(iter(runs.values()))))
    report = write(comparison, tmp_path, {}, [], data).read_text(encoding="utf-8")
    beside = (tmp_path / "items.html").read_text(encoding="utf-8")
    assert 'href="items.html"' in report
    assert "items-data" not in re.sub(r"<script>.*?</script>", "", report, flags=re.DOTALL)
    (text,) = re.findall(r'<script type="application/json" id="items-data">(.*?)</script>', beside)
    assert json.loads(text) == json.loads(json.dumps(data))
    assert not set("<>&\u2028") & set(text)


def test_a_published_copy_has_no_item_and_says_so(browser, page, tmp_path):
    copy = tmp_path / "copy.html"
    copy.write_text(without_items(page.read_text(encoding="utf-8")), encoding="utf-8")
    text = copy.read_text(encoding="utf-8")
    assert "items-data" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "which? item-003" not in text
    _, messages = browser.open(copy, 1280, "light")
    assert messages == []
    assert browser.value("document.getElementById('items-browser').hidden")
    assert "left out of this copy" in browser.value("document.getElementById('items').textContent")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not shutil.which("chromium"):
        pytest.skip("Chromium is not installed, so no page was opened")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def choose(browser, **filters):
    """Set filters as a reader does; return the number of answers that the page then counts."""
    for name, value in filters.items():
        kind = "input" if name == "text" else "change"
        browser.value(
            f"(() => {{ const field = document.getElementById('items-{name}');"
            f" field.value = {json.dumps(value)};"
            f" field.dispatchEvent(new Event('{kind}')); }})(), 0"
        )
    shown = browser.value(
        "new Promise(done => setTimeout(() => "
        "done(document.getElementById('items-count').textContent), 250))",
        wait=True,
    )
    return int(shown.split(" of ")[0].replace(",", ""))


def test_filters_count_what_the_predictions_say(browser, runs, page):
    requests, messages = browser.open(page, 1280, "light")
    assert requests == [page.as_uri()]
    assert messages == []
    by_pair = {
        run: outcomes(runs[RunKey(run.model, Condition.BASE)], table)
        for run, table in runs.items()
        if run.condition == Condition.TUNED
    }
    assert choose(browser) == sum(map(len, by_pair.values())) == ANSWERS
    for outcome in ("turned right", "turned wrong", "stayed right", "stayed wrong"):
        expected = sum(int((rows["outcome"] == outcome).sum()) for rows in by_pair.values())
        assert choose(browser, outcome=outcome) == expected
    chosen = by_pair[RunKey("model-1", Condition.TUNED, "eng_Latn", "1")]
    hebrew = chosen[(chosen["language"] == "heb_Hebr") & (chosen["outcome"] == "turned right")]
    assert len(hebrew)
    filters = {"language": "heb_Hebr", "model": "model-1", "adapter": "English, seed 1"}
    assert choose(browser, outcome="turned right", **filters) == len(hebrew)
    shown = browser.value("document.querySelectorAll('#items-list > li').length")
    assert shown == len(hebrew)
    assert choose(browser, outcome="", text="WHICH? item-007") == 1
    assert choose(browser, text="no such text") == 0


def test_a_card_has_the_texts_the_right_option_and_every_answer(browser, runs, page):
    browser.open(page, 1280, "light")
    choose(browser, language="heb_Hebr", model="model-0", text="which? item-003")
    choose(browser, adapter="Standard Arabic, seed 0")
    cells = "[...row.cells].map(cell => cell.textContent).join(' ')"
    rows = f"[...document.querySelectorAll('#items-list li tr')].map(row => {cells})"
    rows = [" ".join(row.split()) for row in json.loads(browser.value(f"JSON.stringify({rows})"))]
    assert rows[0] == "Option base base+cot tuned+cot tuned"
    assert rows[1].startswith("one ")
    assert rows[4].startswith(f"{ARABIC} right answer")
    order = [
        RunKey("model-0", Condition.BASE),
        RunKey("model-0", Condition.BASE_COT),
        RunKey("model-0", Condition.TUNED_COT, SOURCE, "0"),
        RunKey("model-0", Condition.TUNED, SOURCE, "0"),
    ]
    for place, run in enumerate(order):
        (row,) = (
            row
            for row in runs[run].to_dict("records")
            if (row["language"], row["item_id"]) == ("heb_Hebr", "item-003")
        )
        shares = np.exp(row["choice_logprobs"]) / np.exp(row["choice_logprobs"]).sum()
        expected = f"{100 * round(shares[row['forced']], 3):.1f}% answered"
        column = (
            f"document.querySelectorAll('#items-list tbody tr')[{row['forced']}].cells[{place + 1}]"
        )
        assert " ".join(browser.value(f"{column}.textContent").split()) == expected
        counted = f"document.querySelectorAll('#items-list tbody tr')[4].cells[{place + 1}]"
        assert browser.value(f"{counted}.textContent") == ("right" if row["correct"] else "wrong")


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_texts_are_text_and_arabic_runs_from_right_to_left(browser, page, width):
    browser.open(page, width, "light")
    browser.value("document.querySelector('a[href=\"#items\"]').click(), 0")
    choose(browser, language="heb_Hebr")
    assert browser.value("document.querySelector('#items-list .passage').textContent").startswith(
        HOSTILE
    )
    assert browser.value("typeof hacked") == "undefined"
    assert (
        browser.value("document.querySelectorAll('#items-list img, #items-list script').length")
        == 0
    )
    style = "getComputedStyle(document.querySelector('#items-list .passage')).direction"
    assert browser.value(style) == "ltr"
    choose(browser, language=SOURCE)
    assert browser.value(style) == "rtl"
    assert browser.value("document.documentElement.scrollWidth") <= width


def test_the_keyboard_reaches_every_filter_and_more_rows(browser, page):
    browser.open(page, 1280, "light")
    assert browser.value("document.querySelector('#items').closest('details').open") is False
    browser.value("document.querySelector('a[href=\"#items\"]').click(), 0")
    assert browser.value("document.querySelector('#items').closest('details').open") is True
    reached = []
    browser.value("document.getElementById('items-language').focus(), 0")
    for _ in range(5):
        reached.append(browser.value("document.activeElement.id"))
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
    assert reached == [f"items-{n}" for n in ("language", "outcome", "model", "adapter", "text")]
    shown = "document.querySelectorAll('#items-list > li').length"
    assert browser.value(shown) == 50
    browser.value("document.getElementById('items-more').focus(), 0")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r",
                 windowsVirtualKeyCode=13)  # fmt: skip
    assert browser.value(shown) == 100
    first_new = (
        "[...document.getElementById('items-list').children].indexOf(document.activeElement)"
    )
    assert browser.value(first_new) == 50


def test_printing_opens_every_fold_and_closes_those_that_were_closed(browser, page):
    browser.open(page, 1280, "light")
    closed = "document.querySelectorAll('details:not([open])').length"
    before = browser.value(closed)
    assert before >= 8
    browser.value("document.querySelector('details').open = true, 0")
    browser.value("dispatchEvent(new Event('beforeprint')), 0")
    assert browser.value(closed) == 0
    browser.value("dispatchEvent(new Event('afterprint')), 0")
    assert browser.value(closed) == before - 1


def test_the_page_works_in_the_frame_of_mlflows_viewer(browser, page, tmp_path):
    """MLflow shows HTML in a frame that has scripts and no origin, from a blob."""
    text = json.dumps(page.read_text(encoding="utf-8")).replace("<", "\\u003c")
    viewer = tmp_path / "viewer.html"
    viewer.write_text(
        f"<meta charset=utf-8><iframe sandbox='allow-scripts'></iframe><script>"
        f"const frame = document.querySelector('iframe');"
        f"frame.src = URL.createObjectURL(new Blob([{text}], {{type: 'text/html'}}));"
        f"</script>",
        encoding="utf-8",
    )
    browser.open(viewer, 1280, "light")
    with browser.frame("blob:"):
        assert choose(browser) == ANSWERS
        assert 0 < choose(browser, outcome="turned right") < ANSWERS


def test_a_hundred_thousand_answers_are_filtered_at_once(browser, runs, comparison, tmp_path):
    """Rows become elements only when they are shown."""
    times = 100_000 // ANSWERS + 1
    data = item_data(comparison, runs, texts_of(next(iter(runs.values()))))
    data["languages"] = data["languages"] * times
    for run in data["runs"]:
        for name in ("correct", "choices", "probabilities"):
            run[name] = run[name] * times
    write_items(comparison, data, tmp_path / "items.html")
    browser.open(tmp_path / "items.html", 1280, "light")
    assert choose(browser) == times * ANSWERS > 100_000
    took = browser.value(
        "(() => { const field = document.getElementById('items-outcome');"
        " field.value = 'turned right'; const start = performance.now();"
        " field.dispatchEvent(new Event('change')); return performance.now() - start; })()"
    )
    assert took < 1000  # ms; tens of them on an idle machine
    right = sum(
        int(
            (
                outcomes(runs[RunKey(run.model, Condition.BASE)], table)["outcome"]
                == "turned right"
            ).sum()
        )
        for run, table in runs.items()
        if run.condition == Condition.TUNED
    )
    assert choose(browser) == times * right
    assert browser.value("document.querySelectorAll('#items-list > li').length") == 50
