"""Studies whose cells run where the study file says: in this process, or on a cluster."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from isogloss.config import MainConfig, StudyConfig
from isogloss.stages.dry_run_report import run_dry
from isogloss.types import Launcher

if TYPE_CHECKING:  # imports torch, which a dry run does not need
    from isogloss.stages import study


def launch(config: StudyConfig) -> "AbstractContextManager[study.RunCells]":
    """The function that runs the cells of a study, by its launcher; see `stages.study.Launch`."""
    if config.launcher == Launcher.RAY:
        from isogloss.launchers.ray_cells import on_ray  # Ray is optional, and takes a while

        return on_ray(config)
    from isogloss.stages import study

    return study.in_this_process(config)


def run_study(config: StudyConfig) -> str:
    """Run a study; returns the id of its compare run."""
    from isogloss.stages import study

    return study.run_study(config, launch=launch)


def run_main(config: MainConfig) -> str:
    """The entry point `main`; returns the id of the compare run, or "" for a dry run."""
    if config.dry_run:
        run_dry(config)
        return ""
    from isogloss.stages import study

    return study.run_main(config, launch)
