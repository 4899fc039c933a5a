"""Opening the state file: short transactions, and a wait for whoever has it open.

DuckDB lets one process have a file open for writing, and no other may even read it meanwhile. So the file is attached,
used and detached; nobody sleeps or calls the service holding it. The engine that it is attached to stays: starting one
costs 16 ms of processor time, attaching 2. While it is attached no other descriptor of the file may be closed in this
process: that would drop the engine's lock. What is committed stays in the log until `folding` takes it into the file.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import duckdb

from batcher import crashpoints
from batcher.errors import StateError
from batcher.state.db import checkpoint
from batcher.state.db.schema import SCHEMA_VERSION, has_plan, read_schema_version, run_migrations
from batcher.state.db.transaction import MEMORY_MB, STAGING_MB, Transaction

ROW_GROUP = 2_048
"""Rows of a table that are stored together (the fewest that DuckDB takes, usual are 122,880). A fold writes anew what
was appended to last, and a statement on one shard reads what may hold it: both are a batch's size, whatever the job's.
"""
CTRL_C = "Query interrupted"
"""What DuckDB makes of Ctrl-C within a statement."""
RETRY_S = 0.05
"""Between two tries to open a file that another process has open; a transaction takes tens of milliseconds."""
PATIENCE_S = 60.0
"""How long to wait for the state before an intent; before an outcome there is no bound."""


class Store:
    """The state of one job in a folder."""

    def __init__(self, folder: Path, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.folder = folder
        self.path = folder / "state.duckdb"
        self._clock = clock
        self._sleep = sleep
        self._engine: duckdb.DuckDBPyConnection | None = None
        self._is_current = False

    def exists(self) -> bool:
        """Whether a plan was ever made here."""
        try:
            return self.path.exists()
        except OSError as error:
            raise StateError(f"{self.path} cannot be looked at: {error.strerror}; mend the rights") from error

    def with_folder(self, folder: Path) -> "Store":
        """The same kind of store in another folder, for a dry run on a copy."""
        return Store(folder, self._clock, self._sleep)

    def create_or_migrate(self) -> None:
        """Makes the folder and the file where they do not exist, and brings an older schema up to date."""
        self._make_folder()
        with self._open_connection(PATIENCE_S) as con:
            con.begin()
            run_migrations(con, self.path)
            _commit_or_raise(con, self.path)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(
                f"the state folder {self.folder} cannot be made: {error.strerror}; set another [state] dir"
            ) from error

    @contextmanager
    def plan_transaction(self) -> Iterator[Transaction]:
        """The transaction of `plan`: it makes the folder, the file and the schema where they do not exist.

        Raises StateError as `transaction` does. A plan that fails leaves neither file nor folder of its own making.
        """
        with ExitStack() as undo:
            new = not self.exists()
            for folder in reversed((self.folder, *self.folder.parents)):  # taken back deepest first
                if not folder.exists():
                    undo.callback(_remove_empty_folder, folder)
            self._make_folder()
            opening = self._open_new_file() if new else self._open_connection(PATIENCE_S)
            con = undo.enter_context(opening)
            empty = read_schema_version(con, self.path) == 0  # asked only now: another plan may have made it meanwhile
            if empty:
                undo.callback(self.path.unlink, missing_ok=True)
            with self._override_settings(*_FOR_PLAN, *(_CHECKPOINT_AT_COMMIT if empty else ())):
                con.begin()
                run_migrations(con, self.path)
                with self._commit_on_exit(con, "plan") as tx:
                    yield tx
            undo.pop_all()
            opening.__exit__(None, None, None)

    @contextmanager
    def transaction(self, name: str, patience_s: float | None = PATIENCE_S) -> Iterator[Transaction]:
        """One transaction under a name, which also names its crash points. patience_s None: wait without a bound.

        Raises StateError when the file cannot be opened or written; then nothing was changed.
        """
        with self._open_migrated(patience_s) as con:
            con.begin()
            with self._commit_on_exit(con, name) as tx:
                yield tx

    @contextmanager
    def _open_migrated(
        self, patience_s: float | None, read_only: bool = False, folds: bool = True
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """As `_opening`; a file of an older schema is brought up to date by whichever command comes first."""
        with self._open_connection(patience_s, read_only, folds) as con:
            if self._is_current or not self._needs_migration(con):
                yield con
                return
        with self._open_connection(patience_s) as con:
            con.begin()
            run_migrations(con, self.path)
            _commit_or_raise(con, self.path)
            self._is_current = True
        with self._open_connection(patience_s, read_only, folds) as con:
            yield con

    def _needs_migration(self, con: duckdb.DuckDBPyConnection) -> bool:
        self._is_current = has_plan(con)
        return not self._is_current and 0 < read_schema_version(con, self.path) < SCHEMA_VERSION

    @contextmanager
    def _commit_on_exit(self, con: duckdb.DuckDBPyConnection, name: str) -> Iterator[Transaction]:
        """Commits, or takes back what SQL cannot."""
        tx = Transaction(con, self._clock())
        with tx.undo:
            yield tx
            crashpoints.mark_reached(f"{name}.commit.before")
            _commit_or_raise(con, self.path)
            tx.undo.pop_all()
        crashpoints.mark_reached(f"{name}.commit.after")

    @contextmanager
    def dry_run_transaction(self) -> Iterator[Transaction]:
        """A transaction that is never committed. The folder must exist."""
        with self._open_connection(PATIENCE_S, folds=False) as con, self._override_settings(*_FOR_PLAN):
            con.begin()
            run_migrations(con, self.path)
            yield Transaction(con, self._clock())
            con.rollback()

    @contextmanager
    def read_transaction(self, patience_s: float | None = PATIENCE_S) -> Iterator[Transaction]:
        """A look at the state, beside whatever runs. Raises StateError where no plan was made."""
        if not self.exists():
            raise StateError(self._missing_plan_message())
        with self._open_migrated(patience_s, read_only=True, folds=False) as con:
            if not has_plan(con):
                read_schema_version(con, self.path)  # tells what else the file is
                raise StateError(self._missing_plan_message())
            yield Transaction(con, self._clock())

    def require_plan(self) -> None:
        """Raise StateError where no plan was made, or where the file is not a state."""
        with self.read_transaction():
            pass

    def _missing_plan_message(self) -> str:
        return f"there is no plan in {self.folder}; run `batcher plan` first"

    @contextmanager
    def _open_connection(
        self, patience_s: float | None, read_only: bool = False, folds: bool = True
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection; what the disk refuses while it is open becomes a StateError."""
        con = self._attach_with_retry(patience_s, read_only)
        try:
            yield con
            con.close()
            if folds and checkpoint.is_due(self.path):
                self._run_checkpoint()
        except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException) as error:
            raise StateError(_explain_error(self.path, error)) from error
        except RuntimeError as error:
            if str(error) != CTRL_C:
                raise
            raise KeyboardInterrupt from error
        finally:
            con.close()  # rolls back what was not committed
            self._detach_file()

    @contextmanager
    def _open_new_file(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that makes the file; what a full disk leaves of one is no state, and is taken away."""
        try:
            opening = self._open_connection(PATIENCE_S)
            con = opening.__enter__()
        except StateError as error:
            if "No space left" in str(error.__cause__) or "not a valid DuckDB" in str(error.__cause__):
                self.path.unlink(missing_ok=True)
            raise
        with ExitStack() as stack:
            stack.push(opening.__exit__)
            yield con

    def _attach_with_retry(self, patience_s: float | None, read_only: bool = False) -> duckdb.DuckDBPyConnection:
        waited = 0.0
        while True:
            try:
                checkpoint.recover_state_file(self.path)
                return _attach_file(self._ensure_engine(), self.path, read_only)
            except duckdb.Error as error:
                if "Could not set lock" not in str(error):
                    raise StateError(_explain_error(self.path, error)) from error
                if patience_s is not None and waited >= patience_s:
                    raise StateError(f"{self.path} has been held by another process for {waited:.0f} s") from error
            self._sleep(RETRY_S)
            waited += RETRY_S

    def _ensure_engine(self) -> duckdb.DuckDBPyConnection:
        if self._engine is None:
            spill = str(self.folder / "spill")  # else it would be `.tmp`, wherever the command was started
            self._engine = duckdb.connect(config={"threads": "1", "temp_directory": spill})
            for setting in _SETTINGS:
                self._engine.execute(setting)
        return self._engine

    @contextmanager
    def _override_settings(self, *settings: str) -> Iterator[None]:
        """While this lasts the engine has these settings; one under which something fails is given up."""
        try:
            for setting in settings:
                self._ensure_engine().execute(setting)
            yield
            for setting in _SETTINGS:
                self._ensure_engine().execute(setting)
        except BaseException:
            self._close_engine()
            raise

    def _run_checkpoint(self) -> None:
        """Takes the log into the file. Where that cannot be, it stays, and a later transaction tries again."""
        with suppress(OSError, duckdb.Error), checkpoint.backup_metadata(self.path, self._metadata_blocks()) as copy:
            crashpoints.mark_reached("fold.before")
            try:
                self._ensure_engine().execute("CHECKPOINT state")
            except duckdb.Error:  # the copy stays, and is put back by the next to attach the file
                self._close_engine()
            else:
                crashpoints.mark_reached("fold.after")
                copy.unlink()
                self._detach_file()

    def _metadata_blocks(self) -> list[int]:
        """The blocks that hold the metadata of the attached file."""
        rows = self._ensure_engine().execute("SELECT block_id FROM pragma_metadata_info('state')").fetchall()
        return [int(row[0]) for row in rows]

    def _detach_file(self) -> None:
        """Gives the file free. What was committed is in the log."""
        if self._engine is not None:
            try:
                self._engine.execute("DETACH DATABASE IF EXISTS state")
            except duckdb.Error:
                self._close_engine()

    def _close_engine(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None


_SETTINGS = (
    f"SET memory_limit = '{MEMORY_MB}MB'",
    "PRAGMA disable_checkpoint_on_shutdown",  # nor at a detach
    "SET wal_autocheckpoint = '1000TB'",
    f"SET auto_checkpoint_skip_wal_threshold = {1 << 50}",  # a large commit would checkpoint instead of using the log
)

_FOR_PLAN = (f"SET memory_limit = '{STAGING_MB}MB'",)
"""A plan has Python's rows and a reader of the table beside the engine. It is no slower for it."""

_CHECKPOINT_AT_COMMIT = ("SET wal_autocheckpoint = '1KB'", "SET auto_checkpoint_skip_wal_threshold = 0")
"""A commit writes the file at once, and no log. For a new file alone: nothing in it is in use before the commit, so
nothing can be overwritten, and the header that is written last makes it a state."""


def _attach_file(engine: duckdb.DuckDBPyConnection, path: Path, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A connection of its own (what is temporary ends with it), with the file as its database."""
    quoted = str(path.absolute()).replace("'", "''")
    how = "READ_ONLY" if read_only else f"ROW_GROUP_SIZE {ROW_GROUP}"
    engine.execute(f"ATTACH '{quoted}' AS state ({how})")
    con = engine.cursor()
    con.execute("USE state")
    return con


def _commit_or_raise(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        con.commit()
    except duckdb.Error as error:
        raise StateError(_explain_error(path, error)) from error


def _remove_empty_folder(folder: Path) -> None:
    with suppress(OSError):  # not empty: somebody else has put something there
        folder.rmdir()


def _explain_error(path: Path, error: duckdb.Error) -> str:
    text = str(error).splitlines()[0]
    for sign, sentence in _REASONS:
        if sign in text.lower():
            return f"{path} {sentence}"
    return f"{path} cannot be used: {text}"


_REASONS = (
    ("not a valid duckdb", "is not a state of Batcher's; move it away, or set another [state] dir"),
    ("is a directory", "is a folder where the state file should be; move it away, or set another [state] dir"),
    ("newer version", "was written by a newer DuckDB; upgrade: pip install -U duckdb"),
    ("storage version", "was written by a newer DuckDB; upgrade: pip install -U duckdb"),
    (
        "no space left",
        "cannot be written, the disk is full; nothing was lost, make room and run the same command again",
    ),
    ("permission denied", "cannot be written: permission denied; mend the rights of its folder"),
    ("read-only", "cannot be written: the file system is read-only; set another [state] dir"),
)
"""What DuckDB says (in lower case), and what it means for the user."""
