"""The command, and `python -m batcher`."""

import gc
import os
import signal
import sys

YOUNG_OBJECTS = 100_000
"""New objects between two garbage collections. Importing modules makes many objects and hardly a cycle: with Python's
default, and its last collection at the end, a short command takes a tenth longer."""


def main() -> None:
    """Run the command."""
    if sys.stdout is None:  # `batcher plan >&-`: stdout was closed by the caller
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    gc.set_threshold(YOUNG_OBJECTS)
    try:
        from batcher.cli import app

        app.main()
    except KeyboardInterrupt:  # while modules were imported: the commands handle Ctrl-C themselves
        sys.stderr.write("batcher: interrupted; run the same command again to go on\n")
        sys.exit(128 + signal.SIGINT)
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is done and said: Python would end with a traceback


if __name__ == "__main__":
    main()
