"""The state of one job: a folder with a DuckDB file, opened for one short transaction at a time.

How the file is attached, and why only for the length of a transaction, is described in `engine`.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import duckdb

from batcher import crashpoints
from batcher.disk.locks import folder_lock
from batcher.disk.private_files import STATE_FILE, make_private_folder, restrict_paths, restrict_state_folder
from batcher.errors import StateError
from batcher.state.db import checkpoint
from batcher.state.db.engine import CHECKPOINT_AT_COMMIT, PLAN_SETTINGS, Engine, explain_error, raise_interrupts
from batcher.state.db.schema import SCHEMA_VERSION, has_plan, read_schema_version, run_migrations
from batcher.state.db.transaction import Transaction

_THREAD_LOCKS: dict[str, threading.RLock] = {}
"""By the path of the state file."""
PATIENCE_S = 60.0
"""Seconds to wait for the state file before an intent is written; before an outcome the wait has no bound."""


def _check_folder_name(folder: Path) -> None:
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError as error:
        why = "has a name that is not UTF-8; rename it, or set [state] dir"
        raise StateError(f"the state folder {folder} {why}") from error


class Store:
    """The state of one job in a folder."""

    def __init__(self, folder: Path, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        """Raise StateError where DuckDB could open no file in this folder."""
        _check_folder_name(folder)
        self.folder = folder
        self.path = folder / STATE_FILE
        self._clock = clock
        self._sleep = sleep
        self._engine = Engine(self.path, sleep)
        self._lock = _find_thread_lock(self.path)
        self._is_current = False
        self._is_private = False

    def exists(self, patience_s: float | None = PATIENCE_S) -> bool:
        """Return whether a plan was ever made here. Raises StateError where the folder cannot be read.

        patience_s: how long to wait for another thread of this process.
        """
        try:
            with self._hold_thread_lock(
                patience_s
            ):  # it opens and closes the file, which would end the engine's lock of another thread
                return self.path.exists() and not checkpoint.is_unfinished(self.path)
        except OSError as error:
            raise StateError(f"{self.path} cannot be looked at: {error.strerror}; fix the rights") from error

    def wait(self, seconds: float) -> None:
        """Wait as the store does for its file; not within a transaction."""
        self._sleep(seconds)

    def with_folder(self, folder: Path) -> "Store":
        """Return the same kind of store in another folder, for a dry run on a copy."""
        return Store(folder, self._clock, self._sleep)

    @contextmanager
    def plan_transaction(self) -> Iterator[Transaction]:
        """Open the transaction of `plan`, which makes the folder, the file and the schema where they do not exist.

        Raises StateError as `transaction` does. A plan that fails removes the file and the folders that it has made.
        """
        with ExitStack() as undo_folders:
            self.exists()  # raises where the folder cannot be read
            for folder in reversed((self.folder, *self.folder.parents)):  # removed deepest first
                if not folder.exists():
                    undo_folders.callback(_remove_empty_folder, folder)
            self._make_folder()
            with self._open_or_make() as con, ExitStack() as undo_file:
                empty = read_schema_version(con, self.path) == 0  # only now: another plan may have made it meanwhile
                if empty:
                    undo_file.callback(self._remove_file)
                settings = PLAN_SETTINGS + (CHECKPOINT_AT_COMMIT if empty else ())
                with self._engine.override_settings(*settings):
                    con.begin()
                    run_migrations(con, self.path)
                    with self._commit_on_exit(con, "plan") as tx:
                        yield tx
                undo_file.pop_all()
                undo_folders.pop_all()

    @contextmanager
    def transaction(self, name: str, patience_s: float | None = PATIENCE_S) -> Iterator[Transaction]:
        """Open one transaction, which is committed at its end. The name also names its crash points.

        patience_s: how long to wait for another process; None waits without a bound. Raises StateError when the file
        cannot be opened or written; then nothing was changed.
        """
        with self._open_migrated(patience_s) as con:
            con.begin()
            with self._commit_on_exit(con, name) as tx:
                yield tx

    @contextmanager
    def dry_run_transaction(self) -> Iterator[Transaction]:
        """Open a transaction that is never committed. The folder must exist."""
        with self._open_connection(PATIENCE_S, folds=False) as con, self._engine.override_settings(*PLAN_SETTINGS):
            con.begin()
            run_migrations(con, self.path)
            yield Transaction(con, self._clock())
            con.rollback()

    @contextmanager
    def read_transaction(self, patience_s: float | None = PATIENCE_S) -> Iterator[Transaction]:
        """Open the state for reading, while another process may be acting. Raises StateError where no plan was made."""
        missing = f"there is no plan in {self.folder}; run `batcher plan` first"
        if not self.exists(patience_s):
            raise StateError(missing)
        with self._open_migrated(patience_s, read_only=True, folds=False) as con:
            if not has_plan(con):
                read_schema_version(con, self.path)  # raises where the file is something else's
                raise StateError(missing)
            yield Transaction(con, self._clock())

    def require_plan(self) -> None:
        """Raise StateError where no plan was made, or where the file is not a state."""
        with self.read_transaction():
            pass

    @contextmanager
    def _open_migrated(
        self, patience_s: float | None, read_only: bool = False, folds: bool = True
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection as `_open_connection` does, after a migration where the file is of an older schema."""
        with self._open_connection(patience_s, read_only, folds) as con:
            if not self._is_current:
                self._is_current = has_plan(con)
            if self._is_current or not 0 < read_schema_version(con, self.path) < SCHEMA_VERSION:
                yield con
                return
        with self._open_connection(patience_s) as con:
            con.begin()
            run_migrations(con, self.path)
            _commit_or_raise(con, self.path)
            self._is_current = True
        with self._open_connection(patience_s, read_only, folds) as con:
            yield con

    @contextmanager
    def _commit_on_exit(self, con: duckdb.DuckDBPyConnection, name: str) -> Iterator[Transaction]:
        """Commit at the end; after an error undo what a rollback cannot."""
        tx = Transaction(con, self._clock())
        with tx.undo:
            yield tx
            crashpoints.mark_reached(f"{name}.commit.before")
            _commit_or_raise(con, self.path)
            tx.undo.pop_all()
        crashpoints.mark_reached(f"{name}.commit.after")

    @contextmanager
    def _open_connection(
        self, patience_s: float | None, read_only: bool = False, folds: bool = True
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection; an error of the disk while it is open is raised as StateError.

        folds: fold the log into the file at the end, if it has grown.
        """
        with self._hold_thread_lock(patience_s), raise_interrupts():
            try:
                with closing(self._engine.attach_with_retry(patience_s, read_only)) as con:  # rolls back at its end
                    yield con
                    con.close()
                    if folds and checkpoint.is_due(self.path):
                        self._engine.fold_log()
            except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException) as error:
                raise StateError(explain_error(self.path, error)) from error
            finally:
                self._engine.detach_file()
                if not read_only:
                    self._keep_private()

    @contextmanager
    def _hold_thread_lock(self, patience_s: float | None) -> Iterator[None]:
        """Keep the other threads of this process from the file, as the engine's lock keeps other processes from it."""
        if not self._lock.acquire(timeout=-1 if patience_s is None else patience_s):
            raise StateError(f"{self.path} has been held by another thread for {patience_s:.0f} s")
        try:
            yield
        finally:
            self._lock.release()

    def _keep_private(self) -> None:
        """Take from others the rights that DuckDB's new files have; at first, those on all that is in the folder."""
        if self._is_private:
            restrict_paths((self.path, checkpoint.log_path(self.path)))
        else:
            restrict_state_folder(self.folder)
            self._is_private = True

    @contextmanager
    def _open_or_make(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection that makes the file where there is none, or one that was never finished.

        What a full disk leaves of a new file is removed.
        """
        with ExitStack() as stack:
            with folder_lock(self.folder):  # two plans at once: neither removes the file that the other makes
                new = checkpoint.remove_unfinished_file(self.path)
                try:
                    con = stack.enter_context(self._open_connection(PATIENCE_S))
                except StateError:
                    if new:
                        self._remove_file()
                    raise
            yield con

    def _remove_file(self) -> None:
        for path in (self.path, checkpoint.log_path(self.path)):
            path.unlink(missing_ok=True)

    def _make_folder(self) -> None:
        try:
            make_private_folder(self.folder)
        except OSError as error:
            raise StateError(
                f"the state folder {self.folder} cannot be made: {error.strerror}; set another [state] dir"
            ) from error


def _find_thread_lock(path: Path) -> threading.RLock:
    """Return the lock of a state file within this process, as no thread waits for DuckDB's, which is the process's."""
    return _THREAD_LOCKS.setdefault(os.path.realpath(path), threading.RLock())


def _commit_or_raise(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        con.commit()
    except duckdb.Error as error:
        raise StateError(explain_error(path, error)) from error


def _remove_empty_folder(folder: Path) -> None:
    with suppress(OSError):  # not empty: another program has put something into it
        folder.rmdir()
