"""The file of a report: checked before, written whole, and known again by its digest, as the files of `collect` are."""

import hashlib
from contextlib import ExitStack
from pathlib import Path

from batcher.collect.placing import check_place, explain_failed_write, move_into_place, temporary_path
from batcher.collect.replacing import check_report_is_ours, find_own_content, load_known_files, record_name
from batcher.errors import InputError
from batcher.state import bios
from batcher.state.bios import FileContent, FileRecord
from batcher.state.db.store import Store

ENDINGS = (".html", ".htm")


def check_report_target(store: Store, path: Path, overwrite: bool) -> None:
    """Raise InputError for a file that could not be written, or that exists and is not a report of this job.

    overwrite: any file may be replaced.
    """
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: the ending must be .html")
    check_place(path)
    if overwrite:
        return
    record = load_known_files(store).get(record_name(store.folder, path))
    check_report_is_ours(path, find_own_content(path, record))


def write_report_file(store: Store, path: Path, page: str, overwrite: bool) -> int:
    """Write a page to a file, and return its size in bytes. Raises InputError as `check_report_target`, or StateError.

    The intent is committed before the file is moved into place, so that it is known as ours whenever the process ends.
    """
    text = page.encode()
    content, name = FileContent(len(text), hashlib.sha256(text).hexdigest(), 0), record_name(store.folder, path)
    temporary = temporary_path(path)
    with ExitStack() as leftovers:
        with store.transaction("intend_report") as tx:
            own = find_own_content(path, bios.load_written_files(tx).get(name))
            if not overwrite:
                check_report_is_ours(path, own)
            leftovers.callback(temporary.unlink, missing_ok=True)
            try:
                temporary.write_bytes(text)
            except OSError as error:
                raise explain_failed_write(path, error) from error
            bios.record_written_files(tx, {name: FileRecord([*([own] if own else []), content], False)})
        move_into_place(temporary, path)
    with store.transaction("report") as tx:
        bios.record_written_files(tx, {name: FileRecord([content], True)})
    return len(text)
