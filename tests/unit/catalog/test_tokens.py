"""The process that counts tokens: it counts as the tokenizer does, and ends when its owner does."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from batcher.catalog.tokens import TokenCounter, count_tokens
from batcher.core.model import Endpoint
from batcher.errors import BatcherError
from batcher.plan import rows as plan_rows
from batcher.plan.options import PlanOptions
from batcher.plan.planner import plan_job
from tests.support.world import World, counter, write_table

OWNER = """
import sys
from batcher.catalog.tokens import TokenCounter
counter = TokenCounter()
print(counter.count(["one two"]).result(), flush=True)
sys.stdin.read()
"""


def test_what_is_asked_at_once_comes_in_order() -> None:
    texts = [[f"{n} words " * n, "Łódź\n\u2028 \\ \0"] for n in range(1, 40)]
    futures = [counter().count(some) for some in texts]
    assert [counts.result() for counts in futures] == [count_tokens(some) for some in texts]


def test_more_than_a_pipe_holds() -> None:
    texts = ["many words " * 100] * 10_000
    assert counter().count(texts).result() == count_tokens(texts)


def test_a_plan_whose_counting_process_was_killed_says_so_and_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    table = write_table(tmp_path / "t.csv", 5)
    with TokenCounter() as killed:
        killed._process.kill()
        killed._process.wait()
        with pytest.raises(BatcherError, match=r"counts tokens was killed \(signal 9\); run the same"):
            plan_job(world.config, world.job, world.store, PlanOptions(table), killed, lambda *_: None)
    assert not world.store.exists()
    world.plan(table)
    assert world.states() == {"ready": 5}


@pytest.mark.parametrize(("characters", "ahead"), [(10**9, 3), (1_500, 1)])
def test_how_far_the_table_is_read_ahead(
    characters: int, ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read `ahead` chunks before the first is returned. Here a chunk has ten rows of some 100 characters."""
    monkeypatch.setattr(plan_rows, "READ_ROWS", 10)
    monkeypatch.setattr(plan_rows, "AHEAD_CHUNKS", 3)
    monkeypatch.setattr(plan_rows, "AHEAD_CHARACTERS", characters)
    world = World(tmp_path)
    spied = mock.Mock(wraps=counter())
    version = world.job.build_version("gpt-6-luna", Endpoint.CHAT, 600)
    preparer = plan_rows.RowPreparer(world.config, world.job, version, spied)
    chunks = preparer.prepare_rows(write_table(tmp_path / "t.csv", 100), len, [])
    assert len(next(chunks)) == 10
    assert spied.count.call_count - 2 == ahead  # without the prompt, and the chunk that was taken
    assert sum(len(chunk) for chunk in chunks) == 90


@pytest.mark.parametrize(
    ("interpreter", "sentence"),
    [
        ("/bin/false", r"ended with exit status 1; fix what it complains of"),
        ("/no/python", r"/no/python: No such file"),
    ],
)
def test_where_none_can_work_it_is_said(interpreter: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", interpreter)
    with pytest.raises(BatcherError, match=sentence), TokenCounter() as counting:
        counting.count(["a text"]).result()


def test_it_ends_with_a_plan_that_fails() -> None:
    with pytest.raises(KeyError), TokenCounter() as counting:
        waiting = counting.count(["a text"])
        raise KeyError
    assert counting._process.returncode == -signal.SIGKILL
    assert waiting.done()


def test_it_ends_when_its_owner_is_killed() -> None:
    """Read the pipe that both processes hold open: it ends when both have ended."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None and owner.stderr is not None
        assert owner.stdout.readline() == b"[2]\n"
        os.kill(owner.pid, signal.SIGKILL)
        assert owner.stderr.read() == b""
