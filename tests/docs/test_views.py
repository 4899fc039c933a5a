"""docs/reference/views.md: its tables are made of the comments on the views, and its questions run on a real state.

`BATCHER_WRITE_DOCS=1 pytest tests/docs` writes the tables again.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from typer.main import get_command

from batcher.cli.app import app
from batcher.commands.results.sql import ROWS_DRAWN
from batcher.sandbox import SandboxSettings, apply_changes
from batcher.state.db.store import Store
from batcher.state.reports.query import LONGEST_S, MOST_ROWS, run_query
from batcher.state.reports.views import VIEWS, ViewDescription, describe_views, read_view_script
from tests.docs.pages import write_or_compare
from tests.support.direct_kit import desk
from tests.support.world import ROOT

PAGE = ROOT / "docs" / "reference" / "views.md"
TEXT = PAGE.read_text(encoding="utf-8")
BEGIN, END = "<!-- views -->\n", "<!-- end of views -->"
QUESTIONS = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)


def draw_view(view: ViewDescription) -> str:
    """Return a view as a section with a table of its columns."""
    rows = [
        f"| `{column.name}` | {column.type.replace('TIMESTAMP WITH TIME ZONE', 'TIMESTAMPTZ')} | {column.comment} |"
        for column in view.columns
    ]
    return "\n".join(
        [f"### `{view.name}`", "", view.comment, "", "| column | type | what it holds |", "|---|---|---|", *rows, ""]
    )


def test_the_tables_are_made_of_the_comments() -> None:
    before, _, rest = TEXT.partition(BEGIN)
    _, _, after = rest.partition(END)
    drawn = before + BEGIN + "\n" + "\n".join(map(draw_view, describe_views())) + "\n" + END + after
    write_or_compare(PAGE, drawn)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Return the state of a job of which some answers were of no use."""
    faults = {"line_failures": {"invalid_json": 0.3}}
    world = desk(tmp_path_factory.mktemp("job"), 24, apply_changes(SandboxSettings(), {"faults": faults}))
    world.release()
    world.act()
    yield world.store


def test_there_are_five_questions() -> None:
    assert len(QUESTIONS) == 5


@pytest.mark.parametrize("question", QUESTIONS, ids=[f"question-{n}" for n in range(1, len(QUESTIONS) + 1)])
def test_each_question_is_answered(store: Store, question: str) -> None:
    found = run_query(store, question)
    assert found.rows
    assert all(any(row[place] is not None for row in found.rows) for place in range(len(found.columns)))


def test_the_copy_is_made_as_the_page_says(store: Store, tmp_path: Path) -> None:
    copying, _, asking = re.findall(r'(?m)^    duckdb job\.duckdb "(.*)"$', TEXT)
    with duckdb.connect(str(tmp_path / "job.duckdb")) as con:
        con.execute(copying.replace(".batcher/state.duckdb", str(store.path)))
        con.execute(read_view_script())
        assert con.execute(asking).fetchall() == [("done", 24)]
    assert len(VIEWS) == TEXT.count("\n### `")


def test_the_bounds_are_those_of_the_code() -> None:
    assert f"ended after {LONGEST_S:g} s" in TEXT
    assert f"up to {MOST_ROWS:,}" in TEXT
    command = get_command(app).commands["sql"]  # type: ignore[attr-defined]
    assert f"ended after {LONGEST_S:g} s" in " ".join(command.help.split())
    limits = next(part.help for part in command.params if part.name == "limit")
    assert f"{ROWS_DRAWN:,} in a table, else {MOST_ROWS:,}" in limits and f"first {ROWS_DRAWN:,} rows" in TEXT
