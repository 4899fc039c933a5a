"""What was written survives a power cut."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    sync_path(folder)


def sync_path(path: Path) -> None:
    """Makes what was written to a file, or renamed in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
