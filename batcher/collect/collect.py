"""`batcher collect`: the bios as one file, earlier ones included, written beside and moved into place.

Whatever was collected once is marked, by which `--only-new` tells what is new. The file comes first, and the mark with
the commit after it: a death between the two leaves bios that are written again, and none that never is.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from batcher.disk.durable import sync_folder, sync_path
from batcher.errors import InputError, StateError
from batcher.job.job import Job
from batcher.job.schema import output_column_types
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction

FORMATS = {
    ".parquet": "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480)",
    ".csv": "(FORMAT csv, HEADER)",
    ".jsonl": "(FORMAT json)",
}
"""Smaller groups than the usual 122,880 rows, for each is held in memory until it is whole."""


@dataclass(frozen=True, slots=True)
class CollectResult:
    """What was written, and what is not there yet.

    kept: nothing was new, and the file that exists was left as it is. notes: sentences that the user should read.
    """

    bios: int
    failed: int
    dead: int
    held: int
    open: int
    skipped: int
    kept: bool = False
    notes: Sequence[str] = ()


def check_target(path: Path | None) -> None:
    """Raises InputError for a file that could not be written."""
    if path is None:
        return
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: the ending must be .parquet, .csv or .jsonl")
    try:
        if not path.parent.is_dir():
            raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file in it")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def check_targets(out: Path | None, failed: Path | None, protected: Sequence[Path] = ()) -> None:
    """Raises InputError where a file could not be written, both are the same, or one is protected: a table of the
    user's own, which the job is made from and nobody else may have a copy of."""
    if out is None and failed is not None:
        raise InputError("--failed needs --out; name a file for the bios too")
    check_target(out)
    check_target(failed)
    if out is not None and failed is not None and _is_same_file(out, failed):
        raise InputError(f"--out and --failed both name {out}; give them different files")
    for option, target in (("--out", out), ("--failed", failed)):
        if target is not None and any(_is_same_file(target, table) for table in protected):
            raise InputError(f"{option} names {target}, a table that the job reads; name another file")


def _is_same_file(one: Path, other: Path) -> bool:
    """Whether both name one file, whatever links and letter cases lead to it."""
    try:
        return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
    except (OSError, RuntimeError):  # one of them leads nowhere
        return False


def load_table_paths(store: Store) -> list[Path]:
    """Every table that a plan of this state was made from. Raises StateError where there is none."""
    with store.read_transaction() as tx:
        return [store.folder.resolve().parent / name for (name,) in tx.fetch_all("tables_read")]


def collect_bios(store: Store, job: Job, out: Path, failed: Path | None, only_new: bool) -> CollectResult:
    """Writes the bios to `out`, and the failures to `failed`. Raises InputError or StateError."""
    check_targets(out, failed, load_table_paths(store))
    with store.transaction("collect") as tx:
        result = _write_files(tx, job, out, failed, only_new)
        tx.fetch_all("mark_collected", now=tx.now)
        return result


def _write_files(tx: Transaction, job: Job, out: Path, failed: Path | None, only_new: bool) -> CollectResult:
    """Writes both files beside their places before either is moved there."""
    columns, notes = _choose_column_types(tx, output_column_types(job), only_new)
    targets = {out: _build_bios_query(columns, only_new)}
    # What --only-new wrote before may stand in this file alone: an empty one does not take its place.
    kept = only_new and out.exists() and not tx.con.execute(NEW_QUERY).fetchall()[0][0]
    if kept:
        targets, notes = {}, [f"nothing new; {out} is left as it is"]
    if failed is not None:
        targets[failed] = FAILED_QUERY
    with ExitStack() as leftovers:
        counts = {path: _export_query(tx, query, path, leftovers) for path, query in targets.items()}
        for path in targets:
            _move_into_place(_temporary_path(path), path)
    _, dead, held, open_lines, skipped = tx.fetch_one("collected_states")
    written = counts.get(failed, 0) if failed is not None else 0
    return CollectResult(counts.get(out, 0), written, dead, held, open_lines, skipped, kept, notes)


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _export_query(tx: Transaction, query: str, path: Path, leftovers: ExitStack) -> int:
    leftovers.callback(_temporary_path(path).unlink, missing_ok=True)
    target = str(_temporary_path(path)).replace("'", "''")
    try:
        (count,) = tx.con.execute(f"COPY ({query}) TO '{target}' {FORMATS[path.suffix.lower()]}").fetchall()[0]
    except duckdb.IOException as error:
        raise StateError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error
    return int(count)


def _move_into_place(source: Path, target: Path) -> None:
    try:
        sync_path(source)  # the state will say that it was collected, whatever becomes of the power
        source.replace(target)
    except OSError as error:
        raise StateError(f"{target} cannot be written: {error.strerror}") from error
    with suppress(OSError):  # a folder that may be written, but not read
        sync_folder(target.parent)


