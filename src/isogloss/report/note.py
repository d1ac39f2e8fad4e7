"""A comparison as text: the answer that a terminal shows, and the description of its run."""

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.omissions import OmissionReason
from isogloss.report.claims import claim_texts
from isogloss.report.omissions import omission_sentence
from isogloss.report.verdict import Line, Summary, summary


def answer(comparison: Comparison, run_id: str = "") -> str:
    """The verdict, its numbers, what would settle it, and the omissions.

    Of a quick look it has no omissions. `run_id` is that of the compare run, if there is one.
    """
    parts = _answer_parts(summary(comparison, run_id))
    omitted = [] if comparison.quick else _omitted(comparison)
    return "\n\n".join([*parts, *_bullets(omitted)])


def note(comparison: Comparison, run_id: str = "") -> str:
    """The answer, all checks, the claims and the omissions, as Markdown.

    Of a quick look it has neither claims nor checks, which the report folds away.
    """
    text = summary(comparison, run_id)
    parts = _answer_parts(text)
    if comparison.quick:
        return "\n\n".join(parts)
    claims = [
        Line(claim.name, f"{claim.conclusion} {claim.key_result}".strip())
        for claim in claim_texts(comparison)
    ]
    return "\n\n".join([*parts, *_bullets([*text.details, *claims, *_omitted(comparison)])])


def _answer_parts(text: Summary) -> list[str]:
    """The paragraphs of the answer; a quick look has no numbers, and not every one a command."""
    command = f"    {text.command}" if text.command else ""
    parts = [f"{text.verdict}: {text.headline}", text.numbers, text.next_steps, command]
    return [part for part in parts if part]


def _omitted(comparison: Comparison) -> list[Line]:
    return [
        Line("Left out", omission_sentence(omission))
        for omission in comparison.omissions
        if omission.reason != OmissionReason.NO_SLOPE  # part of the claims
    ]


def _bullets(lines: list[Line]) -> list[str]:
    """One paragraph with a line for each, or none."""
    return ["\n".join(f"- {line.label}: {line.text}" for line in lines)] if lines else []
