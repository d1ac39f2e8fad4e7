"""What changed between two conditions, and whether it follows kinship with the source language.

Works from two prediction tables alone: the same items, answered without and with an adapter (or in
any two conditions). Accuracies and gains are fractions here; text shows them in points (times 100).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from isogloss.contrasts import Contrast, Interval, relatedness_contrast
from isogloss.gains import GROUPS, LanguageGain, language_gains
from isogloss.languages import language


@dataclass(frozen=True)
class GroupMean:
    """Means over the languages of a group (or over all), each language counting once."""

    languages: int
    base: float
    tuned: float
    gain: float


@dataclass(frozen=True)
class Comparison:
    """Everything a report says of two conditions of one model on one task.

    `languages` are ordered by group (source, variety, related, control), largest gain first;
    `means` are by group, and over `all`.
    `chance` is the accuracy of guessing, None where items have no choices. `accuracy` is the
    contrast that the verdict rests on; `log_odds` and `gold_logprob` have no margin, so they never
    say equivalent. `change` is what the two conditions differ in, as it stands after "with".
    """

    change: str
    source: str
    source_name: str
    branch: str
    task: str
    format: str
    margin: float
    chance: float | None
    languages: tuple[LanguageGain, ...]
    means: Mapping[str, GroupMean]
    accuracy: Contrast
    log_odds: Contrast
    gold_logprob: Contrast

    @property
    def paragraph(self) -> str:
        """The verdict and all that it rests on, in plain English."""
        return " ".join(
            [
                _groups_sentence(self),
                _contrast_sentence(self),
                *_verdict_sentences(self),
                _sensitivity_sentence(self),
                *_everyone_sentences(self),
            ]
        )

    def members(self, group: str) -> list[LanguageGain]:
        """The languages of a group, largest gain first."""
        return [row for row in self.languages if row.group == group]


def compare(
    base: pd.DataFrame,
    tuned: pd.DataFrame,
    *,
    source: str,
    margin: float = 0.03,
    branch: str | None = None,
    change: str | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare two tables of predictions on the same items.

    Each table has one row for each (language, item_id), with the columns of predictions.parquet.
    `source` is the language tuned on, `branch` what counts as its kin (its own branch by default),
    `margin` the equivalence margin as a fraction, `seed` that of Monte Carlo relabelling. `change`
    names what the second condition has that the first has not: by default, fine-tuning.
    ComparisonError if the tables do not hold the same items of the same task and format, or if
    there are fewer than two related or two control languages.
    """
    rows = language_gains(base, tuned, source, branch)
    tested = [row for row in rows if row.group in ("related", "control")]
    related_L = [row.group == "related" for row in tested]
    accuracy = relatedness_contrast([row.gain for row in tested], related_L, margin, seed=seed)
    log_odds = relatedness_contrast(
        [row.log_odds_gain for row in tested], related_L, None, seed=seed
    )
    gold_logprob = relatedness_contrast(
        [row.gold_logprob_gain for row in tested], related_L, None, seed=seed
    )
    n_choices = base["choice_logprobs"].map(len)
    return Comparison(
        change=change or f"fine-tuning on {language(source).name}",
        source=source,
        source_name=language(source).name,
        branch=branch or language(source).branch,
        task=str(base["task"].iloc[0]),
        format=str(base["format"].iloc[0]),
        margin=margin,
        chance=float((1 / n_choices).mean()) if n_choices.min() > 0 else None,
        languages=tuple(rows),
        means=_means(rows),
        accuracy=accuracy,
        log_odds=log_odds,
        gold_logprob=gold_logprob,
    )


def table(comparison: Comparison) -> pd.DataFrame:
    """One row a language, with the fields of LanguageGain; fractions, not points."""
    return pd.DataFrame([asdict(row) for row in comparison.languages])


