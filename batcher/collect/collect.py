"""`batcher collect`: the bios as one file, earlier ones included, written under another name and moved into place.

Bios that were collected are marked, so that `--only-new` writes the others alone. The intent (which bios, and the
digest of the file that they are in) is committed first, the file moved into place, and the outcome committed last: a
crash between may repeat bios in the next file, and never loses one. The digests tell which files Batcher has written:
no other is replaced unasked.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from batcher.collect.columns import build_bios_query, choose_column_types
from batcher.collect.placing import check_place, explain_failed_write, move_into_place, temporary_path
from batcher.collect.replacing import (
    check_rows,
    check_target_is_ours,
    find_own_content,
    load_known_files,
    record_name,
)
from batcher.disk.shard_files import file_sha256
from batcher.errors import InputError
from batcher.job.job import Job
from batcher.job.schema import output_column_types
from batcher.nouns import current_nouns
from batcher.state import bios
from batcher.state import plan as plan_state
from batcher.state.bios import FileContent, FileRecord
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction

FORMATS = {
    ".parquet": "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480)",
    ".csv": "(FORMAT csv, HEADER)",
    ".jsonl": "(FORMAT json)",
}
"""DuckDB's options by a file's ending. Row groups are smaller than the usual 122,880 rows, as each is held in memory
until it is complete."""


@dataclass(frozen=True, slots=True)
class CollectResult:
    """What was written, and how many artists have no bio yet.

    kept: nothing was new, and the file that exists was left as it is. notes: sentences that the user should read.
    redone_...: artists with an earlier bio, whose new one is dead, held or open; they are in none of the other counts.
    """

    bios: int
    failed: int
    dead: int
    held: int
    open: int
    skipped: int
    kept: bool
    notes: Sequence[str]
    redone_dead: int = 0
    redone_held: int = 0
    redone_open: int = 0


def check_target(path: Path | None) -> None:
    """Raise InputError for a file that could not be written."""
    if path is None:
        return
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: the ending must be .parquet, .csv or .jsonl")
    check_place(path)


def check_targets(out: Path | None, failed: Path | None, protected: Sequence[Path] = ()) -> None:
    """Raise InputError where a file could not be written, both are the same, or one is protected: a table that the job
    is made from, of which the user may have no copy."""
    if out is None and failed is not None:
        raise InputError(f"--failed needs --out; name a file for the {current_nouns().answers} too")
    check_target(out)
    check_target(failed)
    if out is not None and failed is not None and _is_same_file(out, failed):
        raise InputError(f"--out and --failed both name {out}; give them different files")
    for option, target in (("--out", out), ("--failed", failed)):
        if target is not None and any(_is_same_file(target, table) for table in protected):
            raise InputError(f"{option} names {target}, a table that the job reads; name another file")


def _is_same_file(one: Path, other: Path) -> bool:
    """Return whether both name one file, through links and in letter cases of any kind."""
    try:
        return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
    except (OSError, RuntimeError):  # one of them leads nowhere
        return False


def load_table_paths(store: Store) -> list[Path]:
    """Return every table that a plan of this state was made from. Raises StateError where there is no plan."""
    with store.read_transaction() as tx:
        return [store.folder.resolve().parent / name for name in plan_state.load_tables_read(tx)]


def check_replacing(store: Store, out: Path | None, failed: Path | None) -> None:
    """Raise InputError where a file exists that this job has not written: checked before `run` begins."""
    records = load_known_files(store)
    for target, is_failed in ((out, False), (failed, True)):
        if target is not None:
            record = records.get(record_name(store.folder, target))
            check_target_is_ours(target, record, find_own_content(target, record), is_failed)


def collect_bios(
    store: Store, job: Job, out: Path, failed: Path | None, only_new: bool, overwrite: bool = False
) -> CollectResult:
    """Write the bios to `out`, and the failures to `failed`.

    overwrite: replace any file. Raises InputError or StateError.
    """
    check_targets(out, failed, load_table_paths(store))
    targets = _Targets(store.folder, out, failed, only_new, overwrite)
    with ExitStack() as leftovers:
        with store.transaction("intend_collect") as tx:
            result = _write_files(tx, job, targets, leftovers)
            written_at = bios.mark_written(tx) if out in result.files else None
            bios.record_written_files(tx, {record_name(store.folder, p): r for p, r in result.files.items()})
        for path in result.files:
            move_into_place(temporary_path(path), path)
    with store.transaction("collect") as tx:
        if written_at is not None:
            bios.mark_collected(tx, written_at)
        in_place = {p: FileRecord(record.contents[-1:], True) for p, record in result.files.items()}
        bios.record_written_files(tx, {record_name(store.folder, p): r for p, r in in_place.items()})
    return result.report


class _Targets(NamedTuple):
    """Where a collect writes to, and what it may replace there."""

    state_folder: Path
    out: Path
    failed: Path | None
    only_new: bool
    overwrite: bool


class _Written(NamedTuple):
    """What was written under temporary names, by the path that it is for, and what is reported to the user."""

    files: Mapping[Path, FileRecord]
    report: CollectResult


def _write_files(tx: Transaction, job: Job, targets: _Targets, leftovers: ExitStack) -> _Written:
    """Write both files under temporary names, before either is moved into place.

    Raises InputError where one would replace what it may not.
    """
    out, failed, only_new = targets.out, targets.failed, targets.only_new
    types, notes = choose_column_types(tx, output_column_types(job), only_new)
    # Bios that --only-new wrote before may be in this file and in no other, so an empty one does not replace it.
    kept = only_new and out.exists() and bios.count_new_bios(tx) == 0
    writers: dict[Path, Callable[[Path, str], int]] = {}
    if kept:
        notes = [f"nothing new; {out} is left as it is"]
    else:
        writers[out] = partial(bios.copy_query, tx, build_bios_query(types, only_new, job.row_columns))
    if failed is not None:
        writers[failed] = partial(bios.copy_failed_artists, tx, job.row_columns)
    known = bios.load_written_files(tx)
    records = {path: known.get(record_name(targets.state_folder, path)) for path in writers}
    replaced = {path: find_own_content(path, record) for path, record in records.items()}
    if not targets.overwrite:
        for path, own in replaced.items():
            check_target_is_ours(path, records[path], own, path == failed, only_new and path == out)
    files: dict[Path, FileRecord] = {}
    for path, write in writers.items():
        content = _write_temporary_file(path, write, leftovers)._replace(is_failed=path == failed)
        before = replaced[path]
        if path == out and not targets.overwrite:
            check_rows(path, before, content)
        files[path] = FileRecord([*([before] if before else []), content], False)
    artists = bios.count_artists(tx)
    rows = {path: record.contents[-1].rows for path, record in files.items()}
    report = CollectResult(
        bios=rows.get(out, 0),
        failed=rows.get(failed, 0) if failed is not None else 0,
        dead=artists.dead,
        held=artists.held,
        open=artists.open,
        skipped=artists.skipped,
        kept=kept,
        notes=notes,
        redone_dead=artists.redone_dead,
        redone_held=artists.redone_held,
        redone_open=artists.redone_open,
    )
    return _Written(files, report)


def _write_temporary_file(path: Path, write: Callable[[Path, str], int], leftovers: ExitStack) -> FileContent:
    """Write what is to be moved to `path`, and have it removed with `leftovers`; return what it holds."""
    temporary = temporary_path(path)
    leftovers.callback(temporary.unlink, missing_ok=True)
    try:
        rows = write(temporary, FORMATS[path.suffix.lower()])
        return FileContent(temporary.stat().st_size, file_sha256(temporary), rows)
    except OSError as error:
        raise explain_failed_write(path, error) from error
