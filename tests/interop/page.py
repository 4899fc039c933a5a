"""docs/interop.md: what was run with whom, and what came of it."""

from collections.abc import Sequence
from typing import NamedTuple

from tests.docs.pages import table_cell, table_row
from tests.support.world import ROOT

PAGE = ROOT / "docs" / "interop.md"
HEAD = """# Interoperation: with whom it was tried

`make interop` writes this page. It installs what others wrote into environments of a temporary folder, pinned to these
versions, and runs Batcher's own commands before their servers, and their clients before Batcher's sandbox, all on this
machine. Behind each server a sandbox answers the lines, and counts how often each was executed. It needs the package
registries, Python 3.12 or later for OGX (`INTEROP_PYTHON` names one), and node; what cannot be installed is skipped,
with the reason. It takes ten minutes, and is no part of `make test`, which has what needs nobody else: the strict
validation of OpenAI's client, OGX's suite, and calls that schemathesis makes up (`tests/conformance`).

"""
COLUMNS = ("partner", "version", "what was run", "result", "date")


class Row(NamedTuple):
    """What came of one check."""

    partner: str
    version: str
    what: str
    result: str
    date: str


def summarize(rows: Sequence[Row]) -> str:
    """Return how many held, and which were skipped, each reason once."""
    held = sum(row.result == "ok" for row in rows)
    reasons = dict.fromkeys(
        f"{row.result} ({row.partner})" for row in rows if row.result.startswith("skipped because ")
    )
    return "; ".join([f"{held} of {len(rows)} ok", *(reasons or ["none skipped"])])


def render_page(rows: Sequence[Row]) -> str:
    """Return the page."""
    table = [table_row(COLUMNS), "|---" * len(COLUMNS) + "|", *(table_row([*map(table_cell, row)]) for row in rows)]
    return HEAD + "\n".join([*table, "", f"{summarize(rows)}.", ""])
