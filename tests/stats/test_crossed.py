from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from isogloss.errors import ComparisonError, ConfigError
from isogloss.stats.crossed import crossed_effect, effect_in_design
from isogloss.stats.crossed_design import crossed_design
from isogloss.stats.matchings import matching_test
from isogloss.types import Verdict

# Four sources with three, two, three and no relatives among nine targets; gains in 400ths.
BRANCHES = ("Semitic", "Turkic", "Bantu", "Japonic")
TARGET_BRANCHES = ("Semitic",) * 3 + ("Turkic",) * 2 + ("Bantu",) * 3 + ("Korean",)
KIN = np.array([[own == other for other in TARGET_BRANCHES] for own in BRANCHES], dtype=float)
GAIN = (
    np.array(
        [
            [31, 22, 40, 12, 9, 25, 14, 18, 6],
            [20, 19, 33, 27, 15, 22, 16, 10, 9],
            [25, 12, 30, 15, 6, 38, 21, 24, 3],
            [18, 20, 28, 14, 11, 24, 9, 15, 7],
        ]
    )
    / 400
)
MISSING = np.where(np.isin(np.arange(36).reshape(4, 9), (3, 10, 26)), np.nan, GAIN)
rng = np.random.default_rng(5)
SCRIPT = rng.integers(0, 2, GAIN.shape).astype(float)
# A covariate that follows kinship.
NEARNESS = KIN + rng.normal(0, 0.5, GAIN.shape)

quick = settings(deadline=None, max_examples=25)
arrays = st.lists(st.integers(-60, 60), min_size=36, max_size=36).map(
    lambda values: np.array(values).reshape(4, 9) / 400
)


def dummies(shape):
    """Indicators of sources and of targets for each cell in order; full rank."""
    n_sources, n_targets = shape
    source, target = np.divmod(np.arange(n_sources * n_targets), n_targets)
    return np.column_stack([np.eye(n_sources)[source], np.eye(n_targets)[target][:, 1:]])


def ols(gain, kin, covariates=()):
    """Least squares with an indicator of each source and target; kinship comes first."""
    cells = ~np.isnan(gain.ravel())
    columns = [kin.ravel(), *(values.ravel() for values in covariates), *dummies(gain.shape).T]
    return sm.OLS(gain.ravel()[cells], np.column_stack(columns)[cells]).fit()


def direct_statistics(gain, kin, covariates=()):
    """Estimate over its error clustered by row, fitted anew for every order of the rows of kinship.

    What is permuted is kinship without effects and covariates, fitted where gains were observed. No
    error is below a third of that over all orders.
    """
    design = np.column_stack([*(values.ravel() for values in covariates), *dummies(gain.shape).T])
    cells = ~np.isnan(gain.ravel())
    fit = np.linalg.lstsq(design[cells], kin.ravel()[cells])[0]
    profile = (kin.ravel() - design @ fit).reshape(kin.shape)
    without = np.eye(cells.sum()) - design[cells] @ np.linalg.pinv(design[cells])
    y, row = without @ gain.ravel()[cells], np.nonzero(~np.isnan(gain))[0]
    sums, variances = [], []
    for order in permutations(range(len(kin))):
        matched = without @ profile[list(order)].ravel()[cells]
        length = np.sqrt(matched @ matched)
        slope = matched @ y / length**2
        scores = np.bincount(row, matched * (y - slope * matched))
        sums.append(matched @ y / length)
        variances.append(len(kin) / (len(kin) - 1) * (scores @ scores) / length**2)
    least = np.mean(np.square(sums)) / 9
    return np.array(sums) / np.sqrt(np.maximum(variances, least))


def direct_p(gain, kin, covariates=()):
    """Share of orders of rows whose absolute statistic is at least the observed one."""
    absolute = abs(direct_statistics(gain, kin, covariates))
    return np.mean(absolute >= absolute[0] * (1 - 1e-9))


def one_sided_p(gain, sign):
    """Share of orders of rows whose statistic is at least (sign 1) or at most the observed one."""
    values = sign * direct_statistics(gain, KIN)
    return np.mean(values >= values[0] - 1e-9)


