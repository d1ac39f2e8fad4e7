"""The verdict of a report: short sentences, labelled lines, and no claim beyond the data."""

import math
import re
from dataclasses import replace

import pytest
from synthetic_predictions import BASE, CONTROL, RELATED, TUNED, gains, pair, study, tables

from isogloss.analysis.comparison import Comparison, QuickLook, compare
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import RunKey
from isogloss.formatting import interval_points, points
from isogloss.report import contrast_figure
from isogloss.report.claims import claim_texts
from isogloss.report.content import report_content
from isogloss.report.estimate_tables import estimate_tables
from isogloss.report.markdown import markdown
from isogloss.report.next_steps import fewest_controls, next_steps
from isogloss.report.note import answer, note
from isogloss.report.omissions import omission_sentence
from isogloss.report.verdict import summary
from isogloss.stats.permutation import attained_level
from isogloss.stats.power import equivalence
from isogloss.types import Condition, Interval, Verdict

NO_VERDICT = (
    "Without other sources this is no verdict on kinship: it is not known whether these languages "
    "would gain as much from any source."
)


def one_model(related: float, control: float, spread: float = 0.01, n: int = 200) -> Comparison:
    return compare(tables(gains(related, control, spread), n=n), source="arb_Arab")


def few_languages(n_related: int, n_control: int) -> Comparison:
    codes = (*RELATED[:n_related], *CONTROL[:n_control])
    return compare(
        tables({code: 0.1 + 0.01 * i for i, code in enumerate(codes)}), source="arb_Arab"
    )


def lines(comparison: Comparison) -> dict[str, str]:
    return {line.label: line.text for line in summary(comparison).details}


def seeds(n: int, sources: tuple[str, ...] = ("arb_Arab",), models: int = 1) -> Comparison:
    return compare(study(models, seeds=n, sources=sources, n=40), source="arb_Arab")


@pytest.fixture(scope="module")
def several() -> Comparison:
    """Six models with two seeds and two sources."""
    return compare(study(n=40), source="arb_Arab")


def test_the_summary_is_short_sentences_and_short_labelled_lines():
    codes = {"arb_Arab": 0.15, "ary_Arab": 0.1, **gains(0.1, 0.09)}
    comparison = compare(tables(codes), source="arb_Arab")
    text = summary(comparison)
    for paragraph, most in ((text.headline, 1), (text.numbers, 2), (text.next_steps, 1)):
        sentences = re.split(r"(?<=[.]) ", paragraph)
        assert len(sentences) <= most, paragraph
        assert all(len(sentence.split()) < 50 for sentence in sentences), paragraph
    for label, line in text.details:
        assert 0 < len(label) < 30
        assert line.endswith(".")
        assert len(line.split()) < 60, line
    assert re.fullmatch(
        r"With fine-tuning on Standard Arabic, the mean gain on belebele \(letter format\) is "
        r"\+\d+\.\d points in 4 related \(Semitic\) and \+\d\.\d points in 12 control languages: "
        r"a contrast of [+−]?\d\.\d points \(95% interval \[.*\], p = 0\.\d+, exact permutation "
        r"test\)\. " + re.escape(NO_VERDICT),
        text.numbers,
    )
    details = dict(text.details)
    assert "over 18 languages (accuracy 40.0% to 49." in details["Gain everywhere"]
    assert "4 of 4 related and 12 of 12 control languages" in details["Gain everywhere"]
    assert details["Outside the contrast"] == (
        "Standard Arabic +15.0 points and 1 variety of it +10.0 points."
    )
    assert details["Valid answers"] == "50.0% before, 100.0% after."
    assert details["Seeds"].startswith("1 seed; the between-seed variance is unknown")


def test_equivalent_means_smaller_than_the_margin():
    comparison = one_model(0.1, 0.1)
    text = summary(comparison)
    assert text.verdict == "Equivalent"
    assert text.headline == (
        "relatives of Standard Arabic gained as much as the other languages, to within ±3.0 points."
    )
    assert text.numbers.endswith(NO_VERDICT)
    line = lines(comparison)["Equivalence"]
    assert (
        re.match(
            r"shown, the 90% interval \[.*\] lies within ±3\.0 points \(two .* tests: p = 0\.\d+\)",
            line,
        )
        or "p < 0.001" in line
    )
    assert "detectably" not in line


def test_equivalent_but_different_from_zero_says_both():
    comparison = one_model(0.115, 0.1, spread=0.002, n=1000)
    assert summary(comparison).verdict == "Equivalent"
    assert lines(comparison)["Equivalence"].endswith(
        "; within the margin, relatives gain detectably more."
    )


