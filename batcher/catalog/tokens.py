"""Counting tokens, exactly and offline.

gpt-4o, gpt-4.1, the o-series and gpt-5 use o200k_base. What later models use is not published; o200k_base is
taken for them too, and the ratio learned from `Batch.usage` corrects it.
"""

import fcntl
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from signal import SIG_DFL, SIGPIPE, signal

import orjson

from batcher.errors import BatcherError

ENCODING = "o200k_base"
PIPE_BYTES = 1 << 20
"""A third of a chunk of texts. Each time that a pipe is full its writer must get the interpreter's lock again: with
the usual 64 KB the process that counts is the slowest part of a plan. Linux lets anybody have as much."""

SERVE = "from batcher.catalog.tokens import serve; serve()"


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Tokens of each text. One call for many texts: a call has a cost of its own."""
    import toktok  # noqa: PLC0415 - whoever has it counted elsewhere need not load it

    counts: list[int] = toktok.batch_count(texts, ENCODING)
    return counts


class TokenCounter:
    """Counts in a process beside this one, which loads the ranks (0.4 s, 60 MB) while the table is read.

    Not in a thread: the tokenizer holds the interpreter's lock while it loads. The process keeps nothing, and ends
    when this one does, however it ends. Used as a context.
    """

    def __init__(self) -> None:
        """Starts it. Raises BatcherError where no process can be made."""
        # It finds the modules that this process finds, and no others (-P). Ctrl-C is for this process alone.
        path = [place for place in sys.path if isinstance(place, str)]
        command = [sys.executable or "python3", "-P", "-c", f"import sys; sys.path[:] = {path!r}; {SERVE}"]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, and our own words
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
            )
        except OSError as error:
            raise BatcherError(
                f"no process can be started that counts tokens ({command[0]}: {error.strerror}); "
                "let this user have more processes or memory, and run the same command again"
            ) from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._texts, self._counts = self._process.stdin, self._process.stdout
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # it was only to be faster
                fcntl.fcntl(self._texts, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> "TokenCounter":
        """Itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Ends the process; what it still counts is of no use to anybody."""
        self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        self._process.communicate()

    def count(self, texts: Sequence[str]) -> "Future[list[int]]":
        """The tokens of each text, once they are counted: in the order of the calls, one at a time.

        The result raises BatcherError where the process has ended.
        """
        return self._thread.submit(self._request_counts, texts)

    def _request_counts(self, texts: Sequence[str]) -> list[int]:
        try:
            self._texts.write(orjson.dumps(texts, option=orjson.OPT_APPEND_NEWLINE))
            self._texts.flush()
            answer = self._counts.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise BatcherError(f"the process that counts tokens {_describe_exit(self._process.wait())}")
        counts: list[int] = orjson.loads(answer)
        return counts


def _describe_exit(code: int) -> str:
    if code < 0:
        return f"was killed (signal {-code}); run the same command again"
    return f"ended with exit status {code}; mend what it complains of, and run the same command again"


def serve() -> None:
    """Answers a line of texts with a line of their counts, until nobody asks."""
    signal(SIGPIPE, SIG_DFL)  # nobody waits for the answer any more: that is no error
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(orjson.dumps(count_tokens(orjson.loads(line)), option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