def metrics(comparison: Comparison) -> dict[str, float]:
    """Headline numbers by name; a number that is infinite or not defined is left out."""
    values: dict[str, float] = {}
    contrasts = {
        "accuracy": comparison.accuracy,
        "log_odds": comparison.log_odds,
        "gold_logprob": comparison.gold_logprob,
    }
    for name, contrast in contrasts.items():
        values[f"contrast/{name}"] = contrast.estimate
        values[f"contrast/{name}_low"] = contrast.permutation.interval_95.low
        values[f"contrast/{name}_high"] = contrast.permutation.interval_95.high
        values[f"contrast/{name}_p"] = contrast.permutation.p
        values[f"contrast/{name}_welch_p"] = contrast.welch.p
    if comparison.accuracy.tost_p is not None:
        values["contrast/accuracy_tost_p"] = comparison.accuracy.tost_p
    values["contrast/minimum_detectable_effect"] = comparison.accuracy.minimum_detectable_effect
    values["contrast/margin"] = comparison.margin
    for row in comparison.languages:
        values[f"gain/{row.code}"] = row.gain
        values[f"gain_se/{row.code}"] = row.se
        for name, part in _parts(row).items():
            values[f"{name}/{row.code}"] = part
    for name, mean in comparison.means.items():
        values["gain/mean" if name == "all" else f"gain_group/{name}"] = mean.gain
    for name, part in mean_parts(comparison).items():
        values[f"{name}/mean"] = part
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _parts(row: LanguageGain) -> dict[str, float]:
    """Names and values of a gain's parts; empty where they are not known."""
    named = {
        "gain_free": row.free_gain,
        "gain_format": row.format_part,
        "gain_comprehension": row.comprehension_part,
    }
    return {name: value for name, value in named.items() if value is not None}


def mean_parts(comparison: Comparison) -> dict[str, float]:
    """Means over languages of `gain_free`, `gain_format` and `gain_comprehension`, if known."""
    parts = [_parts(row) for row in comparison.languages]
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}


def points(value: float, *, signed: bool = True) -> str:
    """A fraction as points with one decimal and a true minus sign: 0.0312 is `+3.1`."""
    return decimal(100 * value, 1, signed=signed)


def decimal(value: float, digits: int, *, signed: bool = True) -> str:
    """A number with a true minus sign, `+` if `signed`, and no sign on what rounds to zero."""
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("−" if value < 0 else "+" if signed else "") + text