def with_contrast(comparison: Comparison, contrast) -> Comparison:
    result = comparison.conditions[comparison.condition]
    contrasts = {**result.overall.contrasts, "accuracy": contrast}
    overall = replace(result.overall, contrasts=contrasts)
    conditions = {comparison.condition: replace(result, overall=overall)}
    return replace(comparison, conditions={**comparison.conditions, **conditions})


@pytest.mark.parametrize(("related", "way"), [(0.3, "more"), (-0.1, "less")])
def test_a_difference_has_its_direction_and_its_size_against_the_margin(related, way):
    comparison = one_model(related, 0.1)
    text = summary(comparison)
    assert text.verdict == "Difference seen"
    assert text.headline == (f"relatives of Standard Arabic gained {way} than the other languages.")
    assert text.numbers.endswith(NO_VERDICT)
    details = lines(comparison)
    assert "lies beyond ±3.0 points; the difference is larger than" in details["Equivalence"]
    assert "confirm" not in details["Welch's t test"]


def test_a_difference_that_may_be_small_is_not_called_larger_than_the_margin():
    comparison = one_model(0.15, 0.1, spread=0.03)
    assert comparison.contrast.verdict == Verdict.RELATED_GAIN_MORE
    assert (
        "extends beyond ±3.0 points; the difference is not shown to be larger"
        in (lines(comparison)["Equivalence"])
    )


def test_welch_is_shown_for_groups_of_four_or_more_languages():
    assert "Welch's t test" in lines(one_model(0.3, 0.1))
    few = few_languages(3, 12)
    assert "Welch's t test" not in lines(few)
    assert "Welch" not in note(few)


def test_a_significant_estimate_below_the_detectable_effect_is_said_to_exaggerate():
    comparison = one_model(0.15, 0.1, spread=0.03)
    contrast = comparison.contrast
    sentence = "exaggerates, usually 1.4 to 3 times (Gelman and Carlin 2014)"
    assert contrast.verdict == Verdict.RELATED_GAIN_MORE
    large = contrast._replace(minimum_detectable_effect=contrast.estimate + 0.001)
    small = contrast._replace(minimum_detectable_effect=contrast.estimate - 0.001)
    assert sentence in lines(with_contrast(comparison, large))["Sensitivity"]
    assert sentence not in lines(with_contrast(comparison, small))["Sensitivity"]


def test_the_correlation_within_families_that_a_result_survives_is_named():
    comparison = one_model(0.15, 0.1, spread=0.03)
    falls_at = comparison.family_correlation.falls_at
    assert 0 < falls_at < 1
    line = lines(comparison)["Families"]
    assert f"falls if gains correlate by {falls_at:.2f} or more within families" in line
    assert line.endswith("one control per family is best, and these 12 are of 11 branches.")
    assert "would only widen" in lines(one_model(0.12, 0.1, spread=0.1))["Families"]


def test_nothing_to_compare_has_its_reason_with_numbers():
    text = summary(one_model(0.0, 0.0))
    assert text.verdict == "Nothing to compare"
    assert re.fullmatch(
        r"the mean gain of 0\.0 points does not differ from zero \(95% interval \[.*\]\)\.",
        text.headline,
    )
    assert text.next_steps == (
        "What would settle it: a mean gain, from more training, items or seeds, or other models."
    )
    kinship = claim_texts(one_model(0.0, 0.0))[0]
    assert kinship.conclusion == f"Nothing to compare: {text.headline}"
    at_chance = compare(tables(gains(0.0, 0.0), base=0.25), source="arb_Arab")
    assert summary(at_chance).headline == (
        "accuracy is not shown to be above chance (25.0%), neither before (25.0%) nor after (25.0%)."
    )


def test_varieties_that_count_once_are_mentioned():
    turkic = {"azj_Latn": 0.1, "kaz_Cyrl": 0.12, "uzn_Latn": 0.11}
    controls = {"arb_Arab": 0.1, "ary_Arab": 0.1, "deu_Latn": 0.12, "fra_Latn": 0.1}
    comparison = compare(
        {
            BASE: (runs := pair({**turkic, **controls}, n=40))[0],
            TUNED._replace(source="tur_Latn"): runs[1],
        },
        source="tur_Latn",
    )
    assert lines(comparison)["Outside the contrast"] == (
        "Varieties and scripts of one language count once in the contrast: 7 make 6 languages."
    )