@pytest.mark.parametrize("gain", [GAIN, MISSING], ids=["complete", "missing"])
@pytest.mark.parametrize(
    "covariates", [{}, {"script": SCRIPT}, {"script": SCRIPT, "nearness": NEARNESS}]
)
def test_estimate_and_p_equal_least_squares_refitted_in_every_order(gain, covariates):
    effect = crossed_effect(gain, KIN, BRANCHES, covariates=covariates)
    fit = ols(gain, KIN, covariates.values())
    assert effect.estimate == pytest.approx(fit.params[0])
    assert effect.slopes == pytest.approx(dict(zip(covariates, fit.params[1:], strict=False)))
    assert effect.p == pytest.approx(direct_p(gain, KIN, tuple(covariates.values())))
    assert (effect.n_sources, effect.n_branches, effect.n_related_branches) == (4, 4, 3)
    assert (effect.n_targets, effect.n_cells) == (9, (~np.isnan(gain)).sum())
    assert (effect.matchings, effect.exact, effect.lowest_p) == (24, True, 1 / 24)


@pytest.mark.parametrize("gain", [GAIN, MISSING], ids=["complete", "missing"])
def test_the_statistic_is_the_estimate_over_its_error_clustered_by_source(gain):
    cells = ~np.isnan(gain.ravel())
    design = np.column_stack([KIN.ravel(), dummies(gain.shape)])[cells]
    fit = sm.OLS(gain.ravel()[cells], design).fit(
        cov_type="cluster",
        cov_kwds={"groups": np.nonzero(~np.isnan(gain))[0], "use_correction": False},
    )
    statistic = fit.params[0] / (fit.bse[0] * np.sqrt(4 / 3))
    crossed = crossed_design(KIN, ~np.isnan(gain), BRANCHES, {})
    test = matching_test(crossed, crossed.gain_residual(gain), 1.0)
    error = np.sqrt(test.squares[0][0]) / test.kin_sums[0]
    assert test.estimate / error == pytest.approx(statistic)


@pytest.mark.parametrize("gain", [GAIN, MISSING], ids=["complete", "missing"])
def test_the_robust_interval_is_that_of_two_way_clustered_errors(gain):
    effect = crossed_effect(gain, KIN, BRANCHES)
    cells = ~np.isnan(gain.ravel())
    clusters = np.column_stack(np.divmod(np.arange(gain.size), gain.shape[1]))[cells]
    design = np.column_stack([KIN.ravel(), dummies(gain.shape)])[cells]
    fit = sm.OLS(gain.ravel()[cells], design).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True}
    )
    error = fit.cov_params()[0, 0] ** 0.5
    for interval, level in ((effect.robust, 0.975), (effect.robust_90, 0.95)):
        half = error * stats.t.ppf(level, 3)
        assert tuple(interval) == pytest.approx((effect.estimate - half, effect.estimate + half))


def test_a_mixed_model_with_crossed_effects_agrees():
    rng = np.random.default_rng(2)
    kin = np.repeat(np.eye(6), 3, axis=1)
    gain = rng.normal(0, 5, (6, 1)) + rng.normal(0, 10, (1, 18)) + rng.normal(4 * kin, 3)
    source, target = np.divmod(np.arange(gain.size), gain.shape[1])
    table = pd.DataFrame(
        {"gain": gain.ravel(), "kin": kin.ravel(), "source": source, "target": target}
    )
    mixed = sm.MixedLM.from_formula(
        "gain ~ kin",
        table,
        groups=np.ones(len(table)),
        vc_formula={"source": "0 + C(source)", "target": "0 + C(target)"},
    ).fit()
    effect = crossed_effect(gain, kin, "abcdef")
    assert effect.estimate == pytest.approx(mixed.params["kin"], abs=0.1 * mixed.bse["kin"])
    assert effect.standard_error == pytest.approx(mixed.bse["kin"], rel=0.2)


