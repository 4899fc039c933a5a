"""One DuckDB engine, and the state file attached to it while it is in use.

DuckDB allows one process to have a file open for writing, and then no other process may even read it. So the file is
attached, used and detached, and no caller sleeps or calls the service while it is attached. The engine stays: starting
one costs 16 ms of processor time, attaching a file 2 ms. While the file is attached, no other descriptor of it may be
closed in this process: that would release the engine's lock. What is committed stays in the write-ahead log until
`fold_log` moves it into the file.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from batcher import crashpoints
from batcher.errors import StateError
from batcher.state.db import checkpoint
from batcher.state.db.transaction import MEMORY_MB, STAGING_MB

ROW_GROUP = 2_048
"""Rows of a table that are stored together: the fewest that DuckDB accepts (its default is 122,880). A fold rewrites
the group that was appended to last, and a statement on one shard reads the groups that may hold it: with this size both
are as large as a batch, not as the job."""
RENEW_AFTER = 500
"""Files attached after which the engine is restarted: it keeps 1 to 5 KB of each until it ends, where a statement
has read a table with an index (2.0.1), 100 MB in a week of looks. A restart costs 16 ms."""
CTRL_C = "Query interrupted"
"""The text of the RuntimeError that DuckDB raises where Python's handler of a Ctrl-C within a statement raises."""
RETRY_S = 0.05
"""Seconds between two attempts to attach a file that another process has attached; a transaction takes tens of ms."""
SETTINGS = (
    f"SET memory_limit = '{MEMORY_MB}MB'",
    "PRAGMA disable_checkpoint_on_shutdown",  # nor at a detach
    "SET wal_autocheckpoint = '1000TB'",
    f"SET auto_checkpoint_skip_wal_threshold = {1 << 50}",  # a large commit would checkpoint instead of using the log
)
"""The settings of the engine: DuckDB never checkpoints by its own decision (the reason is in `checkpoint`)."""
PLAN_SETTINGS = (f"SET memory_limit = '{STAGING_MB}MB'",)
"""Settings while the table is planned: Python's rows and a reader of the table need memory beside the engine. Planning
is no slower with this limit."""
CHECKPOINT_AT_COMMIT = ("SET wal_autocheckpoint = '1KB'", "SET auto_checkpoint_skip_wal_threshold = 0")
"""Settings with which a commit writes the file at once and uses no log. For a new file only: none of its blocks is in
use before the commit, so nothing can be overwritten, and the header, which is written last, makes it a state."""


