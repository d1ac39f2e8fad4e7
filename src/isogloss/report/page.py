"""The report of a comparison: one self-contained HTML page, its Markdown twin, figures and CSV."""

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from isogloss.analysis.claims import Claim, claims
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.frames import contrasts_frame, gains_frame
from isogloss.analysis.gains import mean_gain_parts
from isogloss.formatting import interval_points, p_value, points, sentence
from isogloss.report import figures as language_figures
from isogloss.report import relation_figures
from isogloss.report.omissions import omission_sentence
from isogloss.report.tables import Table, names_table, tables
from isogloss.report.verdict import paragraph

DPI = 150
CAPTIONS = {
    "gains": "Gain of each language with its 95% interval, clustered by passage. The pale bars are "
    "the means of the groups; with several models, the small dots are the models.",
    "contrast": "The relatedness contrast against the equivalence margin: on the whole, by model, "
    "in other conditions, with other differences between the languages held equal, and against "
    "tuning on another language. An arrow means that the interval goes on.",
    "baseline": "Gain against accuracy before. The slope is cross-fitted over passages, since "
    "noise in the baseline alone makes weak baselines gain more; the naive line holds that noise. "
    "Numbered circles are means of models; slopes are over related and control languages.",
    "reasoning": "Gain from fine-tuning against gain from chain of thought. On the dotted line "
    "they are equal; noise in the baseline, which both share, draws points along it.",
    "models": "Gain of each model in each language, in points; the bold rows are means of groups.",
    "parts": "Gain of answers as given (those that are no choice are wrong), split into the gain "
    "of forced choices and the change in how far answers as given fall short of these.",
    "before_after": "Accuracy of each language before (hollow) and after (filled).",
}
HOW_TO_READ = (
    "The gain of a language is the difference in accuracy on the same items. The relatedness "
    "contrast is the mean gain of related languages minus the mean gain of controls, each language "
    "counting once; its test and intervals come from relabelling which languages are called "
    "related, so they speak of languages, not of items. Over several models the same languages are "
    "relabelled in all of them.",
    "The equivalence margin is the difference taken to matter, and is to be chosen before results "
    "are seen. The verdict is equivalent if the 90% interval lies within it, related gain more (or "
    "less) if the 95% interval otherwise excludes zero, and inconclusive if neither holds. p, "
    "equivalence is the larger of two one-sided Welch tests against the margin.",
    "The minimum detectable effect is the true difference that this many languages, with this "
    "spread, would show four times in five. Where it is larger than the margin, an inconclusive "
    "verdict says more about the number of languages than about kinship.",
    "The adjusted contrasts hold baseline, script or tokens equal between the groups. The double "
    "difference asks whether relatives gain more from their own relative than from another source, "
    "so that whatever makes a language easy to improve cancels.",
    "A gain is a score less its baseline, so noise in the baseline alone makes weak baselines gain "
    "more and makes the gains of two conditions agree. Cross-fitted slopes take baseline and gain "
    "from different passages and are free of that; the naive ones are not.",
    "Answers as given are greedy or generated ones, wrong if they are no choice. Their gain is the "
    "gain of forced choices (comprehension) plus the change in how far they fall short of these "
    "(format). Where a letter is answered directly, these are answers that it had and did "
    "not give; in generated text, and after reasoning, it is their disagreement too.",
    "Holm's p is adjusted for the number of languages, or of models, that were tested at once. "
    "A language's p is the largest of that of the clustered t, of McNemar's test (of two single "
    "runs) and of what its number of passages allows, so it can be large where the interval, the "
    "clustered t's alone, is short; where all items changed alike there is none. "
    "Gains and estimates stand in gains.csv and contrasts.csv, as fractions rather than points.",
)


class Content(NamedTuple):
    """What page and Markdown say, in the order of the page; `numbers` and `texts` are tables."""

    title: str
    verdict: str
    evidence: str
    paragraph: str
    claims: Sequence[Claim]
    captions: Mapping[str, str]
    numbers: Sequence[Table]
    left_out: Sequence[str]
    texts: Sequence[Table]
    how_to_read: Sequence[str]


def figures(comparison: Comparison) -> dict[str, Figure]:
    """The figures by name, in the order of the page; those that these runs have nothing for not."""
    drawn = {
        "gains": language_figures.gains(comparison),
        "contrast": relation_figures.contrast(comparison),
        "baseline": relation_figures.baseline(comparison),
    }
    if comparison.gain_agreements and {"tuned", "base+cot"} <= set(comparison.conditions):
        drawn["reasoning"] = relation_figures.reasoning(comparison)
    if len(comparison.models) > 1:
        drawn["models"] = language_figures.models(comparison)
    if mean_gain_parts(comparison.languages):
        drawn["parts"] = language_figures.parts(comparison)
    return {**drawn, "before_after": language_figures.before_after(comparison)}


