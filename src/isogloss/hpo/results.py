"""What a search has found: the best trial, a table of all, and a page of Optuna's plots."""

import html
import math
import warnings
from collections import Counter

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna import visualization
from optuna.trial import FrozenTrial

from isogloss.errors import TrainingError
from isogloss.hpo.trials import outcome

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "h2{margin:2.5rem 0 0}p{max-width:45rem;color:#444}"
)


def best_trial(study: optuna.Study) -> FrozenTrial:
    """The best completed trial; TrainingError with a reason if there is none."""
    try:
        return study.best_trial
    except ValueError:
        trials = study.get_trials(deepcopy=False)
    reasons = [trial.user_attrs["reason"] for trial in trials if "reason" in trial.user_attrs]
    raise TrainingError(
        f"none of the {len(trials)} trials of study {study.study_name!r} was completed; the "
        f"last one says: {reasons[-1] if reasons else 'nothing'}"
    )


def states(study: optuna.Study) -> dict[str, int]:
    """How many trials are complete, pruned and failed."""
    counts = Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False))
    return {state: counts[state] for state in ("complete", "pruned", "fail")}


def trials_table(study: optuna.Study, objective: str) -> pd.DataFrame:
    """One row a trial: number, state, reason, objective, seconds, hyperparameters."""
    return pd.DataFrame(
        [
            {
                **outcome(trial, {}),
                objective: trial.value if trial.values else math.nan,
                "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
                **trial.params,
            }
            for trial in study.get_trials(deepcopy=False)
        ]
    )


def search_page(study: optuna.Study, objective: str) -> str:
    """History, importances, slices and parallel coordinates of a search.

    One HTML text that needs nothing else. A plot that the trials are too few or too much alike for
    is named as missing.
    """
    sections = [
        ("History", "The objective of each trial in order, and the best so far.",
         visualization.plot_optimization_history),
        ("Importances", "How much each hyperparameter tells the better trials from the rest "
         "(PED-ANOVA). With a few dozen trials it is a hint, not a measurement.",
         visualization.plot_param_importances),
        ("Slices", "Each hyperparameter against the objective.", visualization.plot_slice),
        ("Parallel coordinates", "One line a trial, darker where it is better.",
         visualization.plot_parallel_coordinate),
    ]  # fmt: skip
    body = []
    script: bool | str = True  # plotly's own code, once
    for title, text, plot in sections:
        body.append(f"<h2>{title}</h2><p>{text}</p>")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # too few trials for importances
                figure: go.Figure = plot(study, target_name=objective)  # type: ignore[operator]
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
