"""The log: several writers at once and its rotation, read whole and followed, and a disk that takes nothing."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from batcher.disk.log_files import FILES, LogReader, append_line

WRITER = """
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from batcher.disk.log_files import append_line
path, name, lines, most = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for number in range(lines):
    append_line(path, f"{name} {number} {'x' * (number % 97)} end\\n".encode(), most)
"""


def write_at_once(path: Path, writers: int, lines: int, most: int) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"writer{n}", str(lines), str(most)])
        for n in range(writers)
    ]
    assert [process.wait() for process in processes] == [0] * writers


def lines_of(path: Path) -> list[str]:
    reader = LogReader(path)
    try:
        return list(reader.read_new_lines())
    finally:
        reader.close()


def test_writers_at_once_lose_and_mix_no_line_over_rotations(tmp_path: Path) -> None:
    path = tmp_path / "batcher.log"
    write_at_once(path, writers=3, lines=1_000, most=60_000)  # 3,000 lines, 190 kB: rotated three times
    assert (tmp_path / "batcher.log.1").exists()
    found = lines_of(path)
    expected = {f"writer{n} {number} {'x' * (number % 97)} end" for n in range(3) for number in range(1_000)}
    assert len(found) == 3_000
    assert set(found) == expected


def test_an_empty_line_between_two_is_no_line(tmp_path: Path) -> None:
    """Two writers at once may leave one: the second sees the first one's line half written, and ends it."""
    path = tmp_path / "batcher.log"
    append_line(path, b"one\n")
    with path.open("ab") as file:
        file.write(b"\n")
    append_line(path, b"two\n")
    assert lines_of(path) == ["one", "two"]


def test_there_are_five_files_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "batcher.log"
    before = os.umask(0)
    try:
        for number in range(100):
            append_line(path, f"line {number}\n".encode(), most_bytes=30)
    finally:
        os.umask(before)
    names = [path.name, *(f"{path.name}.{number}" for number in range(1, FILES))]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    assert lines_of(path) == [f"line {number}" for number in range(82, 100)]


def test_a_rotation_that_was_killed_half_way_costs_no_file(tmp_path: Path) -> None:
    path = tmp_path / "batcher.log"
    for name in ("batcher.log", "batcher.log.1", "batcher.log.3", "batcher.log.4"):
        (tmp_path / name).write_text(f"{name}\n" * 3)
    append_line(path, b"more\n", most_bytes=30)
    assert lines_of(path) == [
        *["batcher.log.4"] * 3, *["batcher.log.3"] * 3, *["batcher.log.1"] * 3, *["batcher.log"] * 3, "more",
    ]  # fmt: skip


def test_no_line_waits_for_a_process_that_rotates(tmp_path: Path) -> None:
    path = tmp_path / "batcher.log"
    holder = (
        "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX); print('held', flush=True); "
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        for _ in range(3):
            append_line(path, b"a line\n", most_bytes=10)
        assert lines_of(path) == ["a line"] * 3
        process.communicate()


@pytest.fixture
def closing_later() -> Iterator[Callable[[LogReader], LogReader]]:
    """Return a function that has a reader closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda reader: stack.enter_context(closing(reader))


def test_a_reader_goes_on_over_rotations(tmp_path: Path, closing_later: Callable[[LogReader], LogReader]) -> None:
    path = tmp_path / "batcher.log"
    reader = closing_later(LogReader(path))
    assert list(reader.read_new_lines()) == []
    seen: list[str] = []
    for number in range(40):
        append_line(path, f"line {number}\n".encode(), most_bytes=50)
        if number % 7 == 0:
            seen += reader.read_new_lines()
    with path.open("ab") as file:
        file.write(b"half a li")
    assert [*seen, *reader.read_new_lines()] == [f"line {number}" for number in range(40)]
    append_line(path, b"after it\n")
    assert list(reader.read_new_lines()) == ["half a li", "after it"]


def test_what_was_missed_while_all_files_went_is_left_out(
    tmp_path: Path, closing_later: Callable[[LogReader], LogReader]
) -> None:
    path = tmp_path / "batcher.log"
    reader = closing_later(LogReader(path))
    append_line(path, b"first\n")
    assert list(reader.read_new_lines()) == ["first"]
    append_line(path, b"the rest of a file that is removed\n", most_bytes=20)
    for number in range(30):
        append_line(path, f"line {number}\n".encode(), most_bytes=20)
    assert list(reader.read_new_lines()) == ["the rest of a file that is removed", *lines_of(path)]


def test_a_log_that_is_removed_does_not_bring_back_what_was_read(
    tmp_path: Path, closing_later: Callable[[LogReader], LogReader]
) -> None:
    path = tmp_path / "batcher.log"
    reader = closing_later(LogReader(path))
    append_line(path, b"first\n", most_bytes=5)
    append_line(path, b"second\n", most_bytes=5)
    for age, name in enumerate(("batcher.log.1", "batcher.log.2")):
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    append_line(path, b"third\n")
    assert list(reader.read_new_lines()) == ["first", "second", "third"]
    path.unlink()
    assert list(reader.read_new_lines()) == []
    append_line(path, b"fourth\n")
    assert list(reader.read_new_lines()) == ["fourth"]


def test_a_log_that_is_emptied_is_read_from_its_start(
    tmp_path: Path, closing_later: Callable[[LogReader], LogReader]
) -> None:
    path = tmp_path / "batcher.log"
    reader = closing_later(LogReader(path))
    append_line(path, b"a long line that goes\n")
    assert list(reader.read_new_lines()) == ["a long line that goes"]
    os.truncate(path, 0)
    append_line(path, b"short\n")
    assert list(reader.read_new_lines()) == ["short"]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space left"):
        append_line(Path("/dev/full"), b"a line\n")
    write = os.write
    monkeypatch.setattr("batcher.disk.log_files.os.write", lambda descriptor, data: write(descriptor, data[:3]))
    with pytest.raises(OSError) as raised:
        append_line(tmp_path / "batcher.log", b"a line\n")
    assert raised.value.errno == errno.ENOSPC


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "batcher.log").symlink_to(tmp_path / "other")
    with pytest.raises(OSError):
        append_line(tmp_path / "batcher.log", b"a line\n")
    assert not (tmp_path / "other").exists()
