"""Batcher's own errors. Each is one clear sentence for the user and carries its exit code."""

import errno
from collections.abc import Mapping
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the commands (README, "Exit codes")."""

    DONE = 0
    """It did what was asked."""
    UNEXPECTED = 1
    """An error in Batcher; its traceback is printed."""
    USAGE = 2
    """The command line, the settings, the job, the table, the key or the model cannot be used; one sentence on stderr
    says what is wrong, where, and what to do."""
    WORK_REMAINS = 3
    """Work remains, or a decision is yours: a brake, a failed pilot, a question answered with no."""
    DEAD_LINES = 4
    """Everything is over, and some lines are dead."""


class BatcherError(Exception):
    """A failure that the user can understand: what is wrong, where, and what to do about it."""

    exit_code = ExitCode.USAGE

    @property
    def logged(self) -> str:
        """The sentence as it may be written into the log and sent: without a prompt or an answer."""
        return str(self)


class ConfigError(BatcherError):
    """batcher.toml or an override in the environment cannot be used."""


class JobError(BatcherError):
    """The job folder cannot be used."""

    def __init__(self, sentence: str, logged: str = "") -> None:
        """logged: the same without what job.py says, which may hold an answer; "": it says nothing."""
        super().__init__(sentence)
        self._logged = logged or sentence

    @property
    def logged(self) -> str:
        """The sentence without what job.py says."""
        return self._logged


class InputError(BatcherError):
    """The input table cannot be used; names the file, the row and the column."""


class StateError(BatcherError):
    """The state file cannot be used: foreign, of a newer version, locked, or not writable."""


class LockedError(StateError):
    """Another process is at work on the state, and is not waited for."""

    exit_code = ExitCode.WORK_REMAINS


class SetupError(BatcherError):
    """The service refuses us for a reason that only the user can remove (key, model, permission)."""


class DecisionError(BatcherError):
    """What is done next is for the user to decide; the sentence says by which commands."""

    exit_code = ExitCode.WORK_REMAINS


class IllegalTransitionError(BatcherError):
    """An event arrived in a state that does not know it; nothing was changed."""

    exit_code = ExitCode.UNEXPECTED


_DISK_FAULTS = {
    errno.ENOSPC: "the disk is full; nothing was lost, make room and run the same command again",
    errno.EDQUOT: "the disk quota is used up; nothing was lost, make room and run the same command again",
    errno.EFBIG: "the file is larger than this user may write; nothing was lost, raise the limit and run again",
    errno.EROFS: "the file system is read-only; nothing was lost, mount it writable or use another folder",
    errno.EACCES: "permission denied; fix the rights of the folder",
    errno.EPERM: "it is not permitted; fix the rights of the folder",
    errno.EIO: "the disk failed; nothing was lost, look after it and run the same command again",
}


def describe_disk_error(error: OSError) -> str:
    """Return what the disk refused, in a sentence; "" when the error is of another kind."""
    why = _DISK_FAULTS.get(error.errno or 0, "")
    where = error.filename2 or error.filename
    return f"{where}: {why}" if why and where else why


def compute_exit_code(states: Mapping[str, int]) -> ExitCode:
    """Return WORK_REMAINS where a line is not over, else DEAD_LINES where one is dead, else DONE."""
    if any(states.get(state) for state in ("ready", "waiting", "in_batch", "in_direct", "held")):
        return ExitCode.WORK_REMAINS
    return ExitCode.DEAD_LINES if states.get("dead") else ExitCode.DONE


def format_faulty_value(value: object) -> str:
    """Return a value that is not valid as an error shows it: as Python writes it, shortened to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def format_usd(amount: float) -> str:
    """Return an amount of dollars: in cents from $1 on, else as fine as it has to be; nothing is "$0"."""
    return f"${amount:,.{count_usd_digits(amount)}f}" if amount else "$0"


def count_usd_digits(amount: float) -> int:
    """Return with how many digits behind the point an amount of dollars is shown."""
    if amount == 0 or amount >= 1:
        return 2
    return 4 if amount >= 0.001 else 6