def test_the_95_percent_interval_ends_where_shifted_gains_become_significant():
    rng = np.random.default_rng(1)
    kin = np.repeat(np.eye(6), 3, axis=1)
    gain = 0.05 * kin + rng.normal(0, 0.05, kin.shape)
    effect = crossed_effect(gain, kin, "abcdef")
    for end, outwards in ((effect.interval_95.low, -1e-7), (effect.interval_95.high, 1e-7)):
        inside, outside = (
            crossed_effect(gain - (end + step) * kin, kin, "abcdef").p
            for step in (-outwards, outwards)
        )
        assert outside <= 0.05 < inside


@quick
@given(arrays)
def test_the_90_percent_interval_holds_what_neither_one_sided_test_rejects(gain):
    effect = crossed_effect(gain, KIN, BRANCHES, 0.03)
    low, high = effect.interval_90
    assert one_sided_p(gain - (low - 1e-6) * KIN, 1) <= 0.05
    assert one_sided_p(gain - (low + 1e-6) * KIN, 1) > 0.05
    assert one_sided_p(gain - (high - 1e-6) * KIN, -1) > 0.05
    assert one_sided_p(gain - (high + 1e-6) * KIN, -1) <= 0.05
    robust = effect.robust_90.high - effect.estimate
    room = 0.03 - abs(effect.estimate)
    within = stats.t.sf(room / robust * stats.t.ppf(0.95, 3), 3) if robust else room <= 0
    assert effect.equivalence_p == pytest.approx(
        max(one_sided_p(gain + 0.03 * KIN, 1), one_sided_p(gain - 0.03 * KIN, -1), within)
    )


def own_test(gain):
    design = crossed_design(KIN, np.isfinite(gain), BRANCHES, {})
    return matching_test(design, design.gain_residual(gain), 0.15)


@quick
@given(arrays, arrays, st.integers(-40, 40).map(lambda k: k / 400))
def test_effects_of_sources_and_targets_cancel_and_a_true_effect_shifts_every_p(gain, other, shift):
    test, moved = own_test(gain), own_test(gain + other[:, :1] + other[:1] + shift * KIN)
    assert moved.estimate == pytest.approx(test.estimate + shift, abs=1e-12)
    assert moved.error == pytest.approx(test.error, abs=1e-12)
    for effect in (test.estimate + 1e-3, test.estimate - 2e-2, test.estimate + 0.3):
        assert moved.p(effect + shift) == test.p(effect)
        assert moved.upper_p(effect + shift) == test.upper_p(effect)
        assert moved.lower_p(effect + shift) == test.lower_p(effect)


@pytest.mark.parametrize("gain", [GAIN, MISSING], ids=["complete", "missing"])
def test_effects_of_sources_and_targets_cancel_and_a_true_effect_shifts_intervals(gain):
    effect = crossed_effect(gain, KIN, BRANCHES, 0.03)
    shifted = gain + SCRIPT[:, :1] + NEARNESS[:1] + 0.0175 * KIN
    moved = crossed_effect(shifted, KIN, BRANCHES, 0.03)
    for mine, theirs in (
        (moved.interval_95, effect.interval_95),
        (moved.interval_90, effect.interval_90),
        (moved.robust, effect.robust),
    ):
        assert tuple(mine) == pytest.approx(np.add(theirs, 0.0175), abs=1e-9)
    assert moved.standard_error == pytest.approx(effect.standard_error)


@quick
@given(arrays)
def test_the_intervals_hold_the_estimate_agree_with_p_and_turn_with_the_sign(gain):
    effect = crossed_effect(gain, KIN, BRANCHES, 0.03)
    assert effect.p >= effect.lowest_p - 1e-12
    # The 95% interval is two-sided, the 90% one equal-tailed: neither holds the other.
    for interval in (effect.interval_95, effect.interval_90):
        assert interval.low - 1e-9 <= effect.estimate <= interval.high + 1e-9
    assert effect.interval_95.excludes(0.0) == (effect.p <= 0.05)
    turned = crossed_effect(-gain, KIN, BRANCHES, 0.03)
    assert turned.p == effect.p
    assert tuple(turned.interval_95) == pytest.approx(
        (-effect.interval_95.high, -effect.interval_95.low), abs=1e-9
    )
    assert turned.equivalence_p == effect.equivalence_p


