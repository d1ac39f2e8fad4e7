"""The page of a search: Optuna's plots of it, in one HTML file that needs nothing else."""

import html
import warnings

import optuna
import plotly.graph_objects as go
from optuna import visualization

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "h2{margin:2.5rem 0 0}p{max-width:45rem;color:#444}"
)


def search_page(study: optuna.Study, objective: str) -> str:
    """History, importances, slices and parallel coordinates of a search.

    A plot that the trials are too few or too much alike for is named as missing.
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
                figure: go.Figure = plot(study, target_name=objective)
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
