"""Parses a multipart form: its fields into memory, its one file straight to disk, a megabyte at a time."""

import io
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart import create_form_parser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header

from batcher.sandbox.base.errors import ApiError

_CHUNK = 1 << 20


@dataclass
class Form:
    """The fields by name; `filename` is None when no file was sent."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size: int = 0

    def set_file(self, name: str, size: int) -> None:
        """Record the file that was sent, and its bytes."""
        self.filename, self.size = name, size


def parse_multipart_form(body: bytes | Path, content_type: str, target: Path) -> Form:
    """Parse the form; its part named `file` is written to `target`. Raise the 400 for anything but a form."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ApiError(400, "The request must be multipart/form-data with a boundary.")
    form = Form()

    def add_field(part: Field) -> None:
        form.fields[_decode(part.field_name)] = _decode(part.value)

    def save_file(part: File) -> None:
        if part.field_name == b"file":
            form.set_file(_decode(part.file_name) or "upload", part.size)
            part.file_object.seek(0)
            with target.open("wb") as file:
                shutil.copyfileobj(part.file_object, file, _CHUNK)
        part.close()

    # Not `parse_form` of the same package: it keeps a large file in the system's temporary folder, maybe in memory.
    headers = {"Content-Type": content_type.encode("latin-1")}
    parser = create_form_parser(headers, add_field, save_file, {"UPLOAD_DIR": str(target.parent)})
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
