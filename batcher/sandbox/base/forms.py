"""Reads a multipart form: its fields into memory, its one file straight to disk, a megabyte at a time."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from batcher.sandbox.base.errors import ApiError

_CHUNK = 1 << 20
_MAX_FIELD = 1 << 16  # bytes of one field that isn't a file


@dataclass
class Form:
    """The fields by name; `filename` is None when no file was sent."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size: int = 0


class _FormCollector:
    """Receives the parser's events; the part named `file` goes to `target`."""

    def __init__(self, target: BinaryIO) -> None:
        self.form = Form()
        self._target = target
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._name = ""
        self._data = bytearray()

    def on_part_begin(self) -> None:
        self._disposition, self._name = b"", ""
        self._data.clear()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == "file":
            self.form.filename = options.get(b"filename", b"upload").decode("utf-8", "replace") or "upload"

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            self.form.size += self._target.write(memoryview(data)[start:end])
        elif len(self._data) + end - start <= _MAX_FIELD:
            self._data += data[start:end]

    def on_part_end(self) -> None:
        if self._name != "file":
            self.form.fields[self._name] = self._data.decode("utf-8", "replace")

    def create_multipart_parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self.on_part_begin,
                "on_part_data": self.on_part_data,
                "on_part_end": self.on_part_end,
                "on_header_field": self.on_header_field,
                "on_header_value": self.on_header_value,
                "on_header_end": self.on_header_end,
                "on_headers_finished": self.on_headers_finished,
            },
        )


def _read_chunks(body: bytes | Path) -> Iterator[bytes]:
    with body.open("rb") if isinstance(body, Path) else io.BytesIO(body) as source:
        while chunk := source.read(_CHUNK):
            yield chunk


def parse_multipart_form(body: bytes | Path, content_type: str, target: Path) -> Form:
    """Parse the form; its part named `file` is written to `target` (which is there, maybe empty, afterwards)."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ApiError(400, "The request must be multipart/form-data with a boundary.")
    with target.open("wb") as file:
        collector = _FormCollector(file)
        try:
            parser = collector.create_multipart_parser(boundary)
            for chunk in _read_chunks(body):
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            raise ApiError(400, "Could not parse multipart form.") from error
    return collector.form
