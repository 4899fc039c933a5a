"""`batcher collect`: the bios as one file, earlier ones included, written under another name and moved into place.

Bios that were collected are marked, so that `--only-new` writes the others alone. The file is moved into place first,
and the marks are committed after it: a crash between the two may repeat bios in the next file, and never loses one.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batcher.collect.columns import build_bios_query, choose_column_types
from batcher.disk.durable import sync_path
from batcher.errors import InputError, StateError
from batcher.job.job import Job
from batcher.job.schema import output_column_types
from batcher.state import bios
from batcher.state import plan as plan_state
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
    """Raise InputError for a file that could not be written."""
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
    """Raise InputError where a file could not be written, both are the same, or one is protected: a table that the job
    is made from, of which the user may have no copy."""
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
    """Return whether both name one file, through links and in letter cases of any kind."""
    try:
        return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
    except (OSError, RuntimeError):  # one of them leads nowhere
        return False


def load_table_paths(store: Store) -> list[Path]:
    """Return every table that a plan of this state was made from. Raises StateError where there is no plan."""
    with store.read_transaction() as tx:
        return [store.folder.resolve().parent / name for name in plan_state.load_tables_read(tx)]


def collect_bios(store: Store, job: Job, out: Path, failed: Path | None, only_new: bool) -> CollectResult:
    """Write the bios to `out`, and the failures to `failed`. Raises InputError or StateError."""
    check_targets(out, failed, load_table_paths(store))
    with store.transaction("collect") as tx:
        result = _write_files(tx, job, out, failed, only_new)
        bios.mark_collected(tx)
        return result


def _write_files(tx: Transaction, job: Job, out: Path, failed: Path | None, only_new: bool) -> CollectResult:
    """Write both files under temporary names before either is moved into place."""
    types, notes = choose_column_types(tx, output_column_types(job), only_new)
    # Bios that --only-new wrote before may be in this file and in no other, so an empty one does not replace it.
    kept = only_new and out.exists() and bios.count_new_bios(tx) == 0
    writers: dict[Path, Callable[[Path, str], int]] = {}
    if kept:
        notes = [f"nothing new; {out} is left as it is"]
    else:
        writers[out] = partial(bios.copy_query, tx, build_bios_query(types, only_new))
    if failed is not None:
        writers[failed] = partial(bios.copy_failed_artists, tx)
    with ExitStack() as leftovers:
        written = {path: _write_temporary_file(path, write, leftovers) for path, write in writers.items()}
        for path in writers:
            _move_into_place(_temporary_path(path), path)
    artists = bios.count_artists(tx)
    return CollectResult(
        bios=written.get(out, 0),
        failed=written.get(failed, 0) if failed is not None else 0,
        dead=artists.dead,
        held=artists.held,
        open=artists.open,
        skipped=artists.skipped,
        kept=kept,
        notes=notes,
    )


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _write_temporary_file(path: Path, write: Callable[[Path, str], int], leftovers: ExitStack) -> int:
    """Write what is to be moved to `path`, and have it removed with `leftovers`; return the number of its rows."""
    temporary = _temporary_path(path)
    leftovers.callback(temporary.unlink, missing_ok=True)
    try:
        return write(temporary, FORMATS[path.suffix.lower()])
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error}") from error


def _move_into_place(source: Path, target: Path) -> None:
    try:
        sync_path(source)  # before the commit: the state must not call bios collected that a power cut takes away
        source.replace(target)
    except OSError as error:
        raise StateError(f"{target} cannot be written: {error.strerror}") from error
    with suppress(OSError):  # the folder may be writable and not readable
        sync_path(target.parent)
