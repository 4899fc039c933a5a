"""A question in SQL to the documented views: checked to be one that only reads, and bounded in time, rows and memory.

The state file is attached while it is answered, so that no other process can write to it. Nothing else is open to the
question: no file is read or written, no extension is loaded, no setting is changed.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import duckdb
import orjson

from batcher.errors import InputError
from batcher.state.db.store import Store
from batcher.state.reports.views import VIEWS, create_views

LONGEST_S = 20.0
"""Seconds after which a question is ended: what another command writes waits for it, an intent for 60 s at most."""
MOST_ROWS = 200_000
"""Rows of an answer at most: it is held in memory, so that the state is free again before anything is printed."""
_SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET errors_as_json = true",
    "SET temp_directory = ''",  # what does not fit into memory is refused, not written to the disk
    "SET python_enable_replacements = false",  # a name is never taken for a variable of Python's
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
"""Settings of the engine while a question is answered; the last two cannot be taken back, so it has its own engine."""
_QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLE_FUNCTIONS = {
    "range", "generate_series", "unnest", "repeat", "json_each", "json_tree", "duckdb_columns", "duckdb_views",
    "duckdb_functions", "duckdb_types", "pragma_version",
}  # fmt: skip
"""The functions that a question may name as a table. Others change the engine, or read what is not the state."""
ONE_QUESTION = "ask one question that only reads: SELECT, WITH, FROM, DESCRIBE, SUMMARIZE or SHOW TABLES"


class ResultColumn(NamedTuple):
    """A column of an answer; the type as DuckDB writes it."""

    name: str
    type: str


class QueryResult(NamedTuple):
    """The answer to a question. is_cut: there are more rows than these."""

    columns: Sequence[ResultColumn]
    rows: Sequence[Sequence[Any]]
    is_cut: bool


def run_query(store: Store, statement: str, most_rows: int = MOST_ROWS, longest_s: float = LONGEST_S) -> QueryResult:
    """Return the answer to one question in SQL.

    Times are in UTC. Raises InputError where the statement is not one that only reads, is wrong, or takes more than
    `longest_s` seconds or the engine's memory; StateError as `Store.read_transaction` does.
    """
    # a store of its own has an engine of its own
    with store.with_folder(store.folder).read_transaction() as tx, _explained_errors(statement, longest_s):
        create_views(tx.con)
        for setting in _SETTINGS:
            tx.con.execute(setting)
        with _time_limit(tx.con, longest_s):
            _check_statement(tx.con, statement)
            return _fetch_result(tx.con, statement, most_rows)


def _fetch_result(con: duckdb.DuckDBPyConnection, statement: str, most_rows: int) -> QueryResult:
    cursor = con.execute(statement)
    columns = [ResultColumn(name, str(kind)) for name, kind, *_ in cursor.description or ()]
    rows = cursor.fetchmany(most_rows + 1)
    return QueryResult(columns, rows[:most_rows], len(rows) > most_rows)


@contextmanager
def _time_limit(con: duckdb.DuckDBPyConnection, longest_s: float) -> Iterator[None]:
    """Interrupt what the connection does after this time."""
    timer = threading.Timer(longest_s, con.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check_statement(con: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Raise InputError where this is not one question that only reads, and reads only views and tables of the state."""
    found = con.extract_statements(statement)
    if len(found) != 1 or found[0].type is not duckdb.StatementType.SELECT:
        what = "there is none" if not found else "there are several" if len(found) > 1 else "this is none"
        raise InputError(f"{ONE_QUESTION}; {what}")
    row = con.execute("SELECT json_serialize_sql(?)", [statement]).fetchone()
    tree = orjson.loads(row[0]) if row else {}
    if tree.get("error", True):
        raise InputError(f"{ONE_QUESTION}; this is none")
    for node in _walk_tree(tree):
        if "cte_map" in node and node.get("type") not in _QUERY_NODES:
            raise InputError(f"{ONE_QUESTION}; this changes something")
        if node.get("type") == "TABLE_FUNCTION":
            name = str(node["function"]["function_name"])
            if name not in _TABLE_FUNCTIONS:
                raise InputError(f"{name}() cannot be used here: only the state is read, no file and no setting")
        if node.get("class") == "PARAMETER":
            raise InputError("the statement has a parameter without a value; write the value itself")


def _walk_tree(tree: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a syntax tree."""
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _walk_tree(part)


@contextmanager
def _explained_errors(statement: str, longest_s: float) -> Iterator[None]:
    """Raise what DuckDB finds wrong as an InputError of one sentence, with its place in the statement."""
    try:
        yield
    except duckdb.InterruptException:
        raise InputError(
            f"the question has taken more than {longest_s:g} s and was ended, as no other command can write to the "
            "state meanwhile; ask for less, or ask a copy of the state (docs/reference/views.md)"
        ) from None
    except duckdb.OutOfMemoryException:
        raise InputError(
            "the question needs more memory than it is given; ask for less, or ask a copy of the state "
            "(docs/reference/views.md)"
        ) from None
    except (duckdb.IOException, duckdb.FatalException):
        raise  # of the state file
    except duckdb.Error as error:
        raise InputError(_explain_mistake(statement, str(error))) from None


def _explain_mistake(statement: str, text: str) -> str:
    """Return DuckDB's message as one sentence: what is wrong, where, and what may be meant."""
    try:
        told = orjson.loads(text[text.index("{") :])
    except ValueError:  # some errors are plain text
        return f"the SQL cannot be run: {text.partition(chr(10))[0]}"
    what = str(told["exception_message"]).partition("\n")[0].rstrip("!. ")
    hint = ""
    if told.get("type") == "Table":
        hint = f"; the views are {', '.join(VIEWS)}"
    elif told.get("candidates"):
        hint = f"; similar: {told['candidates']}"
    elif told.get("exception_type") == "Permission":
        hint = "; only the state is read here"
    return f"the SQL cannot be run: {what}{_describe_place(statement, told.get('position'))}{hint}"


def _describe_place(statement: str, position: str | None) -> str:
    """Return the line and column of a position (bytes of UTF-8 from the start); "" where there is none."""
    if position is None or not position.isdigit():
        return ""
    before = statement.encode()[: int(position)].decode(errors="ignore")
    return f", at line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
