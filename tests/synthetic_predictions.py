"""Tables of predictions with known gains, for tests of the comparison and the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.score_matrix import RunKey
from isogloss.languages import group, language
from isogloss.types import Condition, Group

Tables = dict[RunKey, pd.DataFrame]

BASE, TUNED = RunKey("m", Condition.BASE), RunKey("m", Condition.TUNED, "arb_Arab", "0")
RELATED = ("amh_Ethi", "heb_Hebr", "mlt_Latn", "tir_Ethi")
CONTROL = (
    *("deu_Latn", "fra_Latn", "hin_Deva", "jpn_Jpan", "kor_Hang", "rus_Cyrl", "spa_Latn"),
    *("swh_Latn", "tur_Latn", "vie_Latn", "yor_Latn", "zho_Hans"),
)


def gains(related: float, control: float, spread: float = 0.01) -> dict[str, float]:
    """Gains of four related and twelve control languages, within `spread` of the two centres."""
    return {
        code: centre + spread * (2 * i / (len(codes) - 1) - 1)
        for codes, centre in ((RELATED, related), (CONTROL, control))
        for i, code in enumerate(codes)
    }


def pair(
    gain: Mapping[str, float], *, n: int = 200, base: float = 0.4
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions before and after: the first items are correct, more (or fewer) of them after."""
    return (
        _predictions(dict.fromkeys(gain, base), n, valid=0.5, shift=0.0),
        _predictions({code: base + g for code, g in gain.items()}, n, valid=1.0, shift=0.25),
    )


def _predictions(
    accuracy: Mapping[str, float], n: int, *, valid: float, shift: float
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "task": "belebele",
            "format": "letter",
            "language": code,
            "item_id": f"item-{i:03d}",
            "passage_id": f"passage-{i // 2}",
            "answer": i % 4,
            "prediction": i % 4 if i < round(share * n) else (i + 1) % 4,
            "correct": i < round(share * n),
            "valid": i < valid * n,
            "forced": i % 4 if i < round(share * n) else (i + 1) % 4,
            "greedy": (i % 4 if i < round(share * n) else (i + 1) % 4) if i < valid * n else -1,
            "choice_logprobs": [-1.0, -2.0, -3.0, -4.0],
            "gold_logprob": -1.5 + shift + share * (i % 3),
            "format_mass": 0.5,
            "text": None,
        }
        for code, share in accuracy.items()
        for i in range(n)
    )


def compare_pair(
    runs: Sequence[pd.DataFrame], source: str = "arb_Arab", **options: Any
) -> Comparison:
    """The comparison of one model before and after tuning on `source`."""
    before, after = runs
    return compare({BASE: before, TUNED._replace(source=source): after}, source=source, **options)


def tables(gain: Mapping[str, float], *, n: int = 200, base: float = 0.4) -> Tables:
    """One model before and after, keyed for `comparison.compare`."""
    before, after = pair(gain, n=n, base=base)
    return {BASE: before, TUNED: after}


