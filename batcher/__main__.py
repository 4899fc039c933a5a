"""The command, and `python -m batcher`."""

import gc

YOUNG_OBJECTS = 100_000
"""New objects between two looks for cycles. Modules make many objects and hardly a cycle: to look as often as Python
does by itself, and once more at its end, takes a tenth of the time of a short command."""


def main() -> None:
    """The entry point."""
    gc.set_threshold(YOUNG_OBJECTS)
    from batcher import cli  # noqa: PLC0415 - what it imports is a fifth of those objects

    cli.main()


if __name__ == "__main__":
    main()
