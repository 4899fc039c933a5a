"""The command, and `python -m batcher`."""

import gc
import os
import sys

YOUNG_OBJECTS = 100_000
"""New objects between two garbage collections. Importing modules makes many objects and hardly a cycle: with Python's
default, and its last collection at the end, a short command takes a tenth longer."""


def main() -> None:
    """Run the command."""
    if sys.stdout is None:  # `batcher plan >&-`: stdout was closed by the caller
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    gc.set_threshold(YOUNG_OBJECTS)
    from batcher.cli import app

    app.main()


if __name__ == "__main__":
    main()
