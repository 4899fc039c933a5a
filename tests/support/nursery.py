"""Real processes that start at once: a nursery has imported everything, and forks one for each command.

A fork saves the second that imports take, in each of hundreds of processes. The process that counts tokens for a
command is forked too, before the command, and has its tokenizer loaded. That the commands also work in a process that
has imported nothing, and starts the counting process itself, is tested in tests/processes/test_end_to_end.py.
"""

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import toktok

import batcher.cli
import batcher.commands
from batcher.catalog import tokens
from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import ENCODING, answer_line
from tests.support.shared_clock import install_shared_clock
from tests.support.world import ROOT

PREPARED = (
    "httpx2", "duckdb", "genai_prices", "rich.progress", "rich.live", "rich.table", "rich._emoji_codes",
    "encodings.idna", "encodings.utf_8_sig", "importlib.readers", "batcher.cli.app",
    "batcher.contracts.registry",
)  # fmt: skip


class Nursery:
    """A process that forks others."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], out: Path, err: Path) -> int:
        """Run `batcher` with these arguments to its end; return the exit code, or minus the signal that killed it."""
        return self.wait(self.start(arguments, cwd, env, out, err))

    def start(self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], out: Path, err: Path) -> int:
        """Start `batcher` with these arguments, and return its process id.

        out, err: files to which its output is appended; they may be the same.
        """
        wish = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "out": str(out), "err": str(err)}
        return self._ask(wish)

    def wait(self, pid: int) -> int:
        """Wait for the end of a process; return its exit code, or minus the signal that killed it."""
        return self._ask({"wait": pid})

    def has_ended(self, pid: int) -> bool:
        """Return whether a process has ended; `wait` must still be called for it."""
        return bool(self._ask({"has_ended": pid}))

    def _ask(self, wish: Mapping[str, object]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the nursery."""
        self._process.communicate()


@cache
def nursery() -> Nursery:
    """Return the nursery of this process."""
    made = Nursery()
    atexit.register(made.close)
    return made


def main() -> None:
    """Fork, wait or poll, as each line on stdin says, and answer with a number."""
    commands = [
        module.name
        for package in (batcher.cli, batcher.commands)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    for name in (*PREPARED, *commands):
        importlib.import_module(name)
    toktok._encoding(ENCODING)
    resolve_prices("gpt-6-luna")
    with openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9/v1") as client:
        assert client.files and client.batches  # their types are imported at their first use
    assert threading.active_count() == len(list(Path("/proc/self/task").iterdir())) == 1, (
        "a thread does not survive a fork"
    )
    gc.freeze()  # a garbage collection in a child would write to the pages of all this, and so copy them
    for line in sys.stdin:
        sys.stdout.write(f"{_answer(json.loads(line))}\n")
        sys.stdout.flush()


def _answer(wish: Mapping[str, Any]) -> int:
    if "wait" in wish:
        _, status = os.waitpid(wish["wait"], 0)
        return os.waitstatus_to_exitcode(status)
    if "has_ended" in wish:
        ended = os.waitid(os.P_PID, wish["has_ended"], os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return int(ended is not None)
    while COUNTERS and os.waitpid(COUNTERS[0].pid, os.WNOHANG)[0]:  # they end with their commands
        COUNTERS.popleft()
    counter = ForkedCounter()
    COUNTERS.append(counter)
    child = os.fork()
    if child == 0:
        _become(wish, counter)
    counter.stdin.close()
    counter.stdout.close()
    return child


class ForkedCounter:
    """A process that counts tokens, with what `TokenCounter` uses of one that it has started."""

    def __init__(self) -> None:
        texts, self_texts = os.pipe()
        self_counts, counts = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(texts, 0)
            os.dup2(counts, 1)
            os.closerange(3, counts + 1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other one is in a process group of its own
            for line in io.BufferedReader(io.FileIO(0)):
                os.write(1, answer_line(line))
            os._exit(0)
        os.close(texts)
        os.close(counts)
        self.stdin = io.BufferedWriter(io.FileIO(self_texts, "wb"))
        self.stdout = io.BufferedReader(io.FileIO(self_counts))

    def kill(self) -> None:
        """Kill it."""
        os.kill(self.pid, signal.SIGKILL)

    def communicate(self) -> None:
        """Close its pipes; the nursery waits for its end."""
        self.stdin.close()
        self.stdout.close()


COUNTERS: deque[ForkedCounter] = deque()
"""Those that are not known to have ended, the oldest first."""


def _become(wish: Mapping[str, Any], counter: ForkedCounter) -> None:
    """Run the command in the forked process, as if it had been started with these arguments.

    counter: what the first `TokenCounter` of the command has started; others start one by themselves.
    """
    os.chdir(str(wish["cwd"]))
    os.environ.clear()
    os.environ.update(wish["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(str(wish[name]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    sys.argv = ["batcher", *wish["arguments"]]
    importlib.reload(importlib.import_module("batcher.crashpoints"))  # it reads the environment at its import
    install_shared_clock()
    start, ready = subprocess.Popen, [counter]
    vars(tokens)["subprocess"] = SimpleNamespace(
        Popen=lambda *words, **options: ready.pop() if ready else start(*words, **options), PIPE=subprocess.PIPE
    )
    code = 1
    try:
        importlib.import_module("batcher.cli.app").main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - what Python does with an error that nobody catches
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
