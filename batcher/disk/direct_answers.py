"""The answers of the direct lane as they came, in one file of the state folder: they were paid for.

The file is JSONL; each line is an object with the run (the state that the call is of), the call, the custom_id, the
version of the job, and the body as text. Answers are appended before they are recorded, and synced once for all that
are recorded together. So what a crash leaves is an answer that is kept and not recorded, or a last line that is torn.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from batcher.disk.durable import sync_path
from batcher.disk.private_files import make_private_folder, open_restricted

TAIL_BYTES = 1 << 16
"""Bytes that are read at a time, from the end, to find where a torn last line begins."""


class CallAnswer(NamedTuple):
    """One answer of the direct lane."""

    run: str
    """The id of the run that has made the call: another state in the same folder counts its calls from 1 again."""
    call: int
    custom_id: str
    version: int
    body: bytes
    """As it came, after the masking of the key."""


def direct_answers_path(folder: Path) -> Path:
    """Return the path of the file in a state folder."""
    return folder / "results" / "direct.jsonl"


def append_direct_answers(folder: Path, answers: Sequence[CallAnswer]) -> None:
    """Append answers; on return they survive a power cut. A torn last line is repaired first. Raises OSError."""
    path = direct_answers_path(folder)
    make_private_folder(path.parent)
    is_new = not path.exists()
    data = b"".join(_encode_answer(answer) for answer in answers)
    with open(path, "a+b", opener=open_restricted) as file:
        _mend_last_line(file.fileno())
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_path(path.parent)


def _encode_answer(answer: CallAnswer) -> bytes:
    # As text: an object would be written otherwise than it came, and a body may be none.
    return orjson.dumps({**answer._asdict(), "body": answer.body.decode(errors="replace")}) + b"\n"


def _mend_last_line(descriptor: int) -> None:
    """End a last line that lacks nothing but its end; remove one that was torn."""
    end = os.fstat(descriptor).st_size
    tail, begin = b"", end
    while begin > 0 and b"\n" not in tail:
        begin = max(0, begin - TAIL_BYTES)
        tail = os.pread(descriptor, end - begin, begin)
    torn = tail.rpartition(b"\n")[2]
    if not torn:
        return
    if _parse_line(torn) is not None:
        os.write(descriptor, b"\n")
    else:
        os.ftruncate(descriptor, end - len(torn))


def read_direct_answers(folder: Path, run: str) -> Iterator[CallAnswer]:
    """Yield the answers of a run. What is no answer is passed over: a line that is torn, or is being written.

    Raises FileNotFoundError where none are kept, and OSError where the file cannot be read.
    """
    with direct_answers_path(folder).open("rb") as file:
        for line in file:
            answer = _parse_line(line)
            if answer is not None and answer.run == run:
                yield answer


def _parse_line(line: bytes) -> CallAnswer | None:
    try:
        data = orjson.loads(line)
        return CallAnswer(**{**data, "body": data["body"].encode()})
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return None
