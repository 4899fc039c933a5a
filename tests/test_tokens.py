"""The process that counts tokens: it counts as the tokenizer does, and outlives nobody."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batcher.errors import BatcherError
from batcher.planner import PlanOptions, plan
from batcher.tokens import TokenCounter, count_tokens
from tests.world import World, counter, write_table

OWNER = """
import sys
from batcher.tokens import TokenCounter
counter = TokenCounter()
print(counter.count(["one two"]).result(), flush=True)
sys.stdin.read()
"""


def test_what_is_asked_at_once_comes_in_order() -> None:
    texts = [[f"{n} words " * n, "Łódź\n\u2028 \\ \0"] for n in range(1, 40)]
    asked = [counter().count(some) for some in texts]
    assert [counts.result() for counts in asked] == [count_tokens(some) for some in texts]


def test_more_than_a_pipe_holds() -> None:
    texts = ["many words " * 100] * 10_000
    assert counter().count(texts).result() == count_tokens(texts)


def test_a_plan_whose_counting_process_was_killed_says_so_and_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    table = write_table(tmp_path / "t.csv", 5)
    with TokenCounter() as killed:
        killed._process.kill()
        killed._process.wait()
        with pytest.raises(BatcherError, match=r"counts tokens ended \(exit status -9\); run the same command again"):
            plan(world.config, world.job, world.store, PlanOptions(table), killed, lambda *_: None)
    assert not world.store.exists()
    world.plan(table)
    assert world.states() == {"ready": 5}


def test_it_ends_with_a_plan_that_fails() -> None:
    with pytest.raises(KeyError), TokenCounter() as counting:
        waiting = counting.count(["a text"])
        raise KeyError
    assert counting._process.returncode == -signal.SIGKILL
    assert waiting.done()


def test_it_ends_when_its_owner_is_killed() -> None:
    """Both have the pipe that is read here: it comes to its end when both have ended."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None and owner.stderr is not None
        assert owner.stdout.readline() == b"[2]\n"
        os.kill(owner.pid, signal.SIGKILL)
        assert owner.stderr.read() == b""
