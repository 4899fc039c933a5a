"""JSON on stdout: one object a line."""

import sys


def write_json_line(text: str) -> None:
    """Write one object, in JSON, on one line of stdout, at once: another program may wait for it."""
    from batcher.views.clean import clean_json

    sys.stdout.write(f"{clean_json(text)}\n")
    sys.stdout.flush()