class Engine:
    """One DuckDB engine for one state file. It is started at the first use."""

    def __init__(self, path: Path, sleep: Callable[[float], None]) -> None:
        self._path = path
        self._sleep = sleep
        self._engine: duckdb.DuckDBPyConnection | None = None
        self._times_attached = 0

    def attach_with_retry(self, patience_s: float | None, read_only: bool) -> duckdb.DuckDBPyConnection:
        """Attach the file and return a connection to it; wait while another process has it attached.

        patience_s: how long to wait; None waits without a bound. Raises StateError when the file cannot be used, or is
        still in use after that time.
        """
        waited = 0.0
        while True:
            try:
                return self.attach_file(read_only)
            except duckdb.Error as error:
                if "Could not set lock" not in str(error):
                    raise StateError(explain_error(self._path, error)) from error
                if patience_s is not None and waited >= patience_s:
                    raise StateError(f"{self._path} has been held by another process for {waited:.0f} s") from error
            self._sleep(RETRY_S)
            waited += RETRY_S

    def attach_file(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        """Attach the file, repaired where a fold was interrupted, and return a connection of its own.

        Temporary tables end with the connection. Raises StateError where the copy of such a fold cannot be used.
        """
        checkpoint.recover_state_file(self._path)
        quoted = str(self._path.absolute()).replace("'", "''")
        mode = "READ_ONLY" if read_only else f"ROW_GROUP_SIZE {ROW_GROUP}"
        engine = self._ensure_started()
        self._times_attached += 1
        engine.execute(f"ATTACH '{quoted}' AS state ({mode})")
        con = engine.cursor()
        con.execute("USE state")
        return con

    def detach_file(self) -> None:
        """Detach the file, so that other processes can use it. What was committed is in the log."""
        if self._engine is None:
            return
        try:
            self._engine.execute("DETACH DATABASE IF EXISTS state")
        except duckdb.Error:
            self._close()
        except BaseException:  # a Ctrl-C
            self._close()
            raise
        if self._times_attached >= RENEW_AFTER:
            self._close()

    def fold_log(self) -> None:
        """Move the log into the file and detach it. If that fails, the log stays and a later transaction retries."""
        with suppress(OSError, duckdb.Error):
            engine = self._ensure_started()
            metadata = [int(row[0]) for row in engine.execute(_METADATA_BLOCKS).fetchall()]
            ((block_bytes,),) = engine.execute(_BLOCK_SIZE).fetchall()
            layout = checkpoint.FileLayout(duckdb.__version__, int(block_bytes), metadata)
            with checkpoint.backup_state_file(self._path, layout) as backup:
                try:
                    crashpoints.mark_reached("fold.before")
                    engine.execute("CHECKPOINT state")
                    crashpoints.mark_reached("fold.after")
                    backup.remove()
                except BaseException:  # the copy stays; the next process that attaches the file puts it back
                    self._close()
                    raise
                self.detach_file()

    @contextmanager
    def override_settings(self, *settings: str) -> Iterator[None]:
        """Apply settings to the engine while this lasts; after an error the engine is closed instead of reset."""
        try:
            for setting in settings:
                self._ensure_started().execute(setting)
            yield
            for setting in SETTINGS:
                self._ensure_started().execute(setting)
        except BaseException:
            self._close()
            raise

    def _ensure_started(self) -> duckdb.DuckDBPyConnection:
        if self._engine is None:
            spill = str(self._path.parent / "spill")  # the default is `.tmp` where the command was started
            self._engine = duckdb.connect(config={"threads": "1", "temp_directory": spill})
            for setting in SETTINGS:
                self._engine.execute(setting)
        return self._engine

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None
            self._times_attached = 0


_METADATA_BLOCKS = "SELECT block_id FROM pragma_metadata_info('state')"
_BLOCK_SIZE = "SELECT block_size FROM pragma_database_size() WHERE database_name = 'state'"


@contextmanager
def raise_interrupts() -> Iterator[None]:
    """Raise the KeyboardInterrupt that DuckDB turned into an error of its own."""
    try:
        yield
    except RuntimeError as error:
        if str(error) != CTRL_C:
            raise
        raise KeyboardInterrupt from error


def explain_error(path: Path, error: duckdb.Error) -> str:
    """Return what an error of DuckDB's means for the user, in one sentence that names the file."""
    text = str(error).splitlines()[0]
    for sign, sentence in _REASONS:
        if sign in text.lower():
            return f"{path} {sentence}"
    return f"{path} cannot be used: {text}"


_REASONS = (
    ("not a valid duckdb", "is not a state of Batcher's; move it away, or set another [state] dir"),
    ("is a directory", "is a folder where the state file should be; move it away, or set another [state] dir"),
    (
        "wal checkpoint iteration",
        "and its log beside it (.wal) are of different times, as after a copy of one without the other; put back the "
        "whole state folder as it was at one time",
    ),
    (
        "corrupt wal file",
        "has a log beside it (.wal) that was damaged, by a power cut or a failing disk; what to do is in "
        "docs/reliability.md, what is not promised",
    ),
    ("storage version number", "was written by a newer DuckDB than this Batcher knows; upgrade Batcher"),
    (
        "no space left",
        "cannot be written, the disk is full; nothing was lost, make room and run the same command again",
    ),
    (
        "file too large",
        "cannot be written: it is larger than this user may write; nothing was lost, raise the limit and run again",
    ),
    ("permission denied", "cannot be written: permission denied; fix the rights of its folder"),
    ("read-only", "cannot be written: the file system is read-only; set another [state] dir"),
)
"""A part of DuckDB's message (in lower case), and the sentence for the user."""
