"""Copies, files and logs that cannot be used: each is told in a sentence, and nothing is lost."""

import errno

import pytest

from batcher.errors import StateError
from batcher.state.db.store import Store
from tests.support.checkpoint_kit import PAGE, ROWS, copy_of, count_facts, fill, log_of, put_copy

# --- a copy that cannot be used --------------------------------------------------------------------------------------

CONTENTS = [
    b"",
    b"\n",
    b"garbage",
    b"\x80\x81\n",
    b"[]\n",
    b"{}\n",
    b"7\n",
    b"null\n",
    b"[[0, 12288], 7]\n" + bytes(12_288),
    b"[[0, 12288]]\n" + bytes(12_287),
    b"[[0, 12288]]\n" + bytes(12_289),
    b"[[0, 4096], [12288, 262144]]\n" + bytes(4_096 + 262_144),
    b'[[0, 12288], [12288, "x"]]\n' + bytes(12_288),
    b"[[0, 12288], [12288, -1], [12288, 1]]\n" + bytes(12_288),
    b"[[0, 12288], [0.5, 1]]\n" + bytes(12_289),
    b"[[0, 12288], [-1, 1]]\n" + bytes(12_289),
    b'{"file": 10}\n' + bytes(10),
    b'{"file": 10, "log": 1}\n' + bytes(10),
    b'{"file": 11, "log": -1}\n' + bytes(10),
    b'{"file": true, "log": 0}\n' + bytes(1),
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", [*CONTENTS, None], ids=lambda content: repr(content)[:40])
def test_a_copy_that_cannot_be_read_is_told_and_moved_away(filled: Store, content: bytes | None) -> None:
    fill(filled, ROWS, 10)
    before = filled.path.read_bytes()
    for name in ("state.duckdb.before.unusable", "state.duckdb.before.unusable-2"):
        if content is None:
            copy_of(filled).mkdir()
        else:
            copy_of(filled).write_bytes(content)
        with pytest.raises(StateError) as raised:
            count_facts(filled)
        assert str(raised.value) == f"{copy_of(filled)} cannot be read; it is now {name}, run the same command again"
        assert filled.path.read_bytes() == before
        assert count_facts(filled) == ROWS + 10
        moved = filled.folder / name
        assert moved.is_dir() if content is None else moved.read_bytes() == content


def test_a_copy_that_the_disk_does_not_let_us_put_back_is_told(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_copy(filled, filled.path.read_bytes())

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("batcher.state.db.checkpoint._put_back", refuse)
        with pytest.raises(StateError, match=r"cannot be repaired from state\.duckdb\.before: the disk is full"):
            count_facts(filled)
    assert count_facts(filled) == ROWS


# --- file and log ----------------------------------------------------------------------------------------------------


def test_a_file_and_a_log_of_different_times_are_told_as_such(filled: Store) -> None:
    fill(filled, ROWS, 10)
    old = filled.path.read_bytes(), log_of(filled).read_bytes()
    fill(filled, 2 * ROWS)
    fill(filled, 3 * ROWS, 10)
    new = filled.path.read_bytes(), log_of(filled).read_bytes()
    for file, log in ((old[0], new[1]), (new[0], old[1])):
        filled.path.write_bytes(file)
        log_of(filled).write_bytes(log)
        with pytest.raises(StateError) as raised:
            count_facts(filled)
        assert str(raised.value) == (
            f"{filled.path} and its log beside it (.wal) are of different times, as after a copy of one without the "
            "other; put back the whole state folder as it was at one time"
        )


def test_a_log_that_was_damaged_is_told_as_such(filled: Store) -> None:
    fill(filled, ROWS, 10)
    log = bytearray(log_of(filled).read_bytes())
    log[100:200] = bytes(100)
    log_of(filled).write_bytes(log)
    with pytest.raises(
        StateError, match=r"state\.duckdb has a log beside it \(\.wal\) that was damaged, by a power cut"
    ):
        count_facts(filled)


def header_checksum(page: bytearray) -> int:
    """Return what DuckDB writes before each header: `Checksum` in its src/common/checksum.cpp."""
    result = 5381
    for at in range(8, len(page), 8):
        result ^= int.from_bytes(page[at : at + 8], "little") * 0xBF58476D1CE4E5B9 % (1 << 64)
    return result


def test_a_file_of_a_newer_storage_version_is_told_as_such(filled: Store) -> None:
    page = bytearray(filled.path.read_bytes()[:PAGE])
    assert header_checksum(page) == int.from_bytes(page[:8], "little")
    page[12:20] = (1000).to_bytes(8, "little")
    page[:8] = header_checksum(page).to_bytes(8, "little")
    with filled.path.open("r+b") as file:
        file.write(page)
    with pytest.raises(StateError) as raised:
        count_facts(filled)
    assert str(raised.value) == (
        f"{filled.path} was written by a newer DuckDB than this Batcher knows; upgrade Batcher"
    )
