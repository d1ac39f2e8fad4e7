"""The report of a comparison: one self-contained HTML page, its Markdown twin, figures and CSV."""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
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
from isogloss.report.content import report_content
from isogloss.report.items import ItemData
from isogloss.report.items_page import MOST_WITHIN, items_beside, items_json, items_note
from isogloss.report.markdown import markdown
from isogloss.report.model_order import by_baseline
from isogloss.types import Condition

DPI = 150
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
    "base-uri 'none'; form-action 'none'"
)
UNBROKEN = re.compile(r"\[[^\[\]]{1,30}\]|\bp [=<] [\d.]+")


def figures(comparison: Comparison) -> dict[str, Figure]:
    """The figures by name, in the order of the page, without those that lack data."""
    comparison = by_baseline(comparison)
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
    items: ItemData | None = None,
    run_id: str = "",
) -> Path:
    """Write report.html, report.md, gains.csv, contrasts.csv, published.csv and figures as PNG.

    With several sources also crossed.csv and crossed_effects.csv; with more `items` than the page
    holds, items.html.

    `provenance` is printed unchanged and in its order; `runs` is the table of the runs used, with
    its headings first; `run_id` is that of the compare run. Returns the path of report.html. The
    pages load nothing from elsewhere: figures are data: URIs, the one script is known by its hash,
    and all text that comes from data is escaped.
    """
    comparison = by_baseline(comparison)
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
    content = report_content(comparison, list(images), provenance, runs, run_id)
    (folder / "report.md").write_text(markdown(content), encoding="utf-8")
    values = {**content._asdict(), **_items(comparison, items)}
    values["images"] = {name: base64.b64encode(image).decode() for name, image in images.items()}
    if items is not None and values["items_page"]:
        write_items(comparison, items, folder / "items.html")
    page = folder / "report.html"
    page.write_text(_html("report.html.j2", values), encoding="utf-8")
    return page


def write_items(comparison: Comparison, items: ItemData, page: Path) -> None:
    """Write the items and answers as a page of their own."""
    title = f"Items and answers: {comparison.task}"
    text = _html("items.html.j2", {**_items(comparison, items), "title": title})
    page.write_text(text, encoding="utf-8")


def _items(comparison: Comparison, items: ItemData | None) -> dict[str, object]:
    """What the templates need of the items; `items_page` is empty if the report holds them."""
    if items is None:
        return {"items": "", "items_note": "", "items_page": ""}
    text = items_json(items)
    return {
        "items": Markup(text),
        "items_note": items_note(items, comparison),
        "items_page": items_beside(items) if len(text) > MOST_WITHIN else "",
    }


def _html(template: str, values: Mapping[str, object]) -> str:
    """A page with the style and the script of all pages; its policy allows these alone."""
    environment = Environment(
        loader=PackageLoader("isogloss.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    css, script = (
        (files(__package__) / name).read_text("utf-8") for name in ("report.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        css=Markup(css), script=Markup(script), policy=POLICY.format(digest=digest), **values
    )


def _unbroken(text: str) -> str:
    """Text whose intervals and p values do not break across lines."""
    return UNBROKEN.sub(lambda match: match[0].replace(" ", "\u00a0"), text)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()
