"""Whether the languages of a study have a contrast: relatives of its source, and controls."""

import logging
from collections.abc import Sequence

from isogloss.config import StudyConfig
from isogloss.errors import ConfigError
from isogloss.languages import group, source_name
from isogloss.stages.study_cells import sources_without_relatives, study_sources
from isogloss.types import Group, LanguageCode

logger = logging.getLogger(__name__)


def check_contrast(config: StudyConfig, languages: Sequence[LanguageCode]) -> None:
    """Raise ConfigError if the contrast of these languages has fewer than two in a group.

    Warn of sources of a crossed study that have no relative among the languages.
    """
    source = study_sources(config)[0].source
    groups = [group(code, source, config.compare.branch) for code in languages]
    relations = {
        Group.RELATED: f"related to {source_name(source)}",
        Group.CONTROL: "controls",
    }
    for name, relation in relations.items():
        if groups.count(name) < 2:
            raise ConfigError(
                f"a contrast needs two related and two control languages, but of the languages of "
                f"study {config.study!r} {groups.count(name)} are {relation}; "
                f"choose other languages or another branch."
            )
    for unrelated in sources_without_relatives(config, languages):
        logger.warning(
            f"none of the languages of study {config.study!r} is related to source {unrelated!r}: "
            "its adapter says nothing about kinship; add relatives to `languages`"
        )
