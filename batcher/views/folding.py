"""Plain text on a terminal, folded between words: a terminal itself folds within them."""

import os
from textwrap import fill
from typing import TextIO

USUAL_COLUMNS = 80
"""Where a terminal does not say how wide it is."""


def fold_for_terminal(text: str, stream: TextIO) -> str:
    """Return a text with its long lines folded where the stream is a terminal; unchanged elsewhere."""
    if not stream.isatty():
        return text
    try:
        width = os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except OSError:
        width = USUAL_COLUMNS
    return "\n".join(fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
