"""The report of a comparison: one self-contained HTML page, its Markdown twin, figures and CSV."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.crossed_frames import crossed_cells_frame, crossed_effects_frame
from isogloss.analysis.frames import contrasts_frame, csv_text, gains_frame, published_frame
from isogloss.analysis.gains import mean_gain_parts
from isogloss.report import (
    contrast_figure,
    crossed_figures,
    language_figures,
    model_figure,
    placebo_figure,
    scatter_figures,
)
from isogloss.report.content import Content, report_content
from isogloss.report.markdown import markdown
from isogloss.types import Condition

DPI = 150
UNBROKEN = re.compile(r"\[[^\[\]]{1,30}\]|\bp [=<] [\d.]+")


def figures(comparison: Comparison) -> dict[str, Figure]:
    """The figures by name, in the order of the page, without those that lack data."""
    drawn = {}
    if crossed := comparison.crossed:
        drawn = {
            "crossed_effects": crossed_figures.crossed_effects(comparison, crossed),
            "crossed_gains": crossed_figures.crossed_gains(comparison, crossed),
        }
    drawn |= {
        "gains": language_figures.gains(comparison),
        "contrast": contrast_figure.contrast(comparison),
    }
    if comparison.placebo.others:
        drawn["placebo"] = placebo_figure.placebo(comparison)
    drawn["baseline"] = scatter_figures.baseline(comparison)
    needed = {Condition.TUNED, Condition.BASE_COT}
    if comparison.gain_agreements and needed <= set(comparison.conditions):
        drawn["reasoning"] = scatter_figures.reasoning(comparison)
    if len(comparison.models) > 1:
        drawn["models"] = model_figure.models(comparison)
    if mean_gain_parts(comparison.languages):
        drawn["parts"] = language_figures.parts(comparison)
    return {**drawn, "before_after": language_figures.before_after(comparison)}


def write(
    comparison: Comparison,
    folder: Path,
    provenance: Mapping[str, str],
    runs: Sequence[Sequence[str]],
) -> Path:
    """Write report.html, report.md, gains.csv, contrasts.csv, published.csv and figures as PNG.

    With several sources also crossed.csv and crossed_effects.csv.

    `provenance` is printed unchanged and in its order; `runs` is the table of the runs used, with
    its headings first. Returns the path of report.html. The page loads nothing from elsewhere:
    figures are data: URIs, and all text that comes from data is escaped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "gains": gains_frame(comparison),
        "contrasts": contrasts_frame(comparison),
        "published": published_frame(comparison),
    }
    if crossed := comparison.crossed:
        tables |= {
            "crossed": crossed_cells_frame(crossed),
            "crossed_effects": crossed_effects_frame(crossed),
        }
    for name, table in tables.items():
        (folder / f"{name}.csv").write_text(csv_text(table), encoding="utf-8")
    images = {name: _png(figure) for name, figure in figures(comparison).items()}
    for name, image in images.items():
        (folder / f"{name}.png").write_bytes(image)
    content = report_content(comparison, list(images), provenance, runs)
    (folder / "report.md").write_text(markdown(content), encoding="utf-8")
    page = folder / "report.html"
    page.write_text(_html(content, images), encoding="utf-8")
    return page


def _html(content: Content, images: Mapping[str, bytes]) -> str:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["unbroken"] = _unbroken
    source = (files(__package__) / "report.html.j2").read_text(encoding="utf-8")
    encoded = {name: base64.b64encode(image).decode() for name, image in images.items()}
    return environment.from_string(source).render(images=encoded, **content._asdict())


def _unbroken(text: str) -> str:
    """Text whose intervals and p values do not break across lines."""
    return UNBROKEN.sub(lambda match: match[0].replace(" ", "\u00a0"), text)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()
