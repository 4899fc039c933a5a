"""Multipart forms as clients may write them: what counts as the file, and what is left out."""

from pathlib import Path

import pytest

from batcher.sandbox.base.errors import ApiError
from batcher.sandbox.base.forms import parse_multipart_form

TYPE = "multipart/form-data; boundary=x"


def form_of(*parts: tuple[str, bytes]) -> bytes:
    """Return the body of a form with these parts: each the rest of its disposition, and its content."""
    return b"".join(
        b'--x\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n' % (head.encode(), content) for head, content in parts
    ) + b"--x--\r\n"  # fmt: skip


def test_the_file_and_the_fields_are_read(tmp_path: Path) -> None:
    body = form_of(('name="purpose"', b"batch"), ('name="file"; filename="in.jsonl"', b"{}\n"))
    form = parse_multipart_form(body, TYPE, tmp_path / "file")
    assert (form.fields, form.filename, form.size) == ({"purpose": "batch"}, "in.jsonl", 3)
    assert (tmp_path / "file").read_bytes() == b"{}\n"


def test_a_file_without_a_name_is_the_file_all_the_same(tmp_path: Path) -> None:
    form = parse_multipart_form(form_of(('name="file"', b"{}\n")), TYPE, tmp_path / "file")
    assert (form.fields, form.filename, form.size) == ({}, "upload", 3)
    assert (tmp_path / "file").read_bytes() == b"{}\n"


def test_a_field_that_is_too_long_counts_as_not_sent(tmp_path: Path) -> None:
    body = form_of(('name="purpose"', b"x" * 65_537), ('name="user"', b"x" * 65_536))
    assert list(parse_multipart_form(body, TYPE, tmp_path / "file").fields) == ["user"]


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", ""])
def test_anything_but_a_form_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ApiError, match="multipart/form-data with a boundary"):
        parse_multipart_form(b"{}", kind, tmp_path / "file")
