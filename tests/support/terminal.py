"""A command at a terminal of its own: what a person sees of it, and answers to its questions."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator, Sequence

import pyte
from pyte.screens import Char
from rich.text import Text

from tests.support.shop import Shop

ASKS = b"]: "
"""How a question ends: [y/N]: ."""
LEAVES_SCREEN = "\x1b[?1049l"
"""What a terminal is sent where it goes back from a screen of its own to what stood there before."""
MOST_ROWS = 2_000
"""Rows of the terminal that is drawn: all that a command prints."""
OTHER_COLORS = {"brown": "yellow", "brightbrown": "bright_yellow"}
"""Colours that pyte and rich name differently."""


def run_at_terminal(
    shop: Shop, words: Sequence[str], answers: Sequence[str] = (), width: int = 80, height: int = 24, term: str = "dumb"
) -> tuple[int, str]:
    """Run a command at a terminal; return its exit code and all that it wrote there.

    answers: what is typed at its questions; where there are more questions than answers, the input is at its end.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    environment = {**shop.environment, "TERM": term}
    process = subprocess.Popen(words, cwd=shop.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    left = iter(answers)
    shown = b""
    for part in _read_parts(ours):
        shown += part
        if shown.endswith(ASKS):
            answer = next(left, None)
            os.write(ours, b"\x04" if answer is None else f"{answer}\n".encode())
    os.close(ours)
    return process.wait(), shown.decode()


def _read_parts(descriptor: int) -> Iterator[bytes]:
    """Yield what is written to a terminal. Linux ends it with an error once no process holds it."""
    while True:
        try:
            part = os.read(descriptor, 65_536)
        except OSError:
            return
        if not part:
            return
        yield part


def draw_terminal(written: str, width: int) -> list[Text]:
    """Return the rows that stand on a terminal of this width after all this was written, with their colours."""
    screen = pyte.Screen(width, MOST_ROWS)
    pyte.Stream(screen).feed(written.rpartition(LEAVES_SCREEN)[2])
    rows = []
    for number in range(screen.cursor.y + 1):
        row, line = Text(), screen.buffer[number]
        for column in range(width):
            row.append(line[column].data, _choose_style(line[column]))
        row.rstrip()
        rows.append(row)
    while rows and not rows[-1].plain:
        rows.pop()
    return rows


def _choose_style(char: Char) -> str:
    """Return the style of a character in rich's words. pyte knows no dim text."""
    words = [
        word for word, is_set in (("bold", char.bold), ("italic", char.italics), ("reverse", char.reverse)) if is_set
    ]
    words += ["underline"] if char.underscore else []
    words += [_name_color(char.fg)] if char.fg != "default" else []
    words += ["on", _name_color(char.bg)] if char.bg != "default" else []
    return " ".join(words)


def _name_color(color: str) -> str:
    is_code = len(color) == 6 and set(color) <= set("0123456789abcdef")
    return f"#{color}" if is_code else OTHER_COLORS.get(color) or color.replace("bright", "bright_")