def test_inconclusive_is_not_worded_as_no_difference():
    comparison = one_model(0.12, 0.1, spread=0.1)
    text = note(comparison)
    assert text.startswith(
        "No difference seen: these runs show neither that relatives of Standard "
    )
    assert "nor that they gained equally" in text
    assert "the absence of a clear difference is not evidence of equal gains" in text
    assert "C1: No difference between these groups of languages was seen, and it was not" in text
    for claimed in ("no evidence", "there is no difference", "no effect", "gained as much"):
        assert claimed not in text.lower()


@pytest.mark.parametrize(("n_related", "n_control"), [(2, 2), (2, 3), (2, 7), (3, 3)])
def test_too_few_relabellings_for_an_interval_are_named(n_related, n_control):
    comparison = few_languages(n_related, n_control)
    text = summary(comparison)
    relabellings = math.comb(n_related + n_control, n_related)
    assert (
        f"no 95% interval: {n_related} related and {n_control} control languages allow only "
        f"{relabellings} relabellings of the 40 needed"
    ) in text.numbers
    assert f"at least {fewest_controls(n_related)} control languages" in text.next_steps
    assert ("of the 20 needed" in lines(comparison)["Equivalence"]) == (relabellings < 20)
    assert (
        f"need at least {fewest_controls(n_related)} controls" in lines(comparison)["Sensitivity"]
    )


@pytest.mark.parametrize("n_related", [2, 3, 4, 6])
def test_the_recommended_controls_are_the_fewest_that_can_reach_significance(n_related):
    fewest = fewest_controls(n_related)
    assert attained_level(n_related, fewest, 0.05) > 0
    assert fewest == 2 or attained_level(n_related, fewest - 1, 0.05) == 0


@pytest.mark.parametrize(
    "made",
    [
        lambda: few_languages(2, 2),
        lambda: few_languages(2, 8),
        lambda: few_languages(3, 3),
        lambda: one_model(0.1, 0.1, spread=0),
        lambda: one_model(0.3, 0.1),
    ],
    ids=["2+2", "2+8", "3+3", "no spread", "more"],
)
def test_no_infinity_and_no_nan_is_printed(made):
    text = note(made())
    for symbol in ("∞", "nan", "n/a", "inf", "unbounded"):
        assert symbol not in text.lower()


def test_gains_that_do_not_vary_have_no_minimum_detectable_effect():
    assert "no minimum detectable effect" in lines(one_model(0.1, 0.1, spread=0))["Sensitivity"]


def test_the_recommended_languages_have_80_percent_power_of_equivalence():
    comparison = one_model(0.12, 0.1, spread=0.1)
    steps = next_steps(comparison)
    enough = int(re.search(r"about (\d+) related and \1 control languages", steps)[1])
    spread = comparison.contrast.spread
    assert equivalence(spread, enough, enough, 0.03) >= 0.8
    assert equivalence(spread, enough - 1, enough - 1, 0.03) < 0.8
    assert "but FLORES-200 has only 4 related ones" in steps
    needed = re.search(r"needs a spread of (\d+\.\d) points", lines(comparison)["Sensitivity"])
    assert equivalence(float(needed[1]) / 100 - 0.0006, 4, 12, 0.03) >= 0.8
    assert equivalence(float(needed[1]) / 100 + 0.0006, 4, 12, 0.03) < 0.8


def test_next_steps_name_seeds_and_sources_until_there_are_enough():
    single = seeds(1)
    sources = "sources of at least four branches, each"
    assert re.match(
        f"What would settle it: {sources} .* and at least 3 seeds \\(or, with a single source, about ",
        next_steps(single),
    )
    assert "one source cannot separate kinship" in lines(single)["Second source"]
    assert "between-seed variance is unknown" in lines(single)["Seeds"]
    two = seeds(2, sources=("arb_Arab", "eng_Latn"))
    assert "at least 3 seeds" in next_steps(two)
    assert sources in next_steps(two)
    assert "between-seed variance is poorly known" in lines(two)["Seeds"]
    assert lines(two)["Second source"].startswith("double difference ")
    assert lines(two)["Second source"].endswith("that is not there in 13% of studies.")
    three = seeds(3, sources=("arb_Arab", "eng_Latn"))
    assert "seed" not in next_steps(three)
    by_seed = ", ".join(
        f"{100 * value:+.1f}".replace("-", "−") for value in three.overall.contrast_by_seed
    )
    assert lines(three)["Seeds"].startswith(f"3 seeds, contrasts of {by_seed} points; seeds show ")


