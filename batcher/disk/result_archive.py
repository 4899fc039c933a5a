"""The result files as they came, kept compressed in the state folder: what was paid for, whatever we made of it.

A file is compressed before its results are committed, so that a crash leaves the plain file, or the compressed one,
or both, and what is deleted at OpenAI afterwards is on this disk. The format is gzip, which any machine can read; ISA-L
writes it: 500 MB/s, a quarter of zlib's time, for files of the same size (a fifth of what came).
"""

import hashlib
import os
import re
from pathlib import Path

from isal import isal_zlib

from batcher.disk.durable import sync_folder

LEVEL = 1
GZIP = 31
"""zlib's number for the gzip format with the largest window."""
CHUNK = 1 << 20


def result_file_path(folder: Path, batch_id: str, kind: str) -> Path:
    """Where a batch's plain output or error file stands in the state folder."""
    # The id comes from the service: one that is no plain name must not lead out of the folder.
    plain = re.fullmatch(r"[\w-]{1,100}", batch_id, re.ASCII)
    name = batch_id if plain else hashlib.sha256(batch_id.encode()).hexdigest()[:32]
    return folder / "results" / f"{name}_{kind}.jsonl"


def archive_file_path(path: Path) -> Path:
    """The compressed file of a plain one."""
    return path.with_name(path.name + ".gz")


def archive_result_file(path: Path) -> None:
    """Compresses a file beside itself, safe on the disk when this returns. The plain one stays."""
    target = archive_file_path(path)
    beside = target.with_name(target.name + ".part")
    with path.open("rb") as source, beside.open("wb") as raw:
        packing = isal_zlib.compressobj(LEVEL, wbits=GZIP)
        while chunk := source.read(CHUNK):
            raw.write(packing.compress(chunk))
        raw.write(packing.flush())
        raw.flush()
        os.fsync(raw.fileno())
    beside.replace(target)
    sync_folder(path.parent)


def remove_result_leftovers(folder: Path) -> None:
    """Removes what a killed process left: pieces of files, and plain files that are kept compressed."""
    results = folder / "results"
    for path in (*results.glob("*.part"), *results.glob("*.jsonl")):
        if path.suffix == ".part" or archive_file_path(path).exists():
            path.unlink(missing_ok=True)