def p_value(p: float) -> str:
    """A p value to print after p: `= 0.012`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def interval_points(interval: Interval) -> str:
    """An interval of fractions in points: `[−1.9, +2.4]`."""
    return f"[{points(interval.low)}, {points(interval.high)}]"


def _means(rows: Sequence[LanguageGain]) -> dict[str, GroupMean]:
    means = {}
    for name in ("all", *GROUPS):
        members = [row for row in rows if name in ("all", row.group)]
        if members:
            means[name] = GroupMean(
                languages=len(members),
                base=float(np.mean([row.base for row in members])),
                tuned=float(np.mean([row.tuned for row in members])),
                gain=float(np.mean([row.gain for row in members])),
            )
    return means


def _groups_sentence(comparison: Comparison) -> str:
    contrast = comparison.accuracy
    names = ", ".join(sorted(row.name for row in comparison.members("related")))
    return (
        f"With {comparison.change}, accuracy on {comparison.task} "
        f"({comparison.format} format) changed by {points(contrast.mean_related)} points "
        f"on average in the {contrast.n_related} related languages ({comparison.branch}: "
        f"{names}) and by {points(contrast.mean_control)} points in the {contrast.n_control} "
        f"control languages."
    )


def _contrast_sentence(comparison: Comparison) -> str:
    contrast = comparison.accuracy
    test = contrast.permutation
    kind = "exact permutation" if test.exact else "Monte Carlo permutation"
    return (
        f"The relatedness contrast is {points(contrast.estimate)} points (95% interval "
        f"{interval_points(test.interval_95)}; p {p_value(test.p)} by {kind} of the language "
        f"labels, {test.relabellings:,} relabellings)."
    )


def _verdict_sentences(comparison: Comparison) -> Iterable[str]:
    contrast = comparison.accuracy
    test, margin = contrast.permutation, comparison.margin
    allowed = f"±{points(margin, signed=False)} points"
    ninety = f"the 90% interval {interval_points(test.interval_90)}"
    yield f"Verdict: {contrast.verdict}."
    if contrast.verdict == "equivalent":
        agrees = contrast.tost_p is not None and contrast.tost_p <= 0.05
        yield (
            f"{ninety.capitalize()} lies within the equivalence margin of {allowed} (two one-sided "
            f"Welch tests {'agree' if agrees else 'do not confirm it'}, "
            f"p {p_value(contrast.tost_p or 0.0)}), so whatever relatives gain beyond controls, or "
            f"short of them, is smaller than the difference taken to matter."
        )
        if test.interval_95.excludes(0.0):
            way = "more" if contrast.estimate > 0 else "less"
            yield f"Within that margin, relatives did gain detectably {way}."
    elif contrast.verdict == "inconclusive":
        if not math.isfinite(test.interval_95.low):
            yield (
                f"With {contrast.n_related} related and {contrast.n_control} control languages "
                f"there are too few relabellings for any result to reach p = 0.05."
            )
        yield (
            f"The 95% interval includes zero and {ninety} reaches beyond the equivalence margin of "
            f"{allowed}: these runs show neither that relatives gain differently nor that they "
            f"gain alike, and the absence of a clear difference is not evidence of equal gains."
        )
    else:
        way = "more" if contrast.verdict == "related gain more" else "less"
        nearest = min(abs(end) for end in test.interval_95)
        beyond = "is" if nearest >= margin else "is not shown to be"
        yield (
            f"The 95% interval excludes zero: relatives gained {way} than controls, and the "
            f"difference {beyond} larger than the equivalence margin of {allowed}."
        )


def _sensitivity_sentence(comparison: Comparison) -> str:
    effect = comparison.accuracy.minimum_detectable_effect
    if math.isnan(effect):
        return "Gains do not vary within either group, so no minimum detectable effect is defined."
    return (
        f"The minimum detectable effect is {points(effect, signed=False)} points (80% power, "
        f"two-sided 5%, by Welch's t), given this many languages and the spread between them."
    )


def _everyone_sentences(comparison: Comparison) -> Iterable[str]:
    rows = comparison.languages
    everyone = comparison.means["all"]
    won = sum(row.gain > 0 and row.holm_p <= 0.05 for row in rows)
    lost = sum(row.gain < 0 and row.holm_p <= 0.05 for row in rows)
    risen = {
        name: f"{sum(row.gain > 0 for row in comparison.members(name))} of {mean.languages}"
        for name, mean in comparison.means.items()
    }
    yield (
        f"Over all {len(rows)} languages evaluated, mean accuracy went from "
        f"{points(everyone.base, signed=False)}% to {points(everyone.tuned, signed=False)}% "
        f"({points(everyone.gain)} points); it rose in {risen['related']} related and "
        f"{risen['control']} control languages, and language by language {won} rose and {lost} "
        f"fell by more than chance explains (exact McNemar, Holm-adjusted p ≤ 0.05)."
    )
    apart = []
    if "source" in comparison.means:
        gain = comparison.means["source"].gain
        apart.append(f"{comparison.source_name} itself changed by {points(gain)} points")
    if "variety" in comparison.means:
        mean = comparison.means["variety"]
        varieties = f"{mean.languages} {'variety' if mean.languages == 1 else 'varieties'}"
        whose = f"its {varieties}" if apart else f"{varieties} of {comparison.source_name}"
        apart.append(f"{whose} changed by {points(mean.gain)} points")
    if apart:
        yield f"Outside the contrast, {' and '.join(apart)}."
    valid = [(row.base_valid, row.tuned_valid) for row in rows]
    shares = [
        (before, after) for before, after in valid if before is not None and after is not None
    ]
    if len(shares) == len(rows):
        before, after = np.mean(shares, axis=0)
        yield (
            f"Answers that were one of the choices at all went from "
            f"{points(before, signed=False)}% to {points(after, signed=False)}%."
        )
    if parts := mean_parts(comparison):
        yield (
            f"Counting answers that are no choice as wrong, accuracy changed by "
            f"{points(parts['gain_free'])} points on average: {points(parts['gain_format'])} by "
            f"format (how far answers as given fall short of forced choices) and "
            f"{points(parts['gain_comprehension'])} by comprehension (the choice when forced)."
        )
