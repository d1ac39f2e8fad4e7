"""How often tests reject and intervals cover, in simulated studies with known truth.

    OMP_NUM_THREADS=1 python -m scripts.calibrate [--studies 2000] [--jobs 2]

Writes calibration.csv, one row per figure, and calibration.md to docs/explanation. `make calibrate`
runs it.
"""

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from isogloss.errors import ComparisonError
from isogloss.stats.adjusted import freedman_lane, shared_noise, without_shared_noise
from isogloss.stats.contrasts import relatedness_contrast
from isogloss.stats.paired import holm, paired_gain
from isogloss.stats.power import power
from isogloss.stats.slopes import noise_free_scatter, pool_scatters, scatter, slope_test
from isogloss.stats.t_tests import mean_test
from isogloss.types import FloatArray
from scripts.simulation import (
    Design,
    Study,
    kinship_for,
    population_contrast,
    population_slopes,
    population_slopes_of_models,
    simulate,
)

DOCS = Path(__file__).parent.parent / "docs/explanation"
MARGIN = 0.03
EFFECT = 0.06
DRAWS = 999
CHUNK = 25
LANGUAGES_TESTED = 4  # of each study, one at a time; all of them for Holm

SOUND = {
    "4 related, 8 controls": Design(control=8),
    "4 related, 12 controls": Design(),
    "4 related, 20 controls": Design(control=20),
    "languages alike (spread 0)": Design(slope_spread=0.0),
    "languages unlike (spread 0.5)": Design(slope_spread=0.5),
    "near the ceiling": Design(baseline=1.0, baseline_spread=1.0, gain=2.0),
    "32 items, 16 passages": Design(items=32, passages=16),
    "100 items, 100 passages": Design(items=100, passages=100),
    "three seeds": Design(items=200, passages=108, seeds=3, seed_spread=0.3),
    "six models": Design(items=200, passages=108, models=6, headroom=0.4),
    "12 related, 20 controls": Design(related=12, control=20, slope_spread=0.1),
}
STRESSED = {
    "relatives three times as unlike": Design(unequal=3.0),
    "relatives weaker, ceiling near": Design(baseline=1.0, gain=2.0, weaker=1.0),
    "relatives weaker, 100 items": Design(items=100, passages=100, weaker=0.8),
}
DESIGNS = {**SOUND, **STRESSED}
KINDS = {"null": 1.0, "no gain": 0.5, "margin": 0.5, "power": 0.5}
TARGETS = {"rejects": (0.03, 0.07), "covers": (0.93, 0.97), "equivalent at margin": (0.0, 0.05)}


class Task(NamedTuple):
    """Some studies of a design: `kind` is null, no gain, margin or power."""

    design: str
    kind: str
    seed: tuple[int, int, int]
    studies: int


