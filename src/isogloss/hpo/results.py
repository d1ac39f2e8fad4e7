"""Results of a search: the best trial, a table of all trials, and a page of Optuna's plots."""

import html
import math
import warnings
from collections import Counter
from collections.abc import Callable

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna import visualization
from optuna.trial import FrozenTrial, TrialState

from isogloss.errors import TrainingError
from isogloss.hpo.retry import REASON
from isogloss.tracking.trials import TrialOutcome

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "h2{margin:2.5rem 0 0}p{max-width:45rem;color:#444}"
)


def best_trial(study: optuna.Study) -> FrozenTrial:
    """The best complete trial; TrainingError with the last reason of failure if there is none."""
    try:
        return study.best_trial
    except ValueError:
        trials = study.get_trials(deepcopy=False)
    reasons = [trial.user_attrs[REASON] for trial in trials if REASON in trial.user_attrs]
    raise TrainingError(
        f"none of the {len(trials)} trials of study {study.study_name!r} is complete; "
        + (f"the last failed: {reasons[-1]}" if reasons else "none of them recorded an error.")
    )


def count_states(study: optuna.Study) -> dict[str, int]:
    """Numbers of trials that are complete, pruned and failed, by Optuna's names of the states."""
    counts = Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False))
    return {state: counts[state] for state in ("complete", "pruned", "fail")}


def trial_outcome(trial: FrozenTrial, next_attempt: int | None = None) -> TrialOutcome:
    """How a finished trial ended; the reason of a killed one names its next attempt."""
    reason = None
    if trial.state == TrialState.FAIL:
        reason = str(trial.user_attrs.get(REASON, "its worker was killed or interrupted"))
        if next_attempt is not None:
            reason += f"; tried again as trial {next_attempt}"
    ended = trial.datetime_complete
    return TrialOutcome(
        number=trial.number,
        state=trial.state.name.lower(),
        objective=trial.value if trial.state == TrialState.COMPLETE else None,
        ended=None if ended is None else int(ended.timestamp() * 1000),
        duration=None if trial.duration is None else trial.duration.total_seconds(),
        reason=reason,
    )


def trials_table(study: optuna.Study, objective: str) -> pd.DataFrame:
    """One row per trial: number, state, reason, objective, seconds, hyperparameters."""
    return pd.DataFrame(
        [
            {
                **trial_outcome(trial).tags,
                objective: trial.value if trial.values else math.nan,
                "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
                **trial.params,
            }
            for trial in study.get_trials(deepcopy=False)
        ]
    )


def search_page(study: optuna.Study, objective: str) -> str:
    """A self-contained HTML page: history, importances, slices and parallel coordinates.

    Optuna cannot draw every plot from few or equal trials; the page says which one is missing.
    """
    sections: list[tuple[str, str, Callable[..., go.Figure]]] = [
        ("History", "The objective of each trial in order, and the best so far.",
         visualization.plot_optimization_history),
        ("Importances", "How well each hyperparameter separates the better trials from the rest "
         "(PED-ANOVA). With a few dozen trials this is a hint, not a measurement.",
         visualization.plot_param_importances),
        ("Slices", "Each hyperparameter against the objective.", visualization.plot_slice),
        ("Parallel coordinates", "One line per trial, darker for better ones.",
         visualization.plot_parallel_coordinate),
    ]  # fmt: skip
    body = []
    script: bool | str = True  # plotly's own code, once
    for title, text, plot in sections:
        body.append(f"<h2>{title}</h2><p>{text}</p>")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # too few trials for importances
                figure = plot(study, target_name=objective)
        except (ValueError, RuntimeError, UserWarning) as error:
            body.append(f"<p>Not drawn: {html.escape(str(error))}</p>")
            continue
        figure.update_layout(title=None, template="plotly_white", margin={"t": 30})
        body.append(figure.to_html(full_html=False, include_plotlyjs=script))
        script = False
    name = html.escape(study.study_name)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
        f"<style>{STYLE}</style><h1>Search {name}</h1>{''.join(body)}</html>"
    )
