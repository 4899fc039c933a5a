"""What the tests of the pages that are made from the code share."""

import os
import re
from collections.abc import Sequence
from pathlib import Path


def write_or_compare(path: Path, text: str) -> None:
    """Compare a page with what the code says; with BATCHER_WRITE_DOCS in the environment, write it first."""
    if os.environ.get("BATCHER_WRITE_DOCS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    assert written == text, f"{path.name} is old; `BATCHER_WRITE_DOCS=1 pytest tests/docs` writes it again"


def table_cell(text: str) -> str:
    """Return a text as a cell of a Markdown table."""
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def table_row(cells: Sequence[str]) -> str:
    """Return cells as a row of a Markdown table."""
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"
