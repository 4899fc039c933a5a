"""Parses a multipart form: its fields into memory, its one file straight to disk, a megabyte at a time."""

import io
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from python_multipart import create_form_parser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header

from batcher.sandbox.base.errors import ApiError

_CHUNK = 1 << 20
_MAX_FIELD = 1 << 16  # bytes of one field that isn't a file; a longer one counts as not sent


@dataclass
class Form:
    """The fields by name; `filename` is None when no file was sent."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size: int = 0

    def add_field(self, part: Field, target: Path) -> None:
        """Keep a part without a file name; one named `file` is the file all the same."""
        value = part.value or b""
        if part.field_name == b"file":
            self.filename, self.size = "upload", target.write_bytes(value)
        elif len(value) <= _MAX_FIELD:
            self.fields[_decode(part.field_name)] = _decode(value)

    def save_file(self, part: File, target: Path) -> None:
        """Write the part named `file` to `target`; another file is dropped."""
        if part.field_name == b"file":
            self.filename, self.size = _decode(part.file_name) or "upload", part.size
            part.file_object.seek(0)
            with target.open("wb") as file:
                shutil.copyfileobj(part.file_object, file, _CHUNK)
        part.close()


def parse_multipart_form(body: bytes | Path, content_type: str, target: Path) -> Form:
    """Parse the form; its part named `file` is written to `target`. Raise the 400 for anything but a form."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ApiError(400, "The request must be multipart/form-data with a boundary.")
    form = Form()
    # Not `parse_form` of the same package: it keeps a large file in the system's temporary folder, maybe in memory.
    headers = {"Content-Type": content_type.encode("latin-1")}
    parser = create_form_parser(
        headers,
        partial(form.add_field, target=target),
        partial(form.save_file, target=target),
        {"UPLOAD_DIR": str(target.parent)},
    )
    try:
        with body.open("rb") if isinstance(body, Path) else io.BytesIO(body) as source:
            while chunk := source.read(_CHUNK):
                parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise ApiError(400, "Could not parse multipart form.") from error
    return form


def _decode(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")
