"""The result files as they were downloaded, kept compressed in the state folder: they were paid for, and remain
where their results could not be used.

A file is compressed before its results are committed. So a crash leaves the plain file, the compressed one, or both,
and what is deleted at OpenAI afterwards is on this disk. The format is gzip, which any machine can read. ISA-L writes
it at 500 MB/s, in a quarter of zlib's time, and the files are as small (a fifth of what was downloaded).
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from isal import isal_zlib

from batcher.disk.durable import sync_path
from batcher.disk.private_files import open_private_file

LEVEL = 1
"""ISA-L's level of compression, of 0 to 3."""
GZIP = 31
"""zlib's number for the gzip format with the largest window."""
CHUNK_BYTES = 1 << 20
"""Bytes that are compressed at a time."""


def result_file_path(folder: Path, batch_id: str, kind: str) -> Path:
    """Return the path of a batch's plain output or error file. kind: output or error."""
    # The id comes from the service: one that is no plain name must not lead out of the folder.
    plain = re.fullmatch(r"[\w-]{1,100}", batch_id, re.ASCII)
    name = batch_id if plain else hashlib.sha256(batch_id.encode()).hexdigest()[:32]
    return folder / "results" / f"{name}_{kind}.jsonl"


def archive_file_path(path: Path) -> Path:
    """Return the path of the compressed file of a plain one."""
    return path.with_name(path.name + ".gz")


def archive_result_file(path: Path) -> None:
    """Compress a file into another, which survives a power cut once this returns. The plain file stays."""
    target = archive_file_path(path)
    part = target.with_name(target.name + ".part")
    with path.open("rb") as source, open_private_file(part) as raw:
        compressor = isal_zlib.compressobj(LEVEL, wbits=GZIP)
        while chunk := source.read(CHUNK_BYTES):
            raw.write(compressor.compress(chunk))
        raw.write(compressor.flush())
        raw.flush()
        os.fsync(raw.fileno())
    part.replace(target)
    sync_path(path.parent)


def read_kept_lines(folder: Path, batch_id: str) -> Iterator[bytes]:
    """Yield the lines of the result files that are kept of a batch, those of the output file first.

    Raises FileNotFoundError where neither is kept, and OSError where one cannot be read or is damaged.
    """
    paths = [result_file_path(folder, batch_id, kind) for kind in ("output", "error")]
    kept = [path for plain in paths for path in (archive_file_path(plain), plain) if path.exists()]
    if not kept:
        raise FileNotFoundError(errno.ENOENT, "no result file is kept", str(archive_file_path(paths[0])))
    # A plain file is there only while its batch is recorded, and its compressed one may be there as well.
    for path in kept:
        if path.suffix == ".gz":
            yield from _split_lines(_unpack_file(path))
        elif archive_file_path(path) not in kept:
            with path.open("rb") as file:
                yield from _split_lines(iter(lambda: file.read(CHUNK_BYTES), b""))


def _unpack_file(path: Path) -> Iterator[bytes]:
    """Yield the content of a compressed file. Raises OSError."""
    unpacker = isal_zlib.decompressobj(wbits=GZIP)
    with path.open("rb") as file:
        try:
            while packed := file.read(CHUNK_BYTES):
                yield unpacker.decompress(packed)
        except isal_zlib.error as error:  # type: ignore[misc]  # its stub says that it is an instance
            raise OSError(errno.EIO, f"the archive is damaged ({error})", str(path)) from error
    if not unpacker.eof:
        raise OSError(errno.EIO, "the archive is cut off", str(path))


def _split_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def remove_result_leftovers(folder: Path) -> None:
    """Remove what a killed process left: unfinished files, and plain files of which there is a compressed one."""
    results = folder / "results"
    for path in (*results.glob("*.part"), *results.glob("*.jsonl")):
        if path.suffix == ".part" or archive_file_path(path).exists():
            path.unlink(missing_ok=True)
