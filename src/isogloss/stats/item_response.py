"""Ability on a common scale: an item response model with known guessing and shared items.

The probability that respondent r answers item i correctly is

    g + (1 - g) / (1 + exp(b_i - theta_r)),

with g known and difficulties b_i normal around zero. An equal gain in theta is a smaller gain in
accuracy near the ceiling and near chance.

Shapes are suffixes: R respondents (a run in a language), I items, Q difficulties.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from isogloss.types import FloatArray

PRIOR_SPREAD = 3.0  # logits; of abilities around the mean difficulty
DIFFICULTY_Q: FloatArray = np.linspace(-6.0, 6.0, 61)  # logits
SPREADS = (0.05, 3.0)  # of difficulties, logits


class Abilities(NamedTuple):
    """Abilities, [R], in logits, and the standard deviation of difficulties.

    `influence` [R, I] is what each answer adds to the ability of its respondent at given
    difficulties; zero where there is none.
    """

    ability: FloatArray
    influence: FloatArray
    difficulty_spread: float


class _Answers(NamedTuple):
    """Which items were answered, and answered correctly, [R, I] each."""

    right: FloatArray
    asked: FloatArray
    guessing: float


def fit_abilities(correct_RI: npt.ArrayLike, guessing: float) -> Abilities:
    """Abilities by marginal likelihood, with a normal prior.

    `correct_RI` is 1, 0 or a share, NaN where the respondent did not answer the item. Difficulties
    are integrated over, and their spread is estimated: marginal maximum likelihood (Bock and Aitkin
    1981) with the parts of items and respondents exchanged, since there are few respondents and
    each answers many items. The prior, with a standard deviation of `PRIOR_SPREAD`, keeps abilities
    finite where all answers are right or no more than guessed.
    """
    correct_RI = np.asarray(correct_RI, dtype=np.float64)
    answers = _Answers(
        np.nan_to_num(correct_RI), (~np.isnan(correct_RI)).astype(np.float64), guessing
    )
    accuracy_R = answers.right.sum(axis=1) / answers.asked.sum(axis=1)
    from scipy import optimize  # takes long to import

    start_R = special.logit(np.clip((accuracy_R - guessing) / (1 - guessing), 0.05, 0.95))
    fit = optimize.minimize(
        _loss,
        np.append(start_R, 0.0),
        args=(answers,),
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None)] * len(start_R) + [tuple(np.log(SPREADS))],
        options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-6},
    )
    ability_R, spread = fit.x[:-1], float(np.exp(fit.x[-1]))
    return Abilities(ability_R, _influence(ability_R, spread, answers), spread)


def _posterior(ability_R: FloatArray, spread: float, answers: _Answers) -> tuple[float, FloatArray]:
    """The marginal log-likelihood, and the posterior of each item's difficulty, [I, Q]."""
    right_RQ, wrong_RQ = _log_probabilities(ability_R, answers.guessing)
    prior_Q = -0.5 * (DIFFICULTY_Q / spread) ** 2
    joint_IQ = (
        answers.right.T @ (right_RQ - wrong_RQ)
        + answers.asked.T @ wrong_RQ
        + prior_Q
        - special.logsumexp(prior_Q)
    )
    marginal_I = special.logsumexp(joint_IQ, axis=1)
    return float(marginal_I.sum()), np.exp(joint_IQ - marginal_I[:, None])


def _log_probabilities(ability_R: FloatArray, guessing: float) -> tuple[FloatArray, FloatArray]:
    """Log-probabilities of a right and of a wrong answer, [R, Q] each; finite for any ability."""
    logit_RQ = ability_R[:, None] - DIFFICULTY_Q
    known_RQ, unknown_RQ = special.log_expit(logit_RQ), special.log_expit(-logit_RQ)
    guessed = math.log(guessing) if guessing else -math.inf
    log_rest = math.log1p(-guessing)
    return np.logaddexp(guessed, log_rest + known_RQ), log_rest + unknown_RQ


def _slopes(ability_R: FloatArray, guessing: float) -> tuple[FloatArray, FloatArray]:
    """Derivatives of the two log-probabilities by ability, [R, Q] each."""
    logit_RQ = ability_R[:, None] - DIFFICULTY_Q
    right_RQ, _ = _log_probabilities(ability_R, guessing)
    not_guessed_RQ = np.exp(math.log1p(-guessing) + special.log_expit(logit_RQ) - right_RQ)
    return not_guessed_RQ * special.expit(-logit_RQ), -special.expit(logit_RQ)


def _loss(parameters: FloatArray, answers: _Answers) -> tuple[float, FloatArray]:
    """Minus the log posterior, and its gradient."""
    ability_R, spread = parameters[:-1], float(np.exp(parameters[-1]))
    likelihood, posterior_IQ = _posterior(ability_R, spread, answers)
    right_RQ, wrong_RQ = _slopes(ability_R, answers.guessing)
    n_right_RQ, n_RQ = answers.right @ posterior_IQ, answers.asked @ posterior_IQ
    score_R = (n_right_RQ * right_RQ + (n_RQ - n_right_RQ) * wrong_RQ).sum(axis=1)
    score_R -= ability_R / PRIOR_SPREAD**2
    squares_Q = (DIFFICULTY_Q / spread) ** 2
    expected = float(special.softmax(-0.5 * squares_Q) @ squares_Q)
    score_spread = float((posterior_IQ @ squares_Q).sum() - len(posterior_IQ) * expected)
    penalty = 0.5 * float((ability_R**2).sum()) / PRIOR_SPREAD**2
    return penalty - likelihood, -np.append(score_R, score_spread)


def _influence(ability_R: FloatArray, spread: float, answers: _Answers) -> FloatArray:
    """Scores of answers over the information on the ability of their respondent, [R, I]."""
    _, posterior_IQ = _posterior(ability_R, spread, answers)
    right_RQ, wrong_RQ = _slopes(ability_R, answers.guessing)
    score_RI = answers.right * (right_RQ @ posterior_IQ.T) + (answers.asked - answers.right) * (
        wrong_RQ @ posterior_IQ.T
    )
    information_R = ((answers.asked @ posterior_IQ) * -right_RQ * wrong_RQ).sum(axis=1)
    influence_RI: FloatArray = score_RI / (information_R + 1 / PRIOR_SPREAD**2)[:, None]
    return influence_RI
