"""SIGKILL while the direct lane's answers are written: what was written whole is there, and what was torn is mended."""

import subprocess
import sys
from pathlib import Path

import pytest

from batcher.disk.direct_answers import CallAnswer, append_direct_answers, direct_answers_path, read_direct_answers
from tests.support.world import ROOT

WRITER = """
import sys
from pathlib import Path
from batcher.disk.direct_answers import CallAnswer, append_direct_answers
for call in range(int(sys.argv[2]), 10_000):
    body = b"%d " % call + b"x" * 3_000_000
    append_direct_answers(Path(sys.argv[1]), [CallAnswer("r", call, f"c{call}", 1, body)])
    print(call, flush=True)
"""

pytestmark = pytest.mark.slow("starts and kills a process several times")


def write_until_killed(folder: Path, first: int, answers: int) -> int:
    """Append answers in another process, and kill it within the one after `answers`; return the last that it told."""
    command = [sys.executable, "-c", WRITER, str(folder), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(answers)]
        process.kill()  # where it is within the next one differs from time to time
        told += [int(line) for line in process.stdout.read().splitlines() if line]
    return told[-1]


def test_a_kill_at_any_moment_loses_no_answer_that_was_kept(tmp_path: Path) -> None:
    first = 1
    for round_ in range(8):
        last = write_until_killed(tmp_path, first, 1 + round_ % 3)
        kept = [answer.call for answer in read_direct_answers(tmp_path, "r")]
        assert kept[:last] == list(range(1, last + 1)) and len(kept) <= last + 1
        first = len(kept) + 1
    append_direct_answers(tmp_path, [CallAnswer("r", first, "last", 1, b"{}")])
    content = direct_answers_path(tmp_path).read_bytes()
    assert content.count(b"\n") == len(content.splitlines()) == first
    bodies = [answer.body.partition(b" ")[0] for answer in read_direct_answers(tmp_path, "r")]
    assert bodies[:-1] == [b"%d" % call for call in range(1, first)]
