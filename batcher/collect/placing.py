"""Files that are written whole: under another name first, then moved into place."""

from contextlib import suppress
from pathlib import Path

from batcher.disk.durable import sync_path
from batcher.errors import InputError, StateError, describe_disk_error


def check_place(path: Path) -> None:
    """Raise InputError where no file of this name could be written: its folder is missing, or it is a folder."""
    try:
        if not path.parent.is_dir():
            raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file in it")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def temporary_path(path: Path) -> Path:
    """Return the name under which a file is written before it is moved to `path`, in the same folder."""
    return path.with_name(f".{path.name}.batcher.part")


def move_into_place(source: Path, target: Path) -> None:
    """Move a file that was written whole to its name; it survives a power cut. Raises StateError."""
    try:
        sync_path(source)  # before the commit: the state must not call bios collected that a power cut takes away
        source.replace(target)
    except OSError as error:
        raise explain_failed_write(target, error) from error
    with suppress(OSError):  # the folder may be writable and not readable
        sync_path(target.parent)


def explain_failed_write(path: Path, error: OSError) -> StateError:
    """Return what the disk refused, in the sentence that it has everywhere."""
    why = describe_disk_error(OSError(error.errno, error.strerror)) if error.errno else ""
    return StateError(f"{path}: {why}" if why else f"{path} cannot be written: {error.strerror or error}")
