"""Files on their way: what an upload reads, and what a download writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from batcher.disk.private_files import open_private_file
from batcher.service.masking import mask_bytes


class UploadFile:
    """A file that reports how many of its bytes have been read."""

    def __init__(self, file: BinaryIO, report_sent: Callable[[int], None]) -> None:
        self._file, self._report_sent = file, report_sent

    def read(self, size: int = -1) -> bytes:
        """Read as the file does, then report its position."""
        chunk = self._file.read(size)
        self._report_sent(self._file.tell())
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def with_paths(path: Path, prefix: str) -> Iterator[Path]:
    """Give a file of lines whose `url` begins with `prefix` in place of "/v1": the file itself where that is the same,
    else a copy beside it, which is removed."""
    if prefix == "/v1":
        yield path
        return
    copy = path.with_name(path.name + ".sent")
    try:
        with path.open("rb") as lines, open_private_file(copy) as file:
            for line in lines:  # the first that matches is the line's own: within a text the quotes are escaped
                file.write(line.replace(b'"url":"/v1/', f'"url":"{prefix}/'.encode(), 1))
        yield copy
    finally:
        copy.unlink(missing_ok=True)


class MaskedWriter:
    """Writes a body without the secrets, wherever its chunks are cut."""

    def __init__(self, write: Callable[[bytes], object], secrets: tuple[str, ...]) -> None:
        self._write, self._secrets = write, secrets
        self._kept = max((len(secret) for secret in secrets), default=1) - 1
        self._rest = b""
        self._length = 0

    def write(self, chunk: bytes) -> int:
        """Write what can be written; return the bytes so far. A secret may begin in what is held back."""
        self._length += len(chunk)
        data = mask_bytes(self._rest + chunk, self._secrets)
        cut = max(0, len(data) - self._kept)
        self._write(data[:cut])
        self._rest = data[cut:]
        return self._length

    def finish(self) -> None:
        """Write what was held back."""
        self._write(self._rest)
