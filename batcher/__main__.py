"""The command, and `python -m batcher`."""

import gc
import os
import sys

from batcher.cli.interrupts import INTERRUPTED, LAST_WORDS, end_quietly, install_early_end

YOUNG_OBJECTS = 100_000
"""New objects between two garbage collections. Importing modules makes many objects and hardly a cycle: with Python's
default, and its last collection at the end, a short command takes a tenth longer."""


def main() -> None:
    """Run the command."""
    if sys.stdout is None:  # `batcher plan >&-`: stdout was closed by the caller
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if "_BATCHER_COMPLETE" in os.environ:
        from batcher.cli.completing import complete_or_go_on

        complete_or_go_on()
    gc.set_threshold(YOUNG_OBJECTS)
    install_early_end()
    try:
        from batcher.cli import app

        app.main()
    except KeyboardInterrupt:  # before or after a command, which handles it itself
        sys.stderr.write(LAST_WORDS)
        sys.exit(INTERRUPTED)
    finally:
        end_quietly()


if __name__ == "__main__":
    main()
