"""Studies whose cells run where the study file says: in this process, or on a cluster."""

from contextlib import AbstractContextManager

from isogloss.config import MainConfig, StudyConfig
from isogloss.stages import study
from isogloss.types import Launcher


def launch(config: StudyConfig) -> AbstractContextManager[study.RunCells]:
    """The function that runs the cells of a study, by its launcher; see `stages.study.Launch`."""
    if config.launcher == Launcher.RAY:
        from isogloss.launchers.ray_cells import on_ray  # Ray is optional, and takes a while

        return on_ray(config)
    return study.in_this_process(config)


def run_study(config: StudyConfig) -> str:
    """Run a study; returns the id of its compare run."""
    return study.run_study(config, launch=launch)


def run_main(config: MainConfig) -> str:
    """The entry point `main`; returns the id of the compare run, or "" for a dry run."""
    return study.run_main(config, launch)
