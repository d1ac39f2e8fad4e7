"""A Markdown extension for the documentation site: formulas become MathML when the site is built.

Browsers render MathML themselves, so pages load no script and no font for it. pymdownx.arithmatex
finds the formulas (`$...$` and `$$...$$`, which code hosts render too), latex2mathml converts them.
"""

from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor

AFTER_INLINE = 15  # Markdown's inline processor, which finds `$...$`, has priority 20.


class MathmlExtension(Extension):
    """Registers the conversion with Python-Markdown."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Convert formulas after all of them have been found."""
        md.treeprocessors.register(MathmlTreeprocessor(md), "mathml", AFTER_INLINE)


class MathmlTreeprocessor(Treeprocessor):
    """Replaces the LaTeX of each arithmatex element with MathML."""

    def run(self, root: Element) -> None:
        r"""Convert in place: `\(...\)` is an inline formula, `\[...\]` a displayed one."""
        for element in root.iter():
            if element.get("class") == "arithmatex":
                text = (element.text or "").strip()
                element.text = None
                display = "block" if text.startswith("\\[") else "inline"
                convert_to_element(text[2:-2], display=display, parent=element)


def makeExtension(**options: object) -> MathmlExtension:  # noqa: N802
    """Entry point that Python-Markdown calls."""
    return MathmlExtension(**options)
