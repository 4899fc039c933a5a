"""Counting tokens, exactly and offline.

gpt-4o, gpt-4.1, the o-series and gpt-5 use o200k_base. What later models use is not published; o200k_base is
taken for them too, and the ratio learned from `Batch.usage` corrects it. Models for embeddings use cl100k_base.
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
"""The usual encoding, by the tokenizer's name."""
PIPE_BYTES = 1 << 20
"""Bytes of the pipe to the counting process: a third of a chunk of texts. Whenever the pipe is full, its writer needs
the interpreter's lock again to go on; with the usual 64 KB that makes counting the slowest part of a plan. Linux allows
every user this size."""


def count_tokens(texts: Sequence[str], encoding: str = ENCODING) -> list[int]:
    """Return the tokens of each text. One call for many texts is faster than a call for each."""
    import toktok  # noqa: PLC0415 - whoever has it counted elsewhere need not load it

    counts: list[int] = toktok.batch_count(texts, encoding)
    return counts


def count_fewest_tokens(text: str) -> int:
    """Return a number that the tokens of a text are not below: no token holds the beginnings of two of its words."""
    return sum(word[0].isalnum() for word in text.split())


class TokenCounter:
    """Counts in a child process, which loads the tokenizer's ranks (0.4 s, 60 MB) while this one reads the table.

    A thread would not do: the tokenizer holds the interpreter's lock while it loads. The child stores nothing, and ends
    when this process does, however that ends: it reads the end of its input then. Used as a context.
    """

    def __init__(self) -> None:
        """Start the child. Raises BatcherError where no process can be started."""
        # The child imports from the same folders as this process, and from no others (-P). It is in a process group of
        # its own, so that Ctrl-C reaches this process alone.
        path = [place for place in sys.path if isinstance(place, str)]
        program = f"import sys; sys.path[:] = {path!r}; from {__name__} import serve_counts; serve_counts()"
        command = [sys.executable or "python3", "-P", "-c", program]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the program is this interpreter, and no text of it is a user's
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
            )
        except OSError as error:
            raise BatcherError(
                f"no process can be started that counts tokens ({command[0]}: {error.strerror}); "
                "let this user have more processes or memory, and run the same command again"
            ) from error
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the process that counts tokens was started without pipes")
        self._texts, self._counts = self._process.stdin, self._process.stdout
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # a smaller pipe is only slower
                fcntl.fcntl(self._texts, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> "TokenCounter":
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End the child; counts that are not done yet are discarded."""
        self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        self._process.communicate()

    def count(self, texts: Sequence[str], encoding: str = ENCODING) -> "Future[list[int]]":
        """Return the tokens of each text, once they are counted. Calls are served one at a time, in their order.

        The future's result raises BatcherError where the child has ended.
        """
        return self._thread.submit(self._request_counts, texts, encoding)

    def _request_counts(self, texts: Sequence[str], encoding: str) -> list[int]:
        try:
            self._texts.write(orjson.dumps([encoding, texts], option=orjson.OPT_APPEND_NEWLINE))
            self._texts.flush()
            answer = self._counts.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            code = self._process.wait()
            if code < 0:
                raise BatcherError(
                    f"the process that counts tokens was killed (signal {-code}); run the same command again"
                )
            raise BatcherError(
                f"the process that counts tokens ended with exit status {code}; fix what it complains of, "
                "and run the same command again"
            )
        counts: list[int] = orjson.loads(answer)
        return counts


def serve_counts() -> None:
    """Read JSON lists of an encoding and its texts from stdin, one a line, and write a list of their token counts for
    each; end at EOF.

    This is all that the child process does.
    """
    signal(SIGPIPE, SIG_DFL)  # the parent may end before its answer is written; that is no error
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(answer_line(line))
        sys.stdout.buffer.flush()


def answer_line(line: bytes) -> bytes:
    """Return the counts of one line that `serve_counts` reads, as the line that it writes."""
    encoding, texts = orjson.loads(line)
    return orjson.dumps(count_tokens(texts, encoding), option=orjson.OPT_APPEND_NEWLINE)