def _build_bios_query(columns: Mapping[str, str], only_new: bool) -> str:
    """The statement for the bios; the job's own fields become columns."""
    fields = ",\n".join(
        f"{_value_expression(n, *column)} AS {_quote_identifier(column[0])}"
        for n, column in enumerate(columns.items(), 1)
    )
    paths = ", ".join(map(_json_path, columns))  # of all at once: each call reads a bio anew
    return f"""
        SELECT a.artist_id, a.artist_name, a.priority, {fields},
               b.model, b.finish_reason, b.tokens_input, b.tokens_cached, b.tokens_output, b.cost_usd, b.lane, b.shard,
               b.batch_id, b.attempts, make_timestamp((b.completed_at * 1000000)::BIGINT) AS completed_at
        FROM (SELECT *, json_extract_string(data, [{paths}]) AS texts FROM bios) AS b
        JOIN artists AS a USING (artist_id) {_build_where_clause(only_new)}
        ORDER BY a.priority, a.seq
    """  # noqa: S608 - the only names put in are the job's own fields, quoted


def _build_where_clause(only_new: bool) -> str:
    return "WHERE b.collected_at IS NULL" if only_new else ""


def _quote_identifier(name: str) -> str:
    return f'"{name.replace(chr(34), chr(34) * 2)}"'


def _json_path(name: str) -> str:
    """A field of a bio as a path of DuckDB's, in the quotes of SQL."""
    escaped = name.replace('"', '\\"').replace("'", "''")
    return f"""'$."{escaped}"'"""


def _value_expression(n: int, name: str, kind: str) -> str:
    return f"json_extract(b.data, {_json_path(name)})" if kind == "JSON" else f"b.texts[{n}]::{kind}"


TOO_LARGE = "TRY_CAST(b.data ->> {path} AS {kind}) IS NULL AND json_type(b.data, {path}) <> 'NULL'"
FITS: Mapping[str, tuple[str, str, str]] = {
    "BIGINT": ("'BIGINT', 'UBIGINT'", TOO_LARGE, "a whole number of at most 64 bits"),
    "DOUBLE": ("'BIGINT', 'UBIGINT', 'DOUBLE'", TOO_LARGE, "a number"),
    "BOOLEAN": ("'BOOLEAN'", "false", "true or false"),
}
"""Types that a value may fail to have: what JSON must hold for it, what is no such value all the same, and its name.
A cast alone would not do: it reads '3.7' as the whole number 4, and 'yes' as true."""


def _choose_column_types(
    tx: Transaction, columns: Mapping[str, str], only_new: bool
) -> tuple[dict[str, str], list[str]]:
    """The columns with types that hold every value, and a note for each that became text for it.

    Bios outlive a change of job.py, and a model may write an integer of 30 digits. One such value must neither block
    the other bios nor be lost: a NULL in its place would be a loss that nobody sees. So the whole column is written as
    text, in which nothing is changed, and the note names the artist for whom.
    """
    found, notes = dict(columns), []
    for name in (name for name, kind in columns.items() if kind in FITS):
        misfit, wanted = _find_misfit(tx, name, columns[name], only_new), FITS[columns[name]][2]
        if misfit is not None:
            artist_id, text = misfit
            found[name] = "VARCHAR"
            notes.append(f"column {name} is written as text: artist {artist_id} has {text}, which is not {wanted}")
    return found, notes


def _find_misfit(tx: Transaction, name: str, kind: str, only_new: bool) -> tuple[str, str] | None:
    """The first artist whose value is not of the column's type, and the beginning of the value."""
    path = _json_path(name)
    types, misfit, _ = FITS[kind]
    rows = tx.con.execute(f"""
        SELECT a.artist_id, left(json_extract(b.data, {path})::VARCHAR, 60)
        FROM bios AS b JOIN artists AS a USING (artist_id) {_build_where_clause(only_new) or "WHERE true"}
          AND (coalesce(json_type(b.data, {path}), 'NULL') NOT IN ('NULL', {types})
               OR {misfit.format(path=path, kind=kind)})
        ORDER BY a.seq LIMIT 1
    """).fetchall()  # noqa: S608 - as above
    return rows[0] if rows else None


NEW_QUERY = "SELECT count(*) FROM bios WHERE collected_at IS NULL"

FAILED_QUERY = """
    SELECT a.artist_id, a.artist_name, a.priority, a.state, a.failure AS class, a.code, a.message, a.shard, a.attempts
    FROM artists AS a WHERE a.state IN ('dead', 'held', 'skipped')
    ORDER BY a.priority, a.seq
"""
