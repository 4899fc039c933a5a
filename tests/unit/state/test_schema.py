"""The schema and its migrations: what an older state becomes."""

import duckdb
import pytest

from batcher.state.db.schema import SCHEMA_VERSION, load_migrations
from batcher.state.db.store import Store
from batcher.state.versions import load_prompt_numbers
from tests.support.state_kit import ARTIST, SHARD, enter


def schema(con: duckdb.DuckDBPyConnection) -> object:
    here = "WHERE database_name = current_database() ORDER BY ALL"
    return [
        con.execute(f"SELECT table_name, sql FROM duckdb_tables() {here}").fetchall(),
        con.execute(f"SELECT table_name, constraint_text FROM duckdb_constraints() {here}").fetchall(),
        con.execute(f"SELECT sequence_name FROM duckdb_sequences() {here}").fetchall(),
    ]


def test_the_schema_is_the_sum_of_the_migrations(store: Store) -> None:
    enter(store.plan_transaction())
    with duckdb.connect() as con, store.transaction("look") as tx:
        for script in load_migrations():
            con.execute(script)
        assert schema(tx.con) == schema(con)
    assert len(load_migrations()) == SCHEMA_VERSION


@pytest.mark.parametrize("how", ["reading", "transaction", "planning"])
def test_a_file_of_an_older_schema_is_brought_up_to_date_by_whatever_comes_first(store: Store, how: str) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(store.path)) as con:
        con.execute(load_migrations()[0])
        con.execute("INSERT INTO meta VALUES ('schema_version', '1')")
        con.execute("INSERT INTO runs VALUES ('r', 1.0)")
    opened = {
        "reading": store.read_transaction,
        "transaction": lambda: store.transaction("x"),
        "planning": store.plan_transaction,
    }[how]
    with opened() as tx:
        assert tx.fetch_one("run") == ("r", 1.0)
        assert tx.fetch_one("measured") == (0,) * 9
        assert tx.con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall() == [
            (str(SCHEMA_VERSION),)
        ]


def test_hashes_of_whole_lines_are_forgotten(store: Store) -> None:
    """The hashes of older lines cover more, so they are not compared: none of these lines may stop a running job."""
    store.folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(store.path)) as con:
        for script in load_migrations()[:3]:
            con.execute(script)
        con.execute("INSERT INTO meta VALUES ('schema_version', '3'); INSERT INTO runs VALUES ('r', 1.0)")
        con.execute(ARTIST.format(columns="artist_id, line_hash", values="'a', 7"))
    with store.read_transaction() as tx:
        assert tx.con.execute("SELECT artist_id, line_hash FROM artists").fetchall() == [("a", None)]


def test_the_longest_line_of_each_shard_is_found_in_an_older_state(store: Store) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(store.path)) as con:
        for script in load_migrations()[:4]:
            con.execute(script)
        con.execute("INSERT INTO meta VALUES ('schema_version', '4'); INSERT INTO runs VALUES ('r', 1.0)")
        for shard in (1, 2):
            con.execute(SHARD.format(columns="shard", values=f"{shard}"))
        for artist, tokens in (("a", 7), ("b", 300_000)):
            con.execute(ARTIST.format(columns="artist_id, tokens, shard", values=f"'{artist}', {tokens}, 1"))
    with store.read_transaction() as tx:
        assert tx.con.execute("SELECT shard, longest FROM shards ORDER BY shard").fetchall() == [(1, 300_000), (2, 0)]


def test_the_prompts_of_an_older_state_are_found(store: Store) -> None:
    """A version with more room asks the same; each bio is of the version that its batch, or its line, was of."""
    asked = '{{"system": "{system}", "max_output_tokens": {room}}}'
    definitions = [asked.format(system=system, room=room) for system, room in (("s", 600), ("t", 600), ("s", 1_200))]
    store.folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(store.path)) as con:
        for script in load_migrations()[:5]:
            con.execute(script)
        con.execute("INSERT INTO meta VALUES ('schema_version', '5'); INSERT INTO runs VALUES ('r', 1.0)")
        for number, definition in enumerate(definitions, 1):
            con.execute("INSERT INTO versions VALUES (?, '', ?, 0, 1.0)", [number, definition])
        con.execute(SHARD.format(columns="shard", values="1"))
        con.execute("UPDATE shards SET version = 2")
        for artist in ("a", "b"):
            con.execute(ARTIST.format(columns="artist_id, version", values=f"'{artist}', 3"))
        con.execute(
            "INSERT INTO bios (artist_id, data, lane, shard) VALUES ('a', '', 'batch', 1), ('b', '', 'direct', NULL)"
        )
    with store.read_transaction() as tx:
        assert load_prompt_numbers(tx) == {1: 1, 2: 2, 3: 1}
        assert tx.con.execute("SELECT artist_id, version FROM bios ORDER BY 1").fetchall() == [("a", 2), ("b", 3)]


def test_the_executions_before_the_pilots_of_an_older_state_are_found(store: Store) -> None:
    """The first pilot was drawn by a clock that was ahead, the second by a right one, and nothing came of the third."""
    store.folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(store.path)) as con:
        for script in load_migrations()[:6]:
            con.execute(script)
        con.execute("INSERT INTO meta VALUES ('schema_version', '6'); INSERT INTO runs VALUES ('r', 1.0)")
        con.execute("INSERT INTO pilots VALUES (1, 1, 2, 1, 2, 900.0, NULL), (2, 1, 2, 1, 2, 30.0, NULL)")
        con.execute("INSERT INTO pilots VALUES (3, 1, 2, 1, 2, 60.0, NULL)")
        for shard, pilot in ((1, "NULL"), (2, "1"), (3, "2")):
            con.execute(SHARD.format(columns="shard, pilot", values=f"{shard}, {pilot}"))
        for shard, time in ((1, 10), (2, 20), (1, 25), (1, 35), (3, 50)):
            con.execute(
                "INSERT INTO attempts (artist_id, lane, shard, outcome, counted, happened_at) "
                f"VALUES ('a', 'batch', {shard}, 'bio', true, {time})"
            )
    with store.read_transaction() as tx:
        assert tx.con.execute("SELECT pilot, executions_before FROM pilots ORDER BY 1").fetchall() == [
            (1, 1), (2, 3), (3, 5)
        ]  # fmt: skip