def test_runs_of_a_quick_look_have_no_answer_and_no_advice():
    full = compare(tables(gains(0.12, 0.1), n=4), source="arb_Arab")
    look = replace(full, quick=QuickLook(4, "mlflow run . -e main"))
    text, plain = summary(look), summary(full)
    assert f"{text.verdict}: {text.headline}" == (
        "Quick look: 4 items per language and 4 steps show what a study does, and are no result; "
        "run the same command without quick."
    )
    assert (text.numbers, text.command) == ("", "mlflow run . -e main")
    assert text.next_steps == "The same command without quick:"
    assert text.details[0].text == f"{plain.verdict}: {plain.headline} {plain.numbers}"
    assert list(text.details[1:]) == list(plain.details)
    assert note(look) == (
        f"Quick look: {text.headline}\n\n{text.next_steps}\n\n    mlflow run . -e main"
    )
    failed = Omission(OmissionReason.FAILED_CELLS, cells=("small · base",), problem="no memory.")
    assert answer(replace(look, omissions=[failed])) == note(look)
    assert answer(full) == "\n\n".join(
        [f"{plain.verdict}: {plain.headline}", plain.numbers, plain.next_steps]
        + ([f"    {plain.command}"] if plain.command else [])
    )
    assert answer(replace(full, omissions=[failed])) == (
        f"{answer(full)}\n\n- Left out: {omission_sentence(failed)}"
    )
    unknown = summary(replace(full, quick=QuickLook()))
    assert unknown.headline.startswith("4 items per language and a few steps show what a study")
    assert unknown.next_steps == "The same command without quick=true."
    page = markdown(report_content(look, [], {}, []))
    assert page.index("Quick look") < page.index("mlflow run") < page.index("These numbers")
    assert page.index("These numbers") < page.index("points in 4 related")


def test_one_or_two_sources_never_settle_a_claim_on_kinship():
    comparison = seeds(3, sources=("arb_Arab", "eng_Latn"))
    settled = with_contrast(comparison, comparison.contrast._replace(verdict=Verdict.EQUIVALENT))
    (double,) = settled.double_differences
    conclusive = replace(double, contrast=double.contrast._replace(verdict=Verdict.EQUIVALENT))
    assert next_steps(replace(settled, double_differences=(conclusive,))) == (
        "What would make it a claim: sources of at least four branches, each with relatives among "
        "the targets (the crossed design)."
    )


def test_a_second_source_of_the_same_branch_cannot_separate_kinship():
    comparison = seeds(3, sources=("arb_Arab", "heb_Hebr"))
    assert comparison.double_differences == ()
    assert comparison.other_sources == ("heb_Hebr",)
    assert lines(comparison)["Second source"] == (
        "Hebrew; another source of the same branch (Semitic) cannot separate kinship."
    )
    assert "With so few sources this is no verdict on kinship" in summary(comparison).numbers


def test_two_sources_are_too_few_for_a_verdict():
    comparison = seeds(3, sources=("arb_Arab", "eng_Latn"))
    more = comparison.contrast._replace(verdict=Verdict.RELATED_GAIN_MORE)
    text = summary(with_contrast(comparison, more))
    assert text.headline == "relatives of Standard Arabic gained more than the other languages."
    assert "With so few sources this is no verdict on kinship: " in text.numbers


def test_chain_of_thought_alone_needs_neither_seeds_nor_a_second_source():
    before, after = pair(gains(0.12, 0.1, 0.1))
    runs = {RunKey("m", Condition.BASE): before, RunKey("m", Condition.BASE_COT): after}
    comparison = compare(runs, source="arb_Arab", condition=Condition.BASE_COT)
    assert not {"Seeds", "Second source"} & set(lines(comparison))
    assert "seed" not in next_steps(comparison)
    assert "source" not in next_steps(comparison)
    assert summary(comparison).numbers.endswith(
        ". It says nothing of transfer, since nothing was fine-tuned."
    )


def test_several_models_are_averaged_and_their_seeds_counted_per_model(several):
    text = summary(several)
    assert "(letter format, mean of 6 models)" in text.numbers
    assert "at least 3 seeds per model" in text.next_steps
    assert lines(several)["Seeds"].startswith("2 seeds per model; ")
    assert lines(several)["Adjusted"].startswith(
        f"a check, the contrast of {points(several.contrast.estimate)} points counts: "
    )
    assert "p = " in lines(several)["Adjusted"]
    assert "Freedman-Lane permutation" in lines(several)["Adjusted"]
    assert (
        "in relatives of Standard Arabic against 11 languages related to neither"
        in (lines(several)["Second source"])
    )


