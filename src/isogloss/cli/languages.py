"""The commands `isogloss tasks` and `isogloss languages`."""

import click

from isogloss.cli.command import SETTINGS, set_verbosity, user_errors, verbosity_options
from isogloss.formatting import aligned

HUB_TASKS = ("global_mmlu", "global_piqa_parallel", "global_piqa_nonparallel", "afrixnli")


def tasks_table() -> list[tuple[str, ...]]:
    """A header, then one row per task."""
    from isogloss.languages import table
    from isogloss.tasks import afrixnli, belebele, global_mmlu, global_piqa, probe, sib200
    from isogloss.tasks.hub_files import hub_names

    entries = table().values()
    in_sib200 = sum(language.sib200 for language in entries)
    in_belebele = sum(language.belebele for language in entries)
    hub = "the Hub ({}) or data_dir"
    return [
        ("task", "languages", "data", "contents"),
        ("probe", str(len(probe.languages())), "none needed", "generated facts, questions on them"),
        ("sib200", str(in_sib200), hub.format(sib200.HUB), "topics of sentences"),
        ("belebele", str(in_belebele), hub.format(belebele.HUB), "reading comprehension"),
        *(
            (data.task, str(len(hub_names(data.task))), hub.format(data.repository), contents)
            for data, contents in (
                (global_mmlu.FILES, "exam questions on 57 subjects"),
                (global_piqa.PARALLEL, "everyday knowledge; evaluation only"),
                (global_piqa.NONPARALLEL, "the same, other questions per language"),
                (afrixnli.FILES, "whether a sentence follows from another"),
            )
        ),
        ("files", "yours", "data_dir", "your own questions, see docs/how-to/data.md"),
    ]


def languages_table(
    branch: str | None, source: str, task: str | None = None
) -> list[tuple[str, ...]]:
    """A header, then one row per language, of `branch` and `task` if set; groups are for `source`.

    Raises ConfigError for an unknown branch or language.
    """
    from isogloss.languages import group, language, members, source_languages, table
    from isogloss.tasks import probe
    from isogloss.tasks.hub_files import hub_names

    source_languages(source)
    codes = members(branch) if branch else table().keys()
    in_probe = probe.languages()
    rows: list[tuple[str, ...]] = [("code", "name", "branch", "script", "group", "tasks")]
    for code in sorted(codes):
        entry = language(code)
        having = {
            "probe": code in in_probe,
            "sib200": entry.sib200,
            "belebele": entry.belebele,
            **{task: code in hub_names(task) for task in HUB_TASKS},
        }
        if task and not having[task]:
            continue
        names = " ".join(name for name, present in having.items() if present)
        rows.append((code, entry.name, entry.branch, entry.script, group(code, source), names))
    return rows


def _tasks(verbose: bool, quiet: bool) -> None:
    set_verbosity(verbose, quiet)
    click.echo(aligned(tasks_table()))


def _languages(
    branch: str | None, source: str, task: str | None, verbose: bool, quiet: bool
) -> None:
    set_verbosity(verbose, quiet)
    with user_errors():
        rows = languages_table(branch, source, task)
    click.echo(aligned(rows))
    click.echo(f"{len(rows) - 1} languages; groups are relative to {source}")


tasks = click.Command(
    "tasks",
    callback=_tasks,
    help="List the tasks: how many languages each has and where its data come from.",
    short_help="List the tasks.",
    params=verbosity_options(),
    context_settings=SETTINGS,
)
languages = click.Command(
    "languages",
    callback=_languages,
    help="List languages: code, name, branch, script, group and the tasks that have them.",
    short_help="List the languages.",
    params=[
        click.Option(
            ["--branch"], help="Only the languages of this branch or family, such as Semitic."
        ),
        click.Option(
            ["--source"],
            default="arb_Arab",
            show_default=True,
            help="Language fine-tuned on: groups are relative to it.",
        ),
        click.Option(
            ["--task"],
            type=click.Choice(["probe", "sib200", "belebele", *HUB_TASKS]),
            help="Only the languages of this task.",
        ),
        *verbosity_options(),
    ],
    context_settings=SETTINGS,
)
