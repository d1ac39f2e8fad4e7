"""The Python blocks of docs/tutorial/python-api.md run in order."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/tutorial/python-api.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_python_blocks_of_the_page_run_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 8
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        line = text.count("\n", 0, block.start()) + 1  # so that tracebacks name lines of the page
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), namespace)
    printed = capsys.readouterr().out
    assert "Equivalent: " in printed
    assert "lack the columns item_id" in printed
    assert {"gains.png", "report.html", "report"} <= {path.name for path in tmp_path.iterdir()}
