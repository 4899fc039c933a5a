"""One open transaction on the state: named statements, facts, and guarded transitions.

Only the modules of `batcher/state` call the methods that run statements; the rest of the package has `now`, `undo`,
`record_event` and `set_memory_limit`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from importlib import resources
from typing import Any

import duckdb

from batcher.core.lifecycle import FOLLOWING_EVENTS, ArtistState, artist_transition, shard_transition
from batcher.errors import IllegalTransitionError

MEMORY_MB = 512
"""Memory limit of the engine in MB."""
STAGING_MB = 128
"""Memory limit in MB while `plan` reads the table: rows beyond it are written to the disk as they come, which takes no
longer."""
PLAN_MB = 200
"""Memory limit in MB for each million rows once the table is staged; 75% of it is used when every artist has an earlier
bio."""

StateRow = tuple[Any, ...]
Fact = tuple[float | None, str | None]
UNSET: Fact = (None, None)


@cache
def load_statements() -> Mapping[str, str]:
    """Return every statement of batcher/state/sql/*.sql by its name, the line `-- name: ...` before it."""
    found: dict[str, str] = {}
    folder = resources.files("batcher").joinpath("state/sql")
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".sql"):
            for block in file.read_text(encoding="utf-8").split("-- name: ")[1:]:
                name, _, text = block.partition("\n")
                found[name.strip()] = text.strip().rstrip(";")
    return found


_parsed: dict[str, duckdb.Statement] = {}


class Transaction:
    """One open transaction: named statements and guarded transitions."""

    def __init__(self, con: duckdb.DuckDBPyConnection, now: float) -> None:
        self.con = con
        self.now = now
        self.undo = ExitStack()
        """Callbacks for a failed transaction, called while the file is attached: they undo what a rollback cannot."""
        self._facts: dict[str, Fact] | None = None

    def fetch_all(self, name: str, **params: object) -> list[StateRow]:
        """Run a named statement and return its rows."""
        return self._execute_statement(name, params).fetchall()

    def _execute_statement(self, name: str, params: Mapping[str, object]) -> duckdb.DuckDBPyConnection:
        if name not in _parsed:  # once a process: it takes a sixth of the time of a small statement
            (_parsed[name],) = self.con.extract_statements(load_statements()[name])
        return self.con.execute(_parsed[name], params or None)

    def fetch_one(self, name: str, **params: object) -> StateRow:
        """Run a named statement and return its only row. Raises LookupError when it returns none or several."""
        rows = self.fetch_all(name, **params)
        if len(rows) != 1:
            raise LookupError(f"the statement {name} returned {len(rows)} rows instead of one")
        return rows[0]

    def count_changed(self, name: str, **params: object) -> int:
        """Run a named statement that changes rows and return how many it changed."""
        return int(self.fetch_one(name, **params)[0])

    def stream_rows(self, name: str, size: int, **params: object) -> Iterator[list[Any]]:
        """Run a named statement and yield its rows, `size` at a time. No other may run before the last is read."""
        cursor = self.con.execute(load_statements()[name], params or None)
        while rows := cursor.fetchmany(size):
            yield rows

    def set_memory_limit(self, rows: int) -> None:
        """Set the memory limit for a plan of `rows` rows: staged rows may go to the disk, but not the index of ids."""
        room = min(max(1, -(-rows // 1_000_000)) * PLAN_MB, MEMORY_MB)
        self.con.execute(f"SET memory_limit = '{room}MB'")

    def insert_rows(self, table: str, rows: Sequence[Sequence[object]], columns: Sequence[str] | None = None) -> None:
        """Append rows to a table with DuckDB's appender, inside this transaction. columns: None for all, in order."""
        appender = self.con.appender(table, columns=list(columns)) if columns else self.con.appender(table)
        appender.append_rows(rows)
        appender.flush()

    def record_event(self, kind: str, detail: str = "", **where: object) -> None:
        """Record one event of the history. where: shard, submission, batch_id, artist_id."""
        values = {"shard": None, "submission": None, "batch_id": None, "artist_id": None, **where}
        self.fetch_all("insert_event", at=self.now, kind=kind, detail=detail, **values)

    def move_shard(self, shard: int, event: str, detail: str = "", submission: int | None = None) -> None:
        """Move a shard along its state machine and record the event. Raises IllegalTransitionError if it may not."""
        sources, target = shard_transition(event)
        names = [source.value for source in sources]
        if not self.count_changed("move_shard", shard=shard, sources=names, target=target.value, submission=submission):
            raise IllegalTransitionError(f"shard {shard} is not in a state that can {event.replace('_', ' ')}")
        self.record_event(event, detail, shard=shard, submission=submission)

    def move_lines(self, statement: str, event: str, **params: object) -> int:
        """Move many artists along their state machine with a named statement and return how many moved.

        Artists that follow a line which is held or given up go with it.

        The statement has no RETURNING: with it, DuckDB deletes and inserts each row, which is twenty times as slow.
        """
        sources, target = artist_transition(event)
        moved = self.count_changed(statement, sources=[s.value for s in sources], target=target.value, **params)
        if moved and target in FOLLOWING_EVENTS and self.has_followers():
            self._move_followers(target)
        return moved

    def _move_followers(self, state: ArtistState) -> None:
        """Move the followers of lines that have ended in a state to the same state."""
        sources, target = artist_transition(FOLLOWING_EVENTS[state])
        self.count_changed("hold_followers", sources=[s.value for s in sources], target=target.value)

    def has_followers(self) -> bool:
        """Return whether an artist may follow the line of another one: whether one ever did."""
        return bool(self.read_fact("followers"))

    def mark_followers(self) -> None:
        """Record that there are artists that follow the line of another one."""
        self.write_fact("followers", 1)

    def read_fact(self, name: str) -> float:
        """Return a fact that is a number; 0 when it is not set."""
        number, _ = self._load_facts().get(name, UNSET)
        return float(number or 0)

    def read_text_fact(self, name: str) -> str:
        """Return a fact that is a text; "" when it is not set."""
        _, text = self._load_facts().get(name, UNSET)
        return text or ""

    def write_fact(self, name: str, number: float | None = None, text: str | None = None) -> None:
        """Set a fact to a number or a text. The value that it has already is not written again."""
        facts = self._load_facts()
        if facts.get(name) != (number, text):
            self.fetch_all("write_fact" if name in facts else "insert_fact", fact=name, number=number, text=text)
            facts[name] = (number, text)

    def _load_facts(self) -> dict[str, Fact]:
        """Read all facts once a transaction: there are some tens, and reading all takes as long as reading one."""
        if self._facts is None:
            self._facts = {name: (number, text) for name, number, text in self.fetch_all("facts")}
        return self._facts