def test_verdicts():
    noise = np.random.default_rng(0).normal(0, 0.002, (6, 18))
    kin = np.repeat(np.eye(6), 3, axis=1)
    verdicts = [
        crossed_effect(noise + effect * kin, kin, "abcdef", 0.03).verdict
        for effect in (0.06, -0.06, 0.01)
    ]
    # An effect of one point differs from zero and is smaller than the margin.
    assert verdicts == [
        Verdict.RELATED_GAIN_MORE, Verdict.RELATED_GAIN_LESS, Verdict.EQUIVALENT,
    ]  # fmt: skip
    assert crossed_effect(10 * noise, kin, "abcdef", 0.001).verdict == Verdict.INCONCLUSIVE


def test_three_sources_reject_nothing_and_bound_nothing():
    effect = crossed_effect(GAIN[:3] + KIN[:3], KIN[:3], BRANCHES[:3], 0.03)
    assert effect.p == pytest.approx(1 / 6) == effect.lowest_p
    assert tuple(effect.interval_95) == tuple(effect.interval_90) == (-np.inf, np.inf)
    assert effect.minimum_detectable == np.inf
    assert effect.verdict == Verdict.INCONCLUSIVE


def test_gains_without_interaction_have_an_effect_of_zero():
    gain = GAIN[:, :1] + GAIN[:1]
    effect = crossed_effect(gain, KIN, BRANCHES, 0.03)
    assert effect.p == 1
    assert tuple(effect.interval_95) == (0, 0)
    assert effect.verdict == Verdict.EQUIVALENT


def test_sources_without_relatives_make_fewer_different_matchings():
    kin = np.repeat(np.eye(5), 2, axis=1)
    kin[3:] = 0
    gain = np.random.default_rng(3).normal(0, 0.05, kin.shape)
    effect = crossed_effect(gain, kin, "abcde")
    assert (effect.matchings, effect.n_related_branches) == (60, 3)  # 5! / 2!
    assert effect.p * 60 == pytest.approx(round(effect.p * 60))
    assert effect.estimate == pytest.approx(ols(gain, kin).params[0])


def test_sources_of_one_branch_are_averaged():
    gain, kin = np.vstack([GAIN, GAIN[0] + SCRIPT[0] / 50]), np.vstack([KIN, KIN[0]])
    effect = crossed_effect(gain, kin, (*BRANCHES, "Semitic"))
    averaged = crossed_effect(np.vstack([(gain[0] + gain[4]) / 2, GAIN[1:]]), KIN, BRANCHES)
    assert (effect.n_sources, effect.n_branches, effect.matchings) == (5, 4, 24)
    assert effect.estimate == pytest.approx(averaged.estimate)
    assert effect.p == averaged.p
    # Its own effect is against the other branches, without its sister.
    assert effect.by_source[0].estimate == pytest.approx(
        crossed_effect(GAIN, KIN, BRANCHES).by_source[0].estimate
    )


def test_each_source_is_compared_with_the_others():
    effect = crossed_effect(GAIN, KIN, BRANCHES)
    own = KIN[:3, None, :] * np.eye(4)[:3, :, None]  # one column of kinship for each source
    columns = [*(values.ravel() for values in own), *dummies(GAIN.shape).T]
    slopes = sm.OLS(GAIN.ravel(), np.column_stack(columns)).fit().params[:3]
    assert [row.source for row in effect.by_source] == [0, 1, 2]
    assert [row.estimate for row in effect.by_source] == pytest.approx(slopes)
    first = effect.by_source[0]
    difference = slopes[0] - slopes[1:].mean()
    error = slopes[1:].std(ddof=1) * np.sqrt(1 + 1 / 2)
    assert first.difference == pytest.approx(difference)
    assert first.interval_95.high == pytest.approx(difference + error * stats.t.ppf(0.975, 1))
    # The interval is that of a t test of one value against two, with equal variances.
    assert first.student_p == pytest.approx(stats.ttest_ind(slopes[:1], slopes[1:]).pvalue)
    distances = abs(slopes - slopes.mean())
    assert first.p == pytest.approx(np.mean(distances >= distances[0] - 1e-12))
    assert first.lowest_p == pytest.approx(1 / 3)