def test_the_note_ends_with_a_line_or_two_per_claim(several):
    text = note(several)
    claims = [line for line in text.splitlines() if re.match(r"- C[123]: ", line)]
    assert [line[2:4] for line in claims] == ["C1", "C2", "C3"]
    assert all(len(line.split()) < 60 for line in claims)
    assert "cross" not in claims[0]
    assert "points of gain per 10 points of lower baseline" in claims[1]
    assert "Accuracy after tuning minus accuracy with chain of thought" in claims[2]
    assert len(text) < 5000  # MLflow's limit for tags


def test_validity_that_was_not_measured_is_not_reported():
    runs = {run: rows.assign(valid=None) for run, rows in tables(gains(0.1, 0.09), n=40).items()}
    assert "Valid answers" not in lines(compare(runs, source="arb_Arab"))


def test_claims_without_the_runs_they_need_say_which():
    kinship, weak, thinking = claim_texts(one_model(0.1, 0.09))
    assert kinship.verdict == "equivalent"
    assert thinking.verdict == "not tested"
    assert (
        thinking.conclusion
        == "It needs runs of one model in the conditions base, tuned and base+cot."
    )
    one = {run: rows.assign(passage_id="one") for run, rows in tables(gains(0.1, 0.09)).items()}
    weak = claim_texts(compare(one, source="arb_Arab"))[1]
    assert weak.verdict == "not tested"
    assert "at least two passages" in weak.conclusion
    assert (weak.numbers, weak.key_result) == ([], "")


def test_claims_give_slope_interval_p_and_naive_slope(several):
    _, weak, thinking = claim_texts(several)
    test = several.baseline_slopes[-1].test
    numbers = dict(weak.numbers)
    assert numbers["Slope"] == f"−{abs(test.slope):.2f} points per point"
    assert (
        numbers["95% interval"]
        == f"[−{abs(test.interval.low):.2f}, −{abs(test.interval.high):.2f}]"
    )
    assert weak.conclusion.startswith(
        "First half borne out: weaker baselines gain more. Second half "
    )
    (every,) = [line for line in weak.details if line.startswith("In every language: ")]
    assert re.search(r"; weak models \(m\S.*\): .* of \d+ pairs of model and language, ", every)
    assert any(line.startswith("Whatever the family: ") for line in weak.details)
    assert f"{-10 * test.slope:+.1f} points of gain per 10 points of lower baseline" in (
        weak.key_result
    )
    assert "correlation of both gains at equal baseline" in thinking.details[1]
    assert thinking.details[1].startswith("Described, without a verdict. Over 6 models: ")
    assert thinking.details[0].startswith("By model, of 6 (Holm-adjusted): ")
    difference = several.gain_agreements[-1].difference
    assert f"{100 * difference.estimate:+.1f} points (95%".replace("-", "−") in thinking.key_result


@pytest.mark.parametrize(
    ("interval", "text"),
    [((-math.inf, math.inf), "not estimable"), ((-0.5, math.inf), "≥ −0.50")],
)
def test_a_slope_without_a_bound_is_not_given_an_infinite_interval(several, interval, text):
    *others, slope = several.baseline_slopes
    test = slope.test._replace(interval=Interval(*interval))
    lost = replace(several, baseline_slopes=(*others, replace(slope, test=test)))
    weak = claim_texts(lost)[1]
    assert text in dict(weak.numbers).values()
    assert "∞" not in weak.key_result + note(lost)
    assert weak.conclusion.startswith("First half open: ")


def test_claims_over_few_models_say_that_the_claim_is_about_models(several):
    few = seeds(1, models=2)
    assert "needs at least five" in claim_texts(few)[1].conclusion
    assert claim_texts(few)[1].verdict == "not tested"
    assert not any("needs at least five" in line for line in claim_texts(several)[1].details)


def test_an_extrapolated_adjustment_is_named_and_its_numbers_are_not_shown(several):
    assert any(each.contrast for each in several.adjustments)
    beyond = tuple(replace(each, extrapolates=True) for each in several.adjustments)
    comparison = replace(several, adjustments=beyond)
    line = lines(comparison)["Adjusted"]
    assert "related and control languages hardly overlap" in line
    (table,) = (
        table for table in estimate_tables(comparison) if table.title == "Adjusted contrast"
    )
    assert {tuple(row[1:4]) for row in table.rows} == {("", "", "")}
    labels = [
        label.get_text() for label in contrast_figure.contrast(comparison).axes[0].get_yticklabels()
    ]
    assert "checks, at equal ..." not in labels
    shown = contrast_figure.contrast(several).axes[0].get_yticklabels()
    assert "checks, at equal ..." in [label.get_text() for label in shown]
    for adjustment in several.adjustments:
        if adjustment.contrast is not None:
            assert interval_points(adjustment.contrast.interval) not in line
