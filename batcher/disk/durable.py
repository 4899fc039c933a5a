"""Making what was written survive a power cut."""

import os
from pathlib import Path


def sync_path(path: Path) -> None:
    """Make what was written to a file, or the renames in a folder, survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
