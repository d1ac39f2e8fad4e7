"""Tables of predictions whose gains are known, for tests of the comparison and the report."""

from collections.abc import Mapping

import pandas as pd

RELATED = ("amh_Ethi", "heb_Hebr", "mlt_Latn", "tir_Ethi")
CONTROL = (
    *("deu_Latn", "fra_Latn", "hin_Deva", "jpn_Jpan", "kor_Hang", "rus_Cyrl", "spa_Latn"),
    *("swh_Latn", "tur_Latn", "vie_Latn", "yor_Latn", "zho_Hans"),
)


def gains(related: float, control: float, spread: float = 0.01) -> dict[str, float]:
    """A gain for each of four related and twelve control languages, `spread` to either side."""
    return {
        code: centre + spread * (2 * i / (len(codes) - 1) - 1)
        for codes, centre in ((RELATED, related), (CONTROL, control))
        for i, code in enumerate(codes)
    }


def pair(
    gain: Mapping[str, float], *, n: int = 200, base: float = 0.4
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions before and after: the first items are right, more (or fewer) of them after."""
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
