"""The published analysis beside ours, in simulated studies where kinship has no effect.

    OMP_NUM_THREADS=1 python -m scripts.published_simulation [--studies 1000]

Prints the table of docs/explanation/statistics.md: how often either analysis finds an effect that
does not exist, and their slopes of the gain on the baseline.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from isogloss.stats.contrasts import relatedness_contrast
from isogloss.stats.regression import least_squares
from isogloss.stats.slopes import SlopeTest, pool_scatters, scatter, slope_test
from scripts.calibrate import Shares, shares_by_model
from scripts.simulation import Design, Study, simulate

DRAWS = 999
# No language gains, so the true slope of the gain on the baseline is zero.
NO_GAIN = Design(
    items=100, passages=54, baseline_spread=0.25, gain=0.0, gain_spread=0.0, change_spread=0.0
)
GAIN = Design(items=100, passages=54, ability_discount=0.4)
DESIGNS = {
    "no gain, one model, 100 items": NO_GAIN,
    "no gain, one model, 900 items": replace(NO_GAIN, items=900, passages=488),
    "no gain, seven models, 100 items": replace(NO_GAIN, models=7),
    "gains differ by language, seven models, 100 items": replace(GAIN, models=7),
    "gains differ by language, seven models, 900 items": replace(
        GAIN, models=7, items=900, passages=488
    ),
    "the same, 3 related and 3 control languages": replace(
        GAIN, models=7, items=900, passages=488, related=3, control=3
    ),
}
HEADINGS = (
    *("design", "slope, published", "slope, cross-fitted", "slope found, published"),
    *("slope found, ours", "kinship found, published", "kinship found, ours"),
)


class Findings(NamedTuple):
    """Both analyses of one study: slopes of the gain on the baseline, and p-values."""

    published_slope: float
    our_slope: float
    published_slope_p: float
    our_slope_p: float
    published_kinship_p: float
    our_kinship_p: float


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000, help="per design")
    studies = parser.parse_args().studies
    print(f"| {' | '.join(HEADINGS)} |\n|---|{'---:|' * (len(HEADINGS) - 1)}")
    for name, design in DESIGNS.items():
        found = Findings(*np.array(findings(design, studies)).T)
        cells = [f"{np.nanmedian(slope):.2f}" for slope in found[:2]]
        cells += [f"{100 * np.mean(p <= 0.05):.1f}" for p in found[2:]]
        if design.gain:  # the true slope is not zero
            cells[:4] = [""] * 4
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def findings(design: Design, studies: int, seed: int = 0) -> list[Findings]:
    """Both analyses of some studies of a design."""
    rng = np.random.default_rng(seed)
    return [_findings(design, simulate(design, rng)) for _ in range(studies)]


def _findings(design: Design, study: Study) -> Findings:
    base_ML = study.base.mean(axis=2)
    gain_ML = study.tuned.mean(axis=(1, 3)) - base_ML
    related_ML = np.broadcast_to(design.is_related, gain_ML.shape)
    published = least_squares(
        gain_ML.ravel(), {"baseline": base_ML.ravel(), "related": related_ML.ravel()}
    ).coefficients
    ours = _cross_fitted(shares_by_model(study))
    contrast = relatedness_contrast(gain_ML.mean(axis=0), design.is_related, None)
    return Findings(
        published_slope=published["baseline"].estimate,
        our_slope=ours.slope,
        published_slope_p=published["baseline"].p,
        our_slope_p=ours.p,
        published_kinship_p=published["related"].p,
        our_kinship_p=contrast.permutation.p,
    )


def _cross_fitted(models: Sequence[Shares]) -> SlopeTest:
    """Slope of the gain on the baseline over languages within models."""
    yx, xx, yy = (
        pool_scatters([scatter(getattr(m, y), getattr(m, x), m.weight) for m in models])
        for y, x in (("gain", "base"), ("base", "base"), ("gain", "gain"))
    )
    return slope_test(yx, xx, yy, draws=DRAWS)


if __name__ == "__main__":
    main()
