"""The schema of the state file: its version, its migrations, and whether a file is ours."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import duckdb

from batcher.errors import StateError
from batcher.state.db.transaction import load_statements

SCHEMA_VERSION = 8


@cache
def load_migrations() -> Sequence[str]:
    """Return the scripts of the migrations in order; the schema is their sum."""
    folder = resources.files("batcher").joinpath("state/sql/migrations")
    return [
        f.read_text(encoding="utf-8") for f in sorted(folder.iterdir(), key=lambda f: f.name) if f.name[0].isdigit()
    ]


_TABLES = "SELECT table_name FROM duckdb_tables() WHERE NOT temporary AND database_name = current_database()"


def read_schema_version(con: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Return the version of the file's schema; 0 for an empty file. Raises StateError for a foreign or newer file."""
    tables = {row[0] for row in con.execute(_TABLES).fetchall()}
    if not tables:
        return 0
    foreign = StateError(f"{path} is a DuckDB file of something else; move it away, or set another [state] dir")
    if not {"meta", "artists", "shards"} <= tables:
        raise foreign
    try:
        version = int(con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall()[0][0])
    except (duckdb.BinderException, duckdb.ConversionException, IndexError, ValueError):
        raise foreign from None
    if version > SCHEMA_VERSION:
        raise StateError(f"{path} is of schema {version}, this Batcher knows {SCHEMA_VERSION}: upgrade Batcher")
    return version


def has_plan(con: duckdb.DuckDBPyConnection) -> bool:
    """Return whether the file is of this schema and holds a plan: one statement, as each transaction asks it."""
    try:
        rows = con.execute(load_statements()["is_planned"], {"version": str(SCHEMA_VERSION)}).fetchall()
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.ConversionException):
        return False  # a file of another program
    return bool(rows)


def run_migrations(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Run the migrations that the file lacks, in the open transaction. Raises StateError as reading it does."""
    version = read_schema_version(con, path)
    if version == SCHEMA_VERSION:
        return
    for script in load_migrations()[version:]:
        con.execute(script)
    con.execute("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
