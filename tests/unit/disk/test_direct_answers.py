"""The answers of the direct lane on the disk: private, one object a line, a torn last line mended; archives read."""

import stat
from pathlib import Path

import orjson
import pytest

from batcher.disk.direct_answers import CallAnswer, append_direct_answers, direct_answers_path, read_direct_answers
from batcher.disk.result_archive import archive_file_path, archive_result_file, read_kept_lines, result_file_path


def answer(call: int, body: bytes = b'{\n "x": 1}', run: str = "r") -> CallAnswer:
    return CallAnswer(run, call, f"c{call}", 1, body)


def test_answers_are_appended_one_object_a_line_and_private(tmp_path: Path) -> None:
    append_direct_answers(tmp_path, [answer(1), answer(2, "é".encode())])
    append_direct_answers(tmp_path, [answer(3)])
    path = direct_answers_path(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    lines = path.read_bytes().splitlines()
    assert [orjson.loads(line)["call"] for line in lines] == [1, 2, 3]
    assert list(read_direct_answers(tmp_path, "r")) == [answer(1), answer(2, "é".encode()), answer(3)]


def test_answers_of_another_state_in_the_folder_are_passed_over(tmp_path: Path) -> None:
    append_direct_answers(tmp_path, [answer(1, run="before"), answer(1)])
    assert list(read_direct_answers(tmp_path, "r")) == [answer(1)]


@pytest.mark.parametrize("length", [1, 10, 70_000])
def test_a_torn_last_line_is_removed_before_the_next(tmp_path: Path, length: int) -> None:
    append_direct_answers(tmp_path, [answer(1)])
    path = direct_answers_path(tmp_path)
    whole = path.read_bytes()
    append_direct_answers(tmp_path, [answer(2, b"x" * 80_000)])
    path.write_bytes(path.read_bytes()[: len(whole) + length])
    assert list(read_direct_answers(tmp_path, "r")) == [answer(1)]
    append_direct_answers(tmp_path, [answer(3)])
    assert list(read_direct_answers(tmp_path, "r")) == [answer(1), answer(3)]
    assert path.read_bytes().count(b"\n") == 2


def test_a_last_line_that_lacks_its_end_alone_is_kept(tmp_path: Path) -> None:
    append_direct_answers(tmp_path, [answer(1)])
    path = direct_answers_path(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    append_direct_answers(tmp_path, [answer(2)])
    assert list(read_direct_answers(tmp_path, "r")) == [answer(1), answer(2)]


@pytest.mark.parametrize("torn", [b"\xff\xfe", b"[]\n", b'{"call": 1}\n', b'{"run": "r", "body": 5}\n'])
def test_what_is_no_answer_is_passed_over(tmp_path: Path, torn: bytes) -> None:
    append_direct_answers(tmp_path, [answer(1)])
    with direct_answers_path(tmp_path).open("ab") as file:
        file.write(torn)
    assert list(read_direct_answers(tmp_path, "r")) == [answer(1)]


def write_result(folder: Path, kind: str, data: bytes, archived: bool = True) -> Path:
    path = result_file_path(folder, "batch_1", kind)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    if archived:
        archive_result_file(path)
        path.unlink()
    return archive_file_path(path) if archived else path


def test_the_lines_of_both_files_are_read_the_output_first(tmp_path: Path) -> None:
    write_result(tmp_path, "error", b"e1\ne2")
    write_result(tmp_path, "output", b"o1\no2\n")
    assert list(read_kept_lines(tmp_path, "batch_1")) == [b"o1", b"o2", b"e1", b"e2"]


def test_a_long_file_is_read_in_pieces(tmp_path: Path) -> None:
    lines = [b"%d " % n + b"x" * 50_000 for n in range(100)]
    write_result(tmp_path, "output", b"\n".join(lines))
    assert list(read_kept_lines(tmp_path, "batch_1")) == lines


def test_a_plain_file_counts_until_it_is_archived(tmp_path: Path) -> None:
    write_result(tmp_path, "output", b"plain\n", archived=False)
    assert list(read_kept_lines(tmp_path, "batch_1")) == [b"plain"]
    archive_result_file(result_file_path(tmp_path, "batch_1", "output"))
    assert list(read_kept_lines(tmp_path, "batch_1")) == [b"plain"]


def test_a_file_that_is_gone_or_damaged_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_kept_lines(tmp_path, "batch_1"))
    path = write_result(tmp_path, "output", b"o1\no2\n" * 1000)
    packed = path.read_bytes()
    path.write_bytes(packed[:-20])
    with pytest.raises(OSError, match="cut off"):
        list(read_kept_lines(tmp_path, "batch_1"))
    path.write_bytes(b"no archive" * 10)
    with pytest.raises(OSError, match="damaged"):
        list(read_kept_lines(tmp_path, "batch_1"))