@pytest.mark.parametrize("effect", [0.0, 0.03])
def test_effects_that_are_equal_but_for_rounding_are_equal(effect):
    gain = 0.2 + np.arange(9) / 400 + np.arange(4)[:, None] / 7 + effect * KIN
    for source in crossed_effect(gain, KIN, BRANCHES).by_source:
        assert source.estimate == pytest.approx(effect)
        assert (source.difference, source.p, source.student_p) == (0.0, 1.0, 1.0)


def test_a_tie_at_the_margin_counts_against_equivalence():
    gain = np.zeros(KIN.shape)
    gain[0, :3] = np.array([17, 3, 16]) / 400
    effect = crossed_effect(gain, KIN, BRANCHES, 0.03)
    assert effect.equivalence_p == pytest.approx(2 / 24)
    assert effect.verdict == Verdict.INCONCLUSIVE


def test_nine_sources_are_matched_at_random():
    kin = np.repeat(np.eye(9), 2, axis=1)
    gain = 0.05 * kin + np.random.default_rng(2).normal(0, 0.03, kin.shape)
    effect = crossed_effect(gain, kin, "abcdefghi", seed=1)
    assert (effect.matchings, effect.exact, effect.lowest_p) == (10_000, False, 1e-4)
    assert effect.p == crossed_effect(gain, kin, "abcdefghi", seed=1).p
    other = crossed_effect(gain, kin, "abcdefghi", seed=2)
    assert tuple(other.interval_95) == pytest.approx(tuple(effect.interval_95), abs=0.002)


def simulated(n_studies, rows, *, within_branches, between_sisters=0.0, effect=0.0, targets=3):
    """Estimates, and whether each is significant and covers the truth, for correlated gains.

    An adapter's gains on targets of one branch correlate by `within_branches`, beside the effects
    of targets and of their branches; sources of one branch share `between_sisters` of that.
    """
    rng = np.random.default_rng(0)
    row_branch = np.array(rows)
    n_branches = row_branch.max() + 1
    target_branch = np.repeat(np.arange(n_branches), targets)
    kin = (row_branch[:, None] == target_branch).astype(float)
    design = crossed_design(kin, kin >= 0, list(map(str, rows)), {})

    def interaction(n):
        by_branch = rng.normal(size=(n, n_branches))[:, target_branch]
        own = rng.normal(size=(n, len(target_branch)))
        return np.sqrt(within_branches) * by_branch + np.sqrt(1 - within_branches) * own

    results = []
    for _ in range(n_studies):
        error = np.sqrt(between_sisters) * interaction(n_branches)[row_branch]
        error = error + np.sqrt(1 - between_sisters) * interaction(len(rows))
        of_targets = rng.normal(0, 0.1, n_branches)[target_branch]
        gain = 0.05 * error + of_targets + rng.normal(0, 0.1, kin.shape[1]) + effect * kin
        results.append(effect_in_design(design, gain, 0.03))
    return results


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_targets_of_a_branch_that_move_together_do_not_make_findings(correlation):
    results = simulated(400, range(5), within_branches=correlation)
    assert np.mean([result.p <= 0.05 for result in results]) <= 0.075
    assert np.mean([not result.interval_95.excludes(0) for result in results]) >= 0.925


def test_sister_sources_whose_adapters_resemble_each_other_do_not_make_findings():
    # Permuted one by one, these eight sources reject a true null in 17% of studies.
    results = simulated(400, [0, 0, 1, 1, 2, 2, 3, 3], within_branches=0.5, between_sisters=0.8)
    assert np.mean([result.p <= 0.05 for result in results]) <= 0.07


