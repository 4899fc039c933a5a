"""A list of the ids of the plan's rows beside the state, for what has no time to open it: the completion of shells.

It helps and is no record: it is written without being synced, and one that is old or missing completes less.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from batcher.disk.private_files import open_private_file

NAME = "row_ids.txt"
"""The name of the list in the state folder: an id a line, in the order of their bytes."""
EARLIER_NAME = "artist_ids.txt"
"""Its name in states that were planned when all jobs had artists; the next plan removes it."""
_PLAIN = re.compile(r"[\w.:@/+%-]{1,200}", re.ASCII)
"""Ids that a shell takes as one word."""
_SHARD = re.compile(r"shard-(\d+)\.jsonl")


def write_id_list(folder: Path, ids: Iterable[str]) -> None:
    """Replace the list, without ids that a shell would take apart; a disk that refuses it is left alone.

    ids: in the order of their bytes.
    """
    temporary = folder / f".{NAME}.part"
    with suppress(OSError):
        with open_private_file(temporary) as file:
            file.writelines(f"{line}\n".encode() for line in ids if _PLAIN.fullmatch(line))
        temporary.replace(folder / NAME)
        (folder / EARLIER_NAME).unlink(missing_ok=True)


def find_listed_ids(folder: Path, start: str, most: int) -> list[str]:
    """Return the first ids of the list that begin so; none where there is no list."""
    try:
        path = folder / NAME
        data = b"\n" + (path if path.exists() else folder / EARLIER_NAME).read_bytes()
    except OSError:
        return []
    found: list[str] = []
    at = data.find(b"\n" + start.encode())
    while 0 <= at < len(data) - 1 and len(found) < most:
        end = data.index(b"\n", at + 1)
        word = data[at + 1 : end].decode()
        if not word.startswith(start):
            break
        found.append(word)
        at = end
    return found


def list_shard_numbers(folder: Path) -> list[int]:
    """Return the numbers of the shards of which there is a file."""
    try:
        names = [path.name for path in (folder / "shards").iterdir()]
    except OSError:
        return []
    return sorted(int(found[1]) for found in map(_SHARD.fullmatch, names) if found)