def main() -> None:
    """Simulate, count, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000, help="of a design under the null")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the two files")
    asked = parser.parse_args()
    tasks = [
        Task(design, kind, (which, k, at), CHUNK)
        for which, design in enumerate(DESIGNS)
        for k, (kind, share) in enumerate(KINDS.items())
        for at in range(max(1, round(asked.studies * share / CHUNK)))
    ]
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with ProcessPoolExecutor(asked.jobs) as pool:
        for task, values in zip(
            tasks, tqdm(pool.map(run, tasks), total=len(tasks), unit="task"), strict=True
        ):
            for (kind, name), numbers in values.items():
                found[task.design, kind, name] += numbers
    rows = pd.DataFrame(summarise(found))
    asked.out.mkdir(exist_ok=True)
    rows.to_csv(asked.out / "calibration.csv", index=False, float_format="%.5g")
    (asked.out / "calibration.md").write_text(page(rows, asked.studies), encoding="utf-8")


def run(task: Task) -> dict[tuple[str, str], list[float]]:
    """Every figure of some studies, by (kind, name); a number a study, NaN where undefined."""
    design = DESIGNS[task.design]
    if task.kind == "margin":
        design = kinship_for(design, MARGIN)
    elif task.kind == "power":
        design = kinship_for(design, EFFECT)
    elif task.kind == "no gain":
        design = replace(design, gain=0.0, slope_spread=0.0, headroom=0.0, seed_spread=0.0)
    rng = np.random.default_rng(task.seed)
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    measure = {"null": _null, "no gain": _no_gain, "margin": _margin, "power": _power}[task.kind]
    for _ in range(task.studies):
        for key, value in measure(design, simulate(design, rng), rng):
            values[key].append(float(value))
    return dict(values)


Figures = Iterator[tuple[tuple[str, str], float]]


def _null(design: Design, study: Study, rng: np.random.Generator) -> Figures:
    related = design.is_related
    after_MLI = study.tuned.mean(axis=1)
    change_MLI = after_MLI - study.base
    gain_ML = change_MLI.mean(axis=2)
    gain_L = gain_ML.mean(axis=0)
    contrast = relatedness_contrast(gain_L, related, MARGIN)
    truth = population_contrast(design)
    many = design.models > 1
    yield ("rejects", "items as units, z"), _items_z(change_MLI.mean(axis=0), related) <= 0.05
    yield (
        ("rejects", "permutation, jointly over models" if many else "permutation, accuracy"),
        contrast.permutation.p <= 0.05,
    )
    yield ("rejects", "Welch, accuracy"), contrast.welch.p <= 0.05
    yield ("covers", "contrast, permutation"), not contrast.permutation.interval_95.excludes(truth)
    yield ("covers", "contrast, Welch"), not contrast.welch.interval.excludes(truth)
    n = design.items
    odds = [
        np.log((right * n + 0.5) / (n - right * n + 0.5))
        for right in (study.base.mean(axis=2), study.tuned.mean(axis=3))
    ]
    odds_L = (odds[1].mean(axis=1) - odds[0]).mean(axis=0)
    p = relatedness_contrast(odds_L, related, None).permutation.p
    yield ("rejects", "permutation, log-odds"), p <= 0.05
    if many:
        ps = [relatedness_contrast(each, related, None).permutation.p for each in gain_ML]
        yield ("rejects", "permutation, one model"), ps[0] <= 0.05
        yield ("rejects", "permutation, any model (Holm)"), holm(ps).min() <= 0.05
    yield from _adjusted(study, gain_L, related, rng)
    far_L, rank_L = stats.rankdata(rng.integers(1, 5, len(related))), stats.rankdata(gain_L)
    if np.ptp(far_L):
        of = [(rank_L, far_L), (far_L, far_L), (rank_L, rank_L)]
        test = slope_test(
            *(noise_free_scatter(*pair) for pair in of), draws=DRAWS, studentized=False
        )
        yield ("rejects", "distance, Spearman"), test.p <= 0.05
    true_gain_L = (study.truth.tuned - study.truth.base).mean(axis=0)
    for at in rng.choice(len(related), LANGUAGES_TESTED, replace=False):
        gain = paired_gain(
            study.base[:, at].mean(axis=0), after_MLI[:, at].mean(axis=0), study.passages
        )
        yield ("covers", "gain of a language"), not gain.interval.excludes(true_gain_L[at])
    yield from _slopes(design, study)


def _adjusted(
    study: Study, gain_L: FloatArray, related: np.ndarray, rng: np.random.Generator
) -> Figures:
    shares = _shares(study)
    base_PL, gain_PL, weight_PL = (np.mean([each[k] for each in shares], axis=0) for k in range(3))
    noise = shared_noise(base_PL, gain_PL, weight_PL)
    base_L = base_PL.sum(axis=0)
    plain = freedman_lane(gain_L, related, {"b": base_L}, draws=DRAWS, with_interval=False)
    yield ("rejects", "at equal baseline, noise ignored"), plain.p <= 0.05
    other = freedman_lane(
        gain_L, related, {"x": rng.standard_normal(len(gain_L))}, draws=DRAWS, with_interval=False
    )
    yield ("rejects", "at equal covariate without noise"), other.p <= 0.05
    try:
        y_L, x_L = without_shared_noise(gain_L, base_L, related[:, None].astype(float), *noise)
    except ComparisonError:
        yield ("share", "baselines too alike to adjust for"), 1.0
        return
    yield ("share", "baselines too alike to adjust for"), 0.0
    fit = freedman_lane(y_L, related, {"b": x_L}, draws=DRAWS)
    yield ("rejects", "at equal baseline"), fit.p <= 0.05
    yield ("covers", "contrast at equal baseline"), not fit.interval.excludes(0.0)


def _slopes(design: Design, study: Study) -> Figures:
    """C2 and C3, over languages within models and over models; cross-fitted and naive."""
    shares = _shares(study)
    levels = {"languages": (shares, population_slopes(design))}
    if design.models > 1:
        means = [np.stack([share[k].mean(axis=1) for share in shares], axis=1) for k in range(4)]
        over = (means[0], means[1], means[2], means[3])
        levels["models"] = ([over], population_slopes_of_models(design))
    for level, (units, truths) in levels.items():
        for claim, x, truth in (("C2", 0, truths[0]), ("C3", 3, truths[1])):
            # With y - truth * x in the place of y the true slope is zero, and p can be judged too.
            shifted = [(u[1] - truth * u[x], u[x], u[2]) for u in units]
            test = slope_test(
                *(
                    pool_scatters([scatter(u[a], u[b], u[2]) for u in shifted])
                    for a, b in ((0, 1), (1, 1), (0, 0))
                ),
                draws=DRAWS,
            )
            name = f"{claim} slope over {level}"
            yield ("rejects", f"{name}, truly zero"), test.p <= 0.05
            yield ("covers", name), not test.interval.excludes(0.0)
            yield ("share", f"{name}, unbounded"), bool(np.isinf(test.interval).all())
            if np.isfinite(test.slope):
                yield ("bias", f"{name}, cross-fitted"), test.slope
            yield ("bias", f"{name}, naive"), test.naive
            xs, ys = (np.concatenate([_in_model(u[k], level) for u in units]) for k in (x, 1))
            fit = stats.linregress(xs, ys)
            half = stats.t.ppf(0.975, len(xs) - 1 - len(units)) * fit.stderr
            yield ("covers", f"{name}, naive (least squares)"), abs(fit.slope - truth) <= half
        difference = np.mean([(u[1] - u[3]).sum(axis=0) for u in units], axis=0)
        if level == "languages" and design.models == 1:
            true = float(_mean_truth(design))
            interval = mean_test(difference).interval_95
            yield ("covers", "tuned less CoT"), not interval.excludes(true)


def _in_model(share_PU: FloatArray, level: str) -> FloatArray:
    value_U: FloatArray = share_PU.sum(axis=0)
    centred_U: FloatArray = value_U - value_U.mean()
    return centred_U


@lru_cache
def _mean_truth(design: Design) -> float:
    """Mean of true tuned less true CoT accuracy over the languages of such studies."""
    many = {"related": design.related * 1000, "control": design.control * 1000}
    truth = simulate(replace(design, items=1, passages=1, **many), np.random.default_rng(3)).truth
    return float((truth.tuned - truth.thinking).mean())


def _shares(study: Study) -> list[tuple[FloatArray, FloatArray, FloatArray, FloatArray]]:
    """Of each model: shares of passages in baseline, gain, items and gain from CoT, [P, L]."""
    n_passages, n = study.passages[-1] + 1, len(study.passages)
    start_P = np.searchsorted(study.passages, np.arange(n_passages))

    def by_passage(values_LI: FloatArray) -> FloatArray:
        return np.add.reduceat(values_LI, start_P, axis=1).T / n

    return [
        (
            by_passage(base),
            by_passage(tuned.mean(axis=0) - base),
            by_passage(np.ones_like(base)),
            by_passage(thinking - base),
        )
        for base, tuned, thinking in zip(study.base, study.tuned, study.thinking, strict=True)
    ]


def _no_gain(design: Design, study: Study, rng: np.random.Generator) -> Figures:
    """Tests of one language where nothing was gained anywhere."""
    after_MLI = study.tuned.mean(axis=1)
    found = [
        paired_gain(study.base[:, at].mean(axis=0), after_MLI[:, at].mean(axis=0), study.passages)
        for at in range(len(design.is_related))
    ]
    for gain in found[:LANGUAGES_TESTED]:
        yield ("rejects", "one language, t by passage"), gain.t_p <= 0.05
        if np.isfinite(gain.mcnemar_p):
            yield ("rejects", "one language, McNemar by item"), gain.mcnemar_p <= 0.05
        yield ("rejects", "one language, as reported"), gain.p <= 0.05
    yield ("rejects", "any language (Holm)"), holm([gain.p for gain in found]).min() <= 0.05


def _margin(design: Design, study: Study, rng: np.random.Generator) -> Figures:
    contrast = relatedness_contrast(_gain(study), design.is_related, MARGIN)
    within = contrast.permutation.interval_90.inside(MARGIN)
    yield ("equivalent at margin", "permutation (the verdict)"), within
    yield ("equivalent at margin", "two one-sided Welch tests"), (contrast.tost_p or 0) <= 0.05


def _power(design: Design, study: Study, rng: np.random.Generator) -> Figures:
    """A true contrast of twice the margin: found, and what the spread of the study predicts."""
    contrast = relatedness_contrast(_gain(study), design.is_related, MARGIN)
    yield ("power", "found"), contrast.permutation.p <= 0.05
    yield ("power", "spread"), contrast.spread**2
    truth = population_contrast(design)
    for name, interval in (
        ("permutation", contrast.permutation.interval_95),
        ("Welch", contrast.welch.interval),
    ):
        yield ("covers", f"contrast of six points, {name}"), not interval.excludes(truth)
    yield ("power", "minimum detectable effect"), contrast.minimum_detectable_effect


def _gain(study: Study) -> FloatArray:
    gain_L: FloatArray = (study.tuned.mean(axis=1) - study.base).mean(axis=(0, 2))
    return gain_L


def _items_z(change_LI: FloatArray, related: np.ndarray) -> float:
    """p of a test that takes every item of every language as a replicate."""
    here, there = change_LI[related].ravel(), change_LI[~related].ravel()
    error = np.sqrt(here.var() / here.size + there.var() / there.size)
    return float(2 * stats.norm.sf(abs(here.mean() - there.mean()) / error))


def summarise(
    found: Mapping[tuple[str, str, str], Sequence[float]],
) -> Iterator[dict[str, object]]:
    """One row a figure: its value, Monte Carlo standard error, and whether it is in range."""
    for (design, kind, name), numbers in found.items():
        values = np.array(numbers)
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        value, error = float(values.mean()), float(values.std() / np.sqrt(len(values)))
        if kind == "bias":  # a ratio has no mean
            value = float(np.median(values))
            error = float(1.25 * stats.iqr(values) / 1.35 / np.sqrt(len(values)))
        if name == "spread":  # gathered as squares
            value, error = np.sqrt(value), error / (2 * np.sqrt(value))
        low, high = TARGETS.get(kind, (-np.inf, np.inf))
        if "Holm" in name:  # at most the level, by construction
            low = 0.0
        yield {
            "design": design,
            "sound": design in SOUND,
            "kind": kind,
            "name": name,
            "value": value,
            "error": error,
            "n": len(values),
            "in_range": low <= value <= high,
        }
    for design, setting in DESIGNS.items():
        squares = found.get((design, "power", "spread"))
        if squares:
            spread = float(np.sqrt(np.mean(squares)))
            chance = power(EFFECT, spread, setting.related, setting.control)
            yield {
                "design": design, "sound": design in SOUND, "kind": "power", "name": "predicted",
                "value": chance, "error": 0.0, "n": len(squares), "in_range": True,
            }  # fmt: skip


def page(rows: pd.DataFrame, studies: int) -> str:
    """The page: what was simulated, then a table a question, designs in its columns."""
    lines = [
        "# Calibration",
        "",
        f"Made by `make calibrate` (scripts/calibrate.py): {studies:,} simulated studies of each "
        f"design under the null of no kinship effect, half as many for the questions below that. "
        f"Languages, items and seeds are new in each; items are the same in all languages of a "
        f"study, and answers before and after tuning share their difficulty. Monte Carlo standard "
        f"errors are about {100 * np.sqrt(0.05 * 0.95 / studies):.1f} points for a rate of 5%. "
        f"**Bold** is outside the range aimed at, "
        f"before rounding. The same numbers are in calibration.csv.",
        "",
        "Unless a design says otherwise: 4 related and 12 control languages, 900 items on 488 "
        "passages, four choices, one model, one seed, slopes (gains of languages in log-odds) with "
        "a standard deviation of 0.25 between languages. All settings: `DESIGNS` in the script, "
        "`Design` in simulation.py.",
        "",
        "| design | settings |",
        "|---|---|",
    ]
    plain = Design()
    for name, design in DESIGNS.items():
        changes = [
            f"{field} {value:g}"
            for field, value in vars(design).items()
            if value != getattr(plain, field)
        ]
        lines.append(f"| {name} | {', '.join(changes) or 'as above'} |")
    titles = {
        "rejects": (
            "False positives",
            "share of studies with p ≤ 0.05, %; aimed at 3 to 7 (Holm: at most 7)",
        ),
        "covers": ("Coverage", "share of 95% intervals that hold the truth, %; aimed at 93 to 97"),
        "equivalent at margin": (
            "False claims of equivalence",
            "share of studies called equivalent, %, the true contrast being 3.0 points, which is "
            "the margin; at most 5",
        ),
        "bias": ("Bias of slopes", "median estimate less the population's slope"),
        "share": ("Left undecided", "share of studies, %"),
        "power": (
            "Power at a true contrast of six points",
            "found and predicted by `plan` from the mean square spread, %; spread and minimum "
            "detectable effect in points",
        ),
    }
    for kind, (title, unit) in titles.items():
        for sound, heading in ((True, ""), (False, ", assumptions broken")):
            part = rows[(rows["kind"] == kind) & (rows["sound"] == sound)]
            if len(part):
                lines += ["", f"## {title}{heading}", "", f"{unit[0].upper()}{unit[1:]}.", ""]
                lines += _table(part, kind)
    return "\n".join(lines) + "\n"


def _table(part: pd.DataFrame, kind: str) -> list[str]:
    names = list(dict.fromkeys(part["name"]))
    cells = {
        (design, name): (float(value), bool(in_range))
        for design, name, value, in_range in zip(
            part["design"], part["name"], part["value"], part["in_range"], strict=True
        )
    }
    lines = [f"| design | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for design in dict.fromkeys(part["design"]):
        texts = []
        for name in names:
            cell = cells.get((design, name))
            texts.append("" if cell is None else _text(cell[0], kind, cell[1]))
        lines.append(f"| {design} | {' | '.join(texts)} |")
    return lines


def _text(value: float, kind: str, in_range: bool) -> str:
    if kind == "bias":
        return f"{value:+.2f}".replace("-", "−")
    text = f"{100 * value:.1f}"
    return text if in_range else f"**{text}**"


if __name__ == "__main__":
    main()
