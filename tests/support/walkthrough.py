"""Runs a page as its reader would: files are written, commands run, and what is printed is compared with the page.

A fenced block of ```console holds commands behind "$ " and what they print below them; a line of "..." stands for any
lines. A fence whose paragraph above ends in "`some/file`:" is a file that is written. Other blocks are not run.
"""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.nursery import nursery

ADDRESS = "http://127.0.0.1:8080/v1"
"""The sandbox's address on the pages."""


class Step(NamedTuple):
    """A command with the lines that the page shows below it."""

    command: str
    shown: Sequence[str]


class PageFile(NamedTuple):
    """A file that the page has its reader write."""

    name: str
    text: str


def read_page(path: Path) -> Iterator[Step | PageFile]:
    """Yield what a page has its reader do, in order."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"(?m)^```(\w*)\n(.*?)^```$", text, re.DOTALL):
        named = re.search(r"`([\w./-]+)`:\s*\Z", text[: found.start()])
        if found[1] == "console":
            yield from _read_console(found[2])
        elif named:
            yield PageFile(named[1], found[2])


def _read_console(block: str) -> Iterator[Step]:
    for part in re.split(r"(?m)^\$ ", block)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        yield Step(command.partition("  #")[0].strip(), shown)


class Reader:
    """A reader at a terminal of 80 columns, in a folder of their own, with a sandbox at `url`."""

    def __init__(self, folder: Path, url: str) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "BATCHER_"))}
        self._folder, self._url, self._environment = folder, url, {**clean, "COLUMNS": "80"}
        self._log = folder.parent / f"{folder.name}.out"

    def set(self, **variables: str) -> None:
        """Set variables of the environment, as the reader has them already."""
        self._environment |= variables

    def follow(self, page: Path) -> None:
        """Do all that a page says. Raises AssertionError where a command fails, or prints something else."""
        for step in read_page(page):
            match step:
                case PageFile(name, text):
                    (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (self._folder / name).write_text(text, encoding="utf-8")
                case Step(command, shown):
                    compare_lines(command, shown, self._type(command))

    def _type(self, command: str) -> str:
        """Run one line as typed; return what it prints on stdout and stderr."""
        name, *arguments = shlex.split(command.replace(ADDRESS, self._url))
        match name:
            case "cd":
                self._folder = self._folder / arguments[0]
            case "export":
                self._environment |= dict(each.split("=", 1) for each in arguments)
            case "batcher":
                self._log.write_bytes(b"")
                code = nursery().run(arguments, self._folder, self._environment, self._log, self._log)
                printed = self._log.read_text(encoding="utf-8")
                assert code == 0, f"`{command}` ended with {code}: {printed}"
                return printed.replace(self._url, ADDRESS)
            case _:
                raise AssertionError(f"the page types `{command}`; only batcher, cd and export are typed here")
        return ""


def compare_lines(command: str, shown: Sequence[str], printed: str) -> None:
    """Raise AssertionError where the lines of the page are not in what was printed, in order, "..." being any lines."""
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line.rstrip()) + r"[ ]*\n" for line in shown)
    text = printed if not printed or printed.endswith("\n") else printed + "\n"
    assert re.fullmatch(pattern, text), f"`{command}` prints something else than the page:\n{printed}"
