"""The command, and `python -m batcher`."""

import gc
import os
import sys

YOUNG_OBJECTS = 100_000
"""New objects between two looks for cycles. Modules make many objects and hardly a cycle: to look as often as Python
does by itself, and once more at its end, takes a tenth of the time of a short command."""


def main() -> None:
    """The entry point."""
    if sys.stdout is None:  # `batcher plan >&-`: nobody listens
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - until the process ends
    gc.set_threshold(YOUNG_OBJECTS)
    from batcher.cli import app  # noqa: PLC0415 - what it imports is a fifth of those objects

    app.main()


if __name__ == "__main__":
    main()
