"""What a comparison leaves out, as sentences."""

from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.formatting import listed
from isogloss.languages import source_name


def omission_sentence(omission: Omission) -> str:
    """One sentence that names what is missing and why.

    The text for an unfinished run is part of the fingerprint of a compare run: changing it makes
    finished compare runs compute again.
    """
    conditions = " and no ".join(omission.conditions)
    match omission.reason:
        case OmissionReason.FAILED_CELLS:
            several = "cells" if len(omission.cells) > 1 else "cell"
            cells = listed([repr(cell) for cell in omission.cells])
            return f"The {several} {cells} failed: {omission.problem}"
        case OmissionReason.UNFINISHED_RUN:
            return f"Run {omission.run_id} ({omission.run}) is left out: it is {omission.status}."
        case OmissionReason.STUDY_RUN:
            return f"Study run {omission.run_id} {omission.problem}."
        case OmissionReason.MISSING_CONDITION:
            tuned = any(condition.tuned for condition in omission.conditions)
            source = f" with source {omission.source}" if tuned else ""
            return f"Model {omission.model} is left out: it has no {conditions} run{source}."
        case OmissionReason.MISSING_LANGUAGES:
            languages = ", ".join(omission.languages)
            return f"Languages left out because {omission.run} lacks them: {languages}."
        case OmissionReason.MISSING_ITEMS:
            return _missing_items(omission)
        case OmissionReason.MISSING_SEEDS:
            seeds = ", ".join(omission.seeds)
            return (
                f"Model {omission.model} has no {conditions} run on {omission.source} with seed "
                f"{seeds}."
            )
        case OmissionReason.NO_DOUBLE_DIFFERENCE:
            name = source_name(omission.source)
            return f"No double difference against {name}: {omission.problem}"
        case OmissionReason.NO_SLOPE:
            return f"No slope on {omission.predictor} over {omission.units}: {omission.problem}"
        case OmissionReason.MISSING_SOURCES:
            sources = ", ".join(omission.sources)
            return (
                f"Model {omission.model} is not in the average of the crossed design: it was not "
                f"tuned on {sources}."
            )
        case OmissionReason.LOST_SOURCES:
            several = "Sources" if len(omission.sources) > 1 else "Source"
            names = listed([f"{source_name(code)} ({code})" for code in omission.sources])
            verb = "are" if len(omission.sources) > 1 else "is"
            return f"{several} {names} {verb} left out: {omission.problem}"
        case OmissionReason.SOURCES_NOT_CROSSED:
            sources = ", ".join(omission.sources)
            return f"Not in the effect over all sources: {sources}; {omission.problem}"
        case OmissionReason.NO_CROSSED_DESIGN:
            return f"No crossed design of {', '.join(omission.sources)}: {omission.problem}"


def _missing_items(omission: Omission) -> str:
    """Items left out of all runs, by language; or those that one run lacks."""
    count = sum(n for _, n in omission.counts)
    items = f"{count:,} {'item' if count == 1 else 'items'}"
    if omission.run is not None:
        listed = ", ".join(f"{code} {n}" for code, n in omission.counts)
        return f"{omission.run} lacks {items} that other runs have: {listed}."
    totals = dict(omission.totals)
    listed = ", ".join(f"{code} {n} of {totals[code]}" for code, n in omission.counts)
    verb = "is" if count == 1 else "are"
    return f"{items} without an answer in some run {verb} left out of all runs: {listed}."