def study(
    models: int = 6,
    *,
    seeds: int = 2,
    sources: tuple[str, ...] = ("arb_Arab", "eng_Latn"),
    languages: tuple[str, ...] = ("arb_Arab", "ary_Arab", *RELATED, "deu_Latn", *CONTROL[1:]),
    n: int = 120,
    seed: int = 0,
) -> Tables:
    """Random answers of models of rising ability in four conditions, two items per passage.

    Weak models gain more, from tuning as from chain of thought; kinship has no effect.
    """
    rng = np.random.default_rng(seed)
    ease = {code: rng.normal(0, 0.4) for code in languages}
    item = rng.normal(0, 1, n // 2).repeat(2) + rng.normal(0, 0.7, n)
    predictions: Tables = {}
    for m in range(models):
        name, ability = f"model-{m}", -1.0 + 0.5 * m
        lift = {code: 1.2 - 0.3 * m + rng.normal(0, 0.15) for code in languages}

        conditions = {
            RunKey(name, Condition.BASE): (0.0, 0.6),
            RunKey(name, Condition.BASE_COT): (0.9, 0.9),
        }
        for source in sources:
            for replicate in range(seeds):
                conditions[RunKey(name, Condition.TUNED, source, str(replicate))] = (1.0, 1.0)
        conditions[RunKey(name, Condition.TUNED_COT, sources[0], "0")] = (1.1, 1.0)
        for run, (share, valid) in conditions.items():
            parts = []
            for code in languages:
                logit = ability + ease[code] + share * lift[code] - item
                parts.append(_answers(code, 1 / (1 + np.exp(-logit)), valid, rng))
            predictions[run] = pd.concat(parts, ignore_index=True)
    return predictions


def without_gain(models: int = 1) -> Tables:
    """Equally able languages before and after tuning; all differences are noise."""
    rng = np.random.default_rng(1)
    tables = study(models, seeds=1, sources=("arb_Arab",), n=100)
    return {run: rows.assign(correct=rng.random(len(rows)) < 0.5) for run, rows in tables.items()}


def _answers(
    code: str, chance_I: npt.NDArray[np.float64], valid: float, rng: np.random.Generator
) -> pd.DataFrame:
    n = len(chance_I)
    answer = np.arange(n) % 4
    right = rng.random(n) < chance_I
    forced = np.where(right, answer, (answer + rng.integers(1, 4, n)) % 4)
    is_valid = rng.random(n) < valid
    return pd.DataFrame(
        {
            "task": "belebele",
            "format": "letter",
            "language": code,
            "item_id": [f"item-{i:03d}" for i in range(n)],
            "passage_id": [f"passage-{i // 2:03d}" for i in range(n)],
            "answer": answer,
            "prediction": forced,
            "correct": right,
            "valid": is_valid,
            "forced": forced,
            "greedy": np.where(is_valid, forced, -1),
            "choice_logprobs": [[-1.0, -2.0, -3.0, -4.0]] * n,
            "gold_logprob": np.log(np.clip(chance_I, 0.01, 1)) + rng.normal(0, 0.1, n),
            "tokens": rng.integers(100, 140, n) + 5 * len(code),
            "words": 80,
        }
    )


# Sources of four branches, and three relatives of each.
CROSSED_SOURCES = ("arb_Arab", "hin_Deva", "swh_Latn", "tur_Latn")
CROSSED_TARGETS = (
    *("amh_Ethi", "azj_Latn", "ben_Beng", "heb_Hebr", "kaz_Cyrl", "kin_Latn"),
    *("mar_Deva", "mlt_Latn", "npi_Deva", "uzn_Latn", "xho_Latn", "zul_Latn"),
)


def crossed_tables(
    effect: float = 0.1,
    *,
    models: int = 1,
    seeds: int = 1,
    sources: tuple[str, ...] = CROSSED_SOURCES,
    targets: tuple[str, ...] = CROSSED_TARGETS,
    n: int = 100,
    seed: int = 0,
    family: float = 0.0,
) -> Tables:
    """Models tuned on several sources; relatives of a source gain `effect` more than from others.

    Beside that, gains have an effect of the source, one of the target, and noise. Targets of a
    branch share a part of theirs, with standard deviation `family`.
    """
    rng = np.random.default_rng(seed)
    ease = rng.uniform(0.3, 0.4, len(targets))
    target_gain = rng.uniform(0.05, 0.2, len(targets))
    branches = [language(code).branch for code in targets]
    shared = {branch: family * rng.normal() for branch in dict.fromkeys(branches) if family}
    target_gain += np.array([shared.get(branch, 0.0) for branch in branches])
    predictions: Tables = {}
    for m in range(models):
        base = dict(zip(targets, ease, strict=True))
        predictions[RunKey(f"model-{m}", Condition.BASE)] = _predictions(
            base, n, valid=0.5, shift=0.0
        )
        for source in sources:
            source_gain = rng.uniform(0.0, 0.1)
            kin = np.array([group(code, source) == Group.RELATED for code in targets])
            for replicate in range(seeds):
                noise = rng.normal(0, 0.02, len(targets))
                after = ease + source_gain + target_gain + effect * kin + noise
                run = RunKey(f"model-{m}", Condition.TUNED, source, str(replicate))
                predictions[run] = _predictions(
                    dict(zip(targets, after, strict=True)), n, valid=1.0, shift=0.25
                )
    return predictions
