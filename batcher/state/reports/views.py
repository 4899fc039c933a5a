"""The documented views over the state: their definitions, made for one connection, and what their comments say.

They are not kept in the state file: each transaction attaches it and reads its catalog, which takes longer with the
views in it (docs/decisions/0012-views-beside-the-state.md has the figures).
"""

import re
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import duckdb

from batcher.state.db.schema import load_migrations

VIEWS = ("lines", "shards", "batches", "attempts", "bios", "costs", "quota", "events")
"""The documented views, in the order of the documents; each has a file of its name in state/sql/views."""
_HEAD = """\
-- The documented views over a state of Batcher's. Run this on a copy of the state file, never on the file itself:
--     duckdb copy.duckdb < views.sql
CREATE SCHEMA IF NOT EXISTS open;
"""
_PRIVATE_TABLE = re.compile(r"\b(FROM|JOIN) main\.")
_COLUMNS = """
    SELECT table_name, column_name, data_type, coalesce(comment, '') FROM duckdb_columns()
    WHERE database_name = 'memory' AND schema_name = 'open' ORDER BY table_name, column_index
"""
_COMMENTS = "SELECT view_name, coalesce(comment, '') FROM duckdb_views() WHERE schema_name = 'open'"


class ViewColumn(NamedTuple):
    """A column of a view: its type as DuckDB writes it, and what it holds."""

    name: str
    type: str
    comment: str


class ViewDescription(NamedTuple):
    """A view: what one of its rows is, and its columns."""

    name: str
    comment: str
    columns: Sequence[ViewColumn]


def read_view_script() -> str:
    """Return the statements that make the views in a copy of the state file, in a schema `open` of it."""
    return "\n".join([_HEAD, *(_read_definition(name) for name in VIEWS)])


def create_views(con: duckdb.DuckDBPyConnection) -> None:
    """Make the views over the attached state, in the engine's memory and not in the file, and look for names there."""
    con.execute("CREATE SCHEMA IF NOT EXISTS memory.open")
    con.execute("USE memory.open")
    for name in VIEWS:
        con.execute(_PRIVATE_TABLE.sub(r"\1 state.main.", _read_definition(name)))


def describe_views() -> Sequence[ViewDescription]:
    """Return all views with their columns; no state is looked at."""
    with duckdb.connect() as con:
        con.execute("ATTACH ':memory:' AS state")
        con.execute("USE state")
        for script in load_migrations():
            con.execute(script)
        create_views(con)
        comments = dict(con.execute(_COMMENTS).fetchall())
        columns = con.execute(_COLUMNS).fetchall()
    return [
        ViewDescription(view, comments[view], [ViewColumn(*column) for of, *column in columns if of == view])
        for view in VIEWS
    ]


def _read_definition(name: str) -> str:
    return resources.files("batcher").joinpath(f"state/sql/views/{name}.sql").read_text(encoding="utf-8")