def write(
    comparison: Comparison,
    folder: Path,
    provenance: Mapping[str, str],
    pulled: Sequence[Sequence[str]],
) -> Path:
    """Write report.html, report.md, gains.csv, contrasts.csv and a PNG for each figure.

    `provenance` is printed as it is given, in its order; `pulled` lists the runs that were used,
    headings first. Returns the path of report.html. The page loads nothing from elsewhere: figures
    are data: URIs, and everything from data is escaped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gains_frame(comparison).to_csv(folder / "gains.csv", index=False)
    contrasts_frame(comparison).to_csv(folder / "contrasts.csv", index=False)
    images = {name: _png(figure) for name, figure in figures(comparison).items()}
    for name, image in images.items():
        (folder / f"{name}.png").write_bytes(image)
    numbers = tables(comparison)
    if names := names_table(comparison):
        numbers.insert(0, names)
    texts = [
        *([Table("Runs used", pulled[0], pulled[1:], words=True)] if pulled else []),
        Table("Provenance", ("What", "Value"), list(provenance.items()), words=True),
    ]
    content = Content(
        title=f"Does the gain with {comparison.change} follow kinship?",
        verdict=sentence(comparison.contrast.verdict),
        evidence=_evidence(comparison),
        paragraph=paragraph(comparison),
        claims=claims(comparison),
        captions={name: CAPTIONS[name] for name in images},
        numbers=numbers,
        left_out=[omission_sentence(omission) for omission in comparison.omissions],
        texts=texts,
        how_to_read=HOW_TO_READ,
    )
    (folder / "report.md").write_text(_markdown(content), encoding="utf-8")
    source = (files(__package__) / "report.html.j2").read_text(encoding="utf-8")
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(source)
    encoded = {name: base64.b64encode(image).decode() for name, image in images.items()}
    page = folder / "report.html"
    page.write_text(template.render(images=encoded, **content._asdict()), encoding="utf-8")
    return page


def _evidence(comparison: Comparison) -> str:
    """The verdict's numbers in a line."""
    contrast = comparison.contrast
    way = "more" if contrast.estimate >= 0 else "less"
    return (
        f"Relatives gained {points(abs(contrast.estimate), signed=False)} points {way} than "
        f"controls, 95% interval "
        f"{interval_points(contrast.permutation.interval_95)}, p "
        f"{p_value(contrast.permutation.p)}; the equivalence margin is "
        f"±{points(comparison.margin, signed=False)}."
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def _escaped(text: str) -> str:
    for special in "\\|*_`[]~$":
        text = text.replace(special, f"\\{special}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())


def _markdown(content: Content) -> str:
    """The same as the page; figures are the files beside it."""

    def section(each: Table) -> list[str]:
        cells = [[_escaped(cell) for cell in row] for row in (each.headings, *each.rows)]
        rows = [
            cells[0],
            ["---", *["---" if each.words else "---:"] * (len(each.headings) - 1)],
            *cells[1:],
        ]
        note = [_escaped(each.note), ""] if each.note else []
        return ["", f"## {each.title}", "", *note, *(f"| {' | '.join(row)} |" for row in rows)]

    lines = [f"# {content.title}", "", f"**{content.verdict}.** {_escaped(content.evidence)}"]
    lines += ["", _escaped(content.paragraph)]
    lines += ["", "## The three claims"]
    for claim in content.claims:
        said = sentence(", ".join(filter(None, (claim.verdict, _numbers(claim)))))
        lines += ["", f"**{claim.name}: {_escaped(claim.title)}.** {_escaped(said)}."]
        lines += ["", _escaped(claim.sentence)]
    lines += ["", "## Figures"]
    for name, caption in content.captions.items():
        lines += ["", f"![{caption}]({name}.png)", "", caption]
    for each in content.numbers:
        lines += section(each)
    lines += ["", "## What is missing", ""]
    lines += [f"- {_escaped(line)}" for line in content.left_out] or ["Nothing."]
    for each in content.texts:
        lines += section(each)
    lines += ["", "## How to read this", ""]
    return "\n".join(lines) + "\n" + "\n\n".join(content.how_to_read) + "\n"


def _numbers(claim: Claim) -> str:
    """Estimate, interval and naive estimate, as far as there are any."""
    named = (("", claim.estimate), ("95% interval ", claim.interval), ("naively ", claim.naive))
    return ", ".join(f"{name}{value}" for name, value in named if value)