def test_effects_that_differ_between_sources_and_average_zero_are_no_finding():
    rng = np.random.default_rng(3)
    kin = np.repeat(np.eye(6), 3, axis=1)
    design = crossed_design(kin, kin >= 0, "abcdef", {})
    results = []
    for _ in range(300):
        gain = rng.normal(0, 0.05, kin.shape) + rng.normal(0, 0.05, (6, 1)) * kin
        results.append(effect_in_design(design, gain, None))
    # No effect on average. Compared by the estimate alone, matchings find one in 14% of studies.
    assert np.mean([result.p <= 0.05 for result in results]) <= 0.09
    assert np.mean([result.robust.excludes(0) for result in results]) <= 0.08


def test_the_minimum_detectable_effect_is_detected_in_four_of_five_studies():
    typical = np.median(
        [result.minimum_detectable for result in simulated(100, range(6), within_branches=0.5)]
    )
    results = simulated(200, range(6), within_branches=0.5, effect=typical)
    assert np.mean([result.p <= 0.05 for result in results]) == pytest.approx(0.8, abs=0.08)
    assert np.mean([result.estimate for result in results]) == pytest.approx(typical, abs=0.005)


def test_a_left_out_cell_of_each_source_costs_power_and_gains_nothing():
    # Why the analysis leaves such a target out for every source: once its own cell is missing, it
    # holds no comparison of a related source with another, and its other cells only blunt the test.
    own = np.repeat(np.eye(6), 4, axis=1)
    masked = crossed_design(own, np.arange(24) % 4 + 4 * (1 - own) > 0, "abcdef", {})
    complete = np.arange(24) % 4 > 0
    dropped = crossed_design(own[:, complete], own[:, complete] >= 0, "abcdef", {})
    rng = np.random.default_rng(1)
    found = []
    for _ in range(150):
        error = rng.normal(0, 0.035, (6, 6)).repeat(4, axis=1) + rng.normal(0, 0.035, own.shape)
        gain = error + 0.05 * own
        found.append(
            [
                effect_in_design(masked, gain, 0.03).p <= 0.05,
                effect_in_design(dropped, gain[:, complete], 0.03).p <= 0.05,
            ]
        )
    with_masked, with_dropped = np.mean(found, axis=0)
    assert with_masked <= with_dropped


@pytest.mark.parametrize(
    ("gain", "kin", "branches", "options", "problem"),
    [
        (GAIN, KIN, ("Semitic",) * 4, {}, "at least 2 branches, but got 1"),
        (GAIN, KIN * 0, BRANCHES, {}, "combination of the effects of sources and of targets,"),
        (GAIN, KIN * 0 + np.arange(9), BRANCHES, {}, "combination of the effects"),
        (GAIN * np.nan, KIN, BRANCHES, {}, "needs a target with gains .* but Semitic has none"),
        (np.where(np.arange(4)[:, None] == 2, np.nan, GAIN), KIN, BRANCHES, {}, "Bantu has none"),
        (GAIN, KIN, BRANCHES[:3], {}, "each of the 4 sources needs its branch, but there are 3"),
        (GAIN + np.inf, KIN, BRANCHES, {}, "finite or missing"),
        (GAIN, KIN[:, :8], BRANCHES, {}, "kinship must be finite in every cell of 4 sources and 9"),
        (GAIN, KIN, BRANCHES, {"covariates": {"x": SCRIPT * np.nan}}, "x must be finite in every"),
        (GAIN, KIN, BRANCHES, {"covariates": {"x": 2 * KIN}}, "targets and x, so that"),
        (GAIN, KIN, BRANCHES, {"covariates": {"x": KIN * 0 + 1}}, "adjusting for x is not possible"),
        (
            GAIN, KIN, BRANCHES, {"covariates": {"x": SCRIPT, "y": 1 - SCRIPT}},
            "adjusting for x, y is not possible",
        ),
    ],
)  # fmt: skip
def test_arrays_without_an_answer_are_refused(gain, kin, branches, options, problem):
    with pytest.raises(ComparisonError, match=problem):
        crossed_effect(gain, kin, branches, **options)


def test_a_margin_must_be_positive():
    with pytest.raises(ConfigError, match=r"`margin` must be positive but got 0\."):
        crossed_effect(GAIN, KIN, BRANCHES, 0.0)
