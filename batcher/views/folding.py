"""Plain text on a terminal, folded between words: a terminal itself folds within them."""

import os
from textwrap import fill
from typing import TextIO


def fold_for_terminal(text: str, stream: TextIO) -> str:
    """Return a text with its long lines folded where the stream is a terminal; unchanged elsewhere."""
    if not stream.isatty():
        return text
    width = os.get_terminal_size(stream.fileno()).columns or 80
    return "\n".join(fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
