"""Links resolve, every page is in the navigation, and formulas become MathML."""

import re
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest
from markdown import Markdown

import isogloss
from isogloss.config.study_files import read_recipe, read_study

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SITE = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def pages_of_nav(entries: list[dict[str, str | list]]) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else pages_of_nav(target)


@pytest.mark.parametrize("path", PAGES)
def test_relative_links_and_images_lead_to_files(path: str) -> None:
    page = ROOT / path
    targets = LINK.findall(without_code(page.read_text(encoding="utf-8")))
    local = [target.split("#")[0] for target in targets if not re.match(r"https?:|#", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("path", [path for path in PAGES if path.startswith("docs/")])
def test_a_page_of_the_site_links_to_nothing_outside_it(path: str) -> None:
    page = ROOT / path
    targets = LINK.findall(without_code(page.read_text(encoding="utf-8")))
    local = [page.parent / target for target in targets if not re.match(r"https?:|#", target)]
    assert [target for target in local if not target.resolve().is_relative_to(DOCS)] == []


def test_files_of_docs_that_code_and_configuration_name_exist() -> None:
    folders = ("src", "entrypoints", "scripts", "benchmarks", "configs", "examples", "tests")
    files = [ROOT / "Makefile", *(path for name in folders for path in (ROOT / name).rglob("*"))]
    named = {
        target
        for path in files
        if path.suffix in ("", ".py", ".yaml", ".toml", ".j2") and path.is_file()
        for target in re.findall(r"\bdocs/[\w/-]+\.\w+", path.read_text(encoding="utf-8"))
    }
    assert "docs/how-to/data.md" in named
    assert [target for target in sorted(named) if not (ROOT / target).exists()] == []


def test_every_page_is_in_the_navigation_once_and_every_entry_is_a_page() -> None:
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(pages_of_nav(SITE["nav"])) == sorted(pages)


def test_formulas_become_mathml_inline_and_displayed() -> None:
    extensions = ["pymdownx.arithmatex", "scripts.mathml"]
    options = {"pymdownx.arithmatex": {"generic": True}}
    html = Markdown(extensions=extensions, extension_configs=options).convert(
        "The gain $g_l$ costs $5, not `$x$`.\n\n$$\\frac{1}{n}\\sum_i d_i$$"
    )
    assert html.count("<math") == 2
    assert "<msub><mi>g</mi><mi>l</mi></msub>" in html
    assert re.search(r'<math[^>]*display="block".*<mfrac>', html, re.DOTALL)
    assert "\\frac" not in html
    assert "<code>$x$</code>" in html


def test_contributing_lists_the_packages_in_the_order_of_the_layers() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text, re.MULTILINE)
    listed = [re.findall(r"`(\w+)`", row) for row in table]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = contracts["tool"]["importlinter"]["contracts"][0]["layers"]
    expected = [name for layer in layers for name in re.findall(r"\w+", layer)]
    order = {name: at for at, layer in enumerate(layers) for name in re.findall(r"\w+", layer)}
    assert sorted(name for row in listed for name in row) == sorted(expected)
    places = [order[name] for row in listed for name in row]
    assert places == sorted(places)


def test_the_study_file_and_the_recipe_of_the_documentation_are_valid(tmp_path: Path) -> None:
    study, recipe = (
        re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)[0]
        for page in ("how-to/run-a-study.md", "how-to/tuning.md")
    )
    (tmp_path / "study.yaml").write_text(study, encoding="utf-8")
    (tmp_path / "best.yaml").write_text(recipe, encoding="utf-8")
    assert read_study(tmp_path / "study.yaml", {}).seeds == (0, 1, 2)
    assert read_recipe(tmp_path / "best.yaml")["target_modules"] == "attention"


def test_the_api_page_lists_the_values_of_every_enumeration() -> None:
    text = (DOCS / "reference/api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `isogloss\.(\w+)` \| (`[^|]*`) \|", text, re.MULTILINE)
    listed = {name: re.findall(r"`([^`]+)`", cell) for name, cell in rows}
    listed = {name: values for name, values in listed.items() if not name.endswith("Config")}
    enums = {name: getattr(isogloss, name) for name in isogloss.__all__}
    enums = {name: e for name, e in enums.items() if isinstance(e, type) and issubclass(e, StrEnum)}
    assert listed == {name: [member.value for member in e] for name, e in enums.items()}
