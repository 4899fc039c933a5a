"""What `collect` and `report` may replace: files that it has written, as they were written.

A file is known by the digest of its content, which the state records: neither its name nor its time can tell a file
that the user has made or changed from one of Batcher's.
"""

import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from batcher.disk.shard_files import file_sha256
from batcher.errors import InputError, StateError
from batcher.nouns import current_nouns
from batcher.state.bios import FileContent, FileRecord, load_written_files
from batcher.state.db.store import Store

REMEDY = "name another file, or replace it with --overwrite"


def record_name(state_folder: Path, path: Path) -> str:
    """Return the name by which the state knows a file: a job that is moved as a whole still knows its files."""
    root, full = state_folder.resolve().parent, path.parent.resolve() / path.name
    name = (full.relative_to(root) if full.is_relative_to(root) else full).as_posix()
    return name.encode("utf-8", "backslashreplace").decode()  # the name of a file may be no text


def load_known_files(store: Store) -> Mapping[str, FileRecord]:
    """Return the files that were written, by name; none where there is no plan."""
    if store.exists():
        with suppress(StateError), store.read_transaction() as tx:  # there may be no plan
            return load_written_files(tx)
    return {}


def check_target_is_ours(
    path: Path, record: FileRecord | None, own: FileContent | None, is_failed: bool, only_new: bool = False
) -> None:
    """Raise InputError for a file that exists and is not as `collect` wrote it, or holds what would then be in no file.

    own: what `find_own_content` returns for it. is_failed: whether artists without a bio are to be written, rather than
    bios. only_new: whether it is to hold new bios alone; then nothing is replaced but the newest content of a collect
    of which it is not known whether it came to its end.
    """
    if _is_free(path):
        return
    if own is None:
        raise InputError(f"{path} exists, and is not as this job's `collect` wrote it; {REMEDY}")
    if own.rows and own.is_failed != is_failed:
        raise InputError(f"{path} holds {describe_content(own.is_failed)}, not {describe_content(is_failed)}; {REMEDY}")
    if only_new and record is not None and (record.is_in_place or own != record.contents[-1]):
        answers = current_nouns().answers
        raise InputError(f"{path} exists, and --only-new would replace the {answers} in it; {REMEDY}")


def check_report_is_ours(path: Path, own: FileContent | None) -> None:
    """Raise InputError for a file that exists and is not as `report` wrote it. own: what `find_own_content` returns."""
    if own is None and not _is_free(path):
        raise InputError(f"{path} exists, and is not as this job's `report` wrote it; {REMEDY}")


def describe_content(is_failed: bool) -> str:
    """Return what a file of `collect` holds."""
    nouns = current_nouns()
    return f"{nouns.rows} without {nouns.an_answer}" if is_failed else nouns.answers


def check_rows(path: Path, before: FileContent | None, content: FileContent) -> None:
    """Raise InputError where fewer bios would replace more."""
    if before is not None and before.rows > content.rows:
        held = f"{before.rows:,} {current_nouns().answers}"
        raise InputError(f"{path} holds {held}, and {content.rows:,} would be written; {REMEDY}")


def find_own_content(path: Path, record: FileRecord | None) -> FileContent | None:
    """Return what the file holds of the contents that were written to it; None where it holds something else."""
    if record is None or not path.is_file():
        return None
    size = path.stat().st_size
    if all(content.size != size for content in record.contents):  # then its bytes need not be read
        return None
    digest = file_sha256(path)
    return next((content for content in record.contents if content.sha256 == digest), None)


def _is_free(path: Path) -> bool:
    """Return whether nothing would be lost: there is no file, or an empty one."""
    try:
        found = path.stat()
    except OSError:
        return not path.is_symlink()  # a link that leads nowhere is the user's
    return stat.S_ISREG(found.st_mode) and found.st_size == 0
