"""Files that only their owner may read, with any umask: a state folder holds prompts, answers and names.

The folder is the barrier. Its files have a mode of their own, for a copy of them that is put elsewhere.
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

FOLDER_MODE = 0o700
FILE_MODE = 0o600
STATE_FILE = "state.duckdb"
"""The name of the state file; those of its log and its copies begin with it."""
PARTS = ("shards", "results", "spill")
"""The folders that Batcher makes in a state folder. What else is in it may be the user's."""


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those above it, where they do not exist; only its owner may look into it. Raises OSError."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    restrict_paths([folder])


def open_private_file(path: Path) -> BinaryIO:
    """Open a file for writing, emptied where it exists, that only its owner may read. Raises OSError."""
    return open(path, "wb", opener=open_restricted)


def open_restricted(path: str | Path, flags: int) -> int:
    """Open a file that only its owner may read, and return its descriptor. flags: as in `os.open`. Raises OSError."""
    descriptor = os.open(path, flags, FILE_MODE)
    with suppress(OSError):  # another user's, or on a file system without modes
        os.fchmod(descriptor, FILE_MODE)  # the umask may have taken more, and the file may have been there
    return descriptor


def restrict_paths(paths: Iterable[Path]) -> None:
    """Take the rights on files and folders from all but their owner, where this may be done and they exist.

    Links are left alone, and so is a folder that is everybody's by its sticky bit. No file is opened: closing a
    descriptor of the state file would release its lock.
    """
    for path in paths:
        with suppress(OSError):  # gone, another user's, or on a file system without modes
            found = path.lstat().st_mode
            if stat.S_ISDIR(found) and not found & stat.S_ISVTX:
                mode = FOLDER_MODE
            elif stat.S_ISREG(found):
                mode = FILE_MODE
            else:
                continue
            if stat.S_IMODE(found) != mode:
                path.chmod(mode)


def restrict_state_folder(folder: Path) -> None:
    """Restrict a state folder and all that Batcher has written into it: earlier versions left it to the umask."""
    parts = [path for path in _list_folder(folder) if path.name in PARTS]
    files = [path for path in _list_folder(folder) if path.name.startswith(STATE_FILE) or path.suffix == ".lock"]
    restrict_paths([folder, *files, *parts, *(path for part in parts for path in _list_folder(part))])


def _list_folder(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
