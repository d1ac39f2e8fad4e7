"""The language of an answer: from its fields, or from the name of its task."""

from collections.abc import Iterable
from typing import NamedTuple

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.importers.fields import CODE, Fields, is_empty, require, text_of
from isogloss.importers.task_names import Spot, Standard, spots, without
from isogloss.languages.codes import languages_of


class AnswerLanguage(NamedTuple):
    """The language that a file states, None for none.

    `read_as` says how a name that is no FLORES-200 code was read; empty if it is one.
    """

    code: str | None
    read_as: str = ""


def answer_language(
    fields: Fields, names: Iterable[str], config: ImportConfig, place: str, name: str = ""
) -> AnswerLanguage:
    """The language in the fields `names`, or else in the `name` of the task.

    The parameter `language` may name another field, and `language_names` what a name means.
    DataError if two of these disagree, or if a name may mean several languages.
    """
    parameter = _parameter(config)
    if config.language is not None and parameter is None:
        names = (config.language,)
        require(fields, names, place, "language")
    codes: dict[str, str] = {}
    read_as = ""
    for field in names:
        if not is_empty(fields.get(field)):
            value = text_of(fields[field], place, field)
            codes[field] = _code(value, field, config, place)
            if value != codes[field]:
                read_as = f"{value!r} in {field} is read as {codes[field]}"
    known = next(iter(codes.values()), parameter)
    spot = _spot(name, known, config, place)
    if spot is not None:
        codes["the task's name"] = spot.codes[0]
        if spot.text != spot.codes[0]:
            read_as = f"{spot.text!r} in the task's name {name} is read as {spot.codes[0]}"
    if len(set(codes.values())) > 1:
        listed = " but ".join(f"{code} in {field}" for field, code in codes.items())
        raise DataError(f"{place}: the language is {listed}.")
    return AnswerLanguage(next(iter(codes.values()), None), read_as)


def task_name(name: str, languages: Iterable[AnswerLanguage], config: ImportConfig) -> str:
    """The last part of a task's name, without the language if all answers have the same one."""
    codes = {language.code or _parameter(config) for language in languages}
    return without(name, codes.pop() if len(codes) == 1 else None, config.language_codes)


def _parameter(config: ImportConfig) -> str | None:
    """The parameter `language`, if it is a code and not the name of a field."""
    return config.language if config.language and CODE.fullmatch(config.language) else None


def _code(value: str, field: str, config: ImportConfig, place: str) -> str:
    """The FLORES-200 code that the value of a field means; the value itself if it means none."""
    given = dict(config.language_codes)
    if value in given:
        return given[value]
    codes = languages_of(value)
    if len(codes) > 1:
        raise DataError(
            f"{place}: {field} is {value!r}, which may mean {' or '.join(codes)}; set "
            f"language_names={value}=CODE."
        )
    return codes[0] if codes else value


def _spot(name: str, known: str | None, config: ImportConfig, place: str) -> Spot | None:
    """The part of a task's name that states its language; None if no part does.

    A code of ISO 639 counts only if nothing else states the language: it may be a word.
    DataError if several parts or several languages come into question.
    """
    found = spots(name, config.language_codes)
    for standard in Standard:
        if known and standard in (Standard.OTHER, Standard.WORD):
            return None
        of_standard = [spot for spot in found if spot.standard is standard]
        meant = {spot.codes for spot in of_standard}
        if not meant or (known and any(known in codes for codes in meant)):
            continue
        if len(meant) == 1 and len(of_standard[0].codes) == 1 and standard is not Standard.WORD:
            return of_standard[0]
        listed = ", ".join(
            f"{spot.text!r} ({' or '.join(spot.codes) or 'no language of the table'})"
            for spot in dict.fromkeys(of_standard)
        )
        text = of_standard[0].text if len(meant) == 1 else name
        raise DataError(
            f"{place}: the language of task {name} is not clear from {listed} in its name; set "
            f"language_names={text}=CODE, or language to a code or a field."
        )
    return None
