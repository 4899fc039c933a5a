"""Lines that one command asks for again, in the temporary table `asked_again`, and the version that they get.

`wishes.retry_lines` and `redo.redo_lines` make the table: `n` (from 1, in input order), `seq`, `artist_id`, and the
line's `state`, `failure` and `version` before the command. It ends with the connection.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from batcher.state.db.transaction import Transaction
from batcher.state.plan import StoredRow
from batcher.state.versions import OpenVersionLines


class RenewedLine(NamedTuple):
    """What a line is with another version: counted tokens, bytes, and the hashes of its own part, with and without its
    custom_id."""

    artist_id: str
    tokens: int
    bytes: int
    line_hash: int
    request_hash: int | None


class PromptLines(NamedTuple):
    """Lines that are asked for again with one prompt."""

    prompt: int | None
    lines: int
    changed: int
    """Those that had another prompt before."""


def count_lines(tx: Transaction) -> int:
    """Return how many lines are asked for again."""
    return int(tx.fetch_one("count_asked_again")[0])


def load_rows(tx: Transaction, size: int) -> Iterator[Sequence[StoredRow]]:
    """Yield the rows of the lines that are asked for again as the state keeps them, `size` at a time."""
    for after in range(0, count_lines(tx), size):
        yield tx.fetch_all("asked_again_rows", after=after, most=size)


def create_renewed(tx: Transaction) -> None:
    """Create the empty table `renewed`."""
    tx.fetch_all("create_renewed")


def stage_renewed(tx: Transaction, lines: Sequence[RenewedLine]) -> None:
    """Add lines to `renewed`."""
    tx.insert_rows("renewed", lines)


def give_version(tx: Transaction, version: int, wider: Sequence[int]) -> None:
    """Give the lines in `renewed` this version, but those that have one of the versions `wider` already."""
    tx.fetch_all("give_version", version=version, wider=list(wider))


def count_prompts(tx: Transaction) -> list[PromptLines]:
    """Return the lines that are asked for again by the prompt that they have now."""
    return [PromptLines(*row) for row in tx.fetch_all("prompts_asked_again")]


def count_versions(tx: Transaction) -> list[OpenVersionLines]:
    """Return the lines that are asked for again by the version that they have now, with their counted tokens."""
    return [OpenVersionLines(*row) for row in tx.fetch_all("versions_asked_again")]
