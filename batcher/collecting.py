"""`batcher collect`: the bios as one file, earlier ones included, written beside and moved into place."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb

from batcher.errors import InputError, StateError
from batcher.job import Job, output_columns
from batcher.store import Store, Transaction

FORMATS = {
    ".parquet": "(FORMAT parquet, COMPRESSION zstd)",
    ".csv": "(FORMAT csv, HEADER)",
    ".jsonl": "(FORMAT json)",
}


@dataclass(frozen=True, slots=True)
class Collected:
    """What was written, and what is not there yet."""

    bios: int
    failed: int
    dead: int
    held: int
    open: int
    skipped: int


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


def check_targets(out: Path | None, failed: Path | None) -> None:
    """Raises InputError where one of the files could not be written, or both are the same."""
    check_target(out)
    check_target(failed)
    if out is not None and failed is not None and out.resolve() == failed.resolve():
        raise InputError(f"--out and --failed both name {out}; give them different files")


def collect(store: Store, job: Job, out: Path, failed: Path | None, only_new: bool) -> Collected:
    """Writes the bios to `out`, and the failures to `failed`. Raises InputError or StateError."""
    check_targets(out, failed)
    if not only_new:
        with store.reading() as tx:
            return _write_all(tx, job, out, failed, only_new)
    with store.reading():
        pass  # a plan must be there
    with store.transaction("collect") as tx:
        result = _write_all(tx, job, out, failed, only_new)
        tx.run("mark_collected", now=tx.now)
        return result


def _write_all(tx: Transaction, job: Job, out: Path, failed: Path | None, only_new: bool) -> Collected:
    """Writes both files beside their places before either is moved there."""
    targets = {out: _bios_query(job, only_new)}
    if failed is not None:
        targets[failed] = FAILED_QUERY
    with ExitStack() as leftovers:
        counts = [_copy(tx, query, path, leftovers) for path, query in targets.items()]
        for path in targets:
            _move(_beside(path), path)
    _, dead, held, open_lines, skipped = tx.one("collected_states")
    return Collected(counts[0], sum(counts[1:]), dead, held, open_lines, skipped)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _copy(tx: Transaction, query: str, path: Path, leftovers: ExitStack) -> int:
    leftovers.callback(_beside(path).unlink, missing_ok=True)
    target = str(_beside(path)).replace("'", "''")
    try:
        (count,) = tx.con.execute(f"COPY ({query}) TO '{target}' {FORMATS[path.suffix.lower()]}").fetchall()[0]
    except duckdb.IOException as error:
        raise StateError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error
    return int(count)


def _move(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError as error:
        raise StateError(f"{target} cannot be written: {error.strerror}") from error


def _bios_query(job: Job, only_new: bool) -> str:
    """The statement for the bios; the job's own fields become columns."""
    fields = ",\n".join(_field(name, kind) for name, kind in output_columns(job).items())
    where = "WHERE b.collected_at IS NULL" if only_new else ""
    return f"""
        SELECT a.artist_id, a.artist_name, a.priority, {fields},
               b.model, b.finish_reason, b.tokens_input, b.tokens_cached, b.tokens_output, b.cost_usd, b.lane, b.shard,
               b.batch_id, b.attempts, make_timestamp((b.completed_at * 1000000)::BIGINT) AS completed_at
        FROM bios AS b JOIN artists AS a USING (artist_id) {where}
        ORDER BY a.priority, a.seq
    """  # noqa: S608 - the only names put in are the job's own fields, quoted


def _field(name: str, kind: str) -> str:
    quoted = name.replace('"', '""')
    path = name.replace('"', '\\"').replace("'", "''")
    extracted = f"""json_extract(b.data, '$."{path}"')"""
    if kind != "JSON":
        extracted = f"""json_extract_string(b.data, '$."{path}"')::{kind}"""
    return f'{extracted} AS "{quoted}"'


FAILED_QUERY = """
    SELECT a.artist_id, a.artist_name, a.priority, a.state, a.failure AS class, a.code, a.message, a.shard, a.attempts
    FROM artists AS a WHERE a.state IN ('dead', 'held', 'skipped')
    ORDER BY a.priority, a.seq
"""
