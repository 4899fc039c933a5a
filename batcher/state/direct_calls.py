"""What the direct lane writes before and after its calls. Functions of an open transaction.

A call is claimed in the transaction that asks for it, and ends in the one that records its answer.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import NamedTuple

from batcher.core.lifecycle import VERDICT_EVENTS, ShardState, artist_transition
from batcher.state import shards
from batcher.state.db.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Selection:
    """Which lines the lane is for; None: any. `first`: the first call of this command, `most` lines in all."""

    priority: int | None = None
    failure: str | None = None
    most: int | None = None
    first: int = 0

    def to_parameters(self, full: bool) -> dict[str, object]:
        """As the statements take it. full: as many lines as wished were taken on."""
        return {"priority": self.priority, "failure": self.failure, "full": full, "first": self.first}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A line that may be asked for."""

    artist_id: str
    custom_id: str
    data: str
    tokens: int
    line_hash: int | None
    version: int
    shard: int | None


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call without an outcome, whose process died."""

    call: int
    artist_id: str
    custom_id: str
    data: str
    version: int


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What one call came to, as the table `answers` takes it. Exactly one of data and state is set."""

    call: int
    artist_id: str
    outcome: str
    """bio, a class of failure, lost (no answer came), or unsent (nothing went out)."""
    data: str | None = None
    model: str = ""
    finish_reason: str = ""
    tokens_input: int = 0
    tokens_cached: int = 0
    tokens_output: int = 0
    cost_usd: float | None = None
    completed_at: float | None = None
    code: str | None = None
    message: str | None = None
    status_code: int | None = None
    state: str | None = None
    wait_until: float | None = None
    counted: bool = True


def load_candidates(
    tx: Transaction, selection: Selection, most: int, latest: float
) -> tuple[list[Candidate], float | None]:
    """The next lines to ask for, and when the next of those that wait is due (None: none waits).

    latest: a time to wait for that is later was set by a clock that was ahead, and counts as past.
    """
    tx.move_lines("direct_fall_due", "fall_due", now=tx.now, latest=latest)
    full = False
    if selection.most is not None:
        left = selection.most - int(tx.fetch_one("lines_taken_on", first=selection.first)[0])
        full, most = left <= 0, most if left <= 0 else min(most, left)
    chosen = selection.to_parameters(full)
    (due,) = tx.fetch_one("direct_due", **chosen)
    return [Candidate(*row) for row in tx.fetch_all("direct_lines", most=most, **chosen)], due


def filter_ready_lines(tx: Transaction, lines: Sequence[Candidate]) -> dict[str, Candidate]:
    """Those of these lines that may be asked for as they were read, each with the shard that holds it now."""
    now = {row[0]: row[1:] for row in tx.fetch_all("still_ready", ids=[line.artist_id for line in lines])}
    found = {}
    for line in lines:
        shard, version, line_hash = now.get(line.artist_id, (None, None, None))
        if line.artist_id in now and (version, line_hash) == (line.version, line.line_hash):
            found[line.artist_id] = replace(line, shard=shard)
    return found


def record_claims(tx: Transaction, lines: Sequence[tuple[Candidate, int, float]]) -> list[int]:
    """Takes lines out of their shards and opens a call for each, with its tokens and the dollars that it may cost; the
    calls' numbers. The lines are ready."""
    first = next_call_number(tx)
    calls = list(range(first, first + len(lines)))
    rows = [
        (call, line.artist_id, tokens, usd, tx.now, None, None)
        for call, (line, tokens, usd) in zip(calls, lines, strict=True)
    ]
    tx.insert_rows("direct_calls", rows)
    for shard in sorted({line.shard for line, _, _ in lines if line.shard is not None}):
        _dissolve_shard(tx, shard)
    claimed = tx.move_lines("claim_direct", "claim_direct", first=first)
    assert claimed == len(lines), f"{claimed} of {len(lines)} lines were claimed"
    return calls


def _dissolve_shard(tx: Transaction, shard: int) -> None:
    """A shard that loses lines to this lane is stale. The others of one that was released go on as loose lines; of one
    that was not they stay parked in it, until they are cut again."""
    state = shards.load_shard(tx, shard).state
    if state is ShardState.STALE:
        return
    shards.mark_shard_stale(tx, shard, "the direct lane took lines out of it")
    if state is not ShardState.PLANNED:
        shards.loosen_shard_lines(tx, shard)


def record_answers(tx: Transaction, answers: Sequence[CallRecord]) -> None:
    """Ends calls: bios, attempts, and the next states of the lines."""
    tx.fetch_all("create_answers")
    tx.insert_rows("answers", [astuple(answer) for answer in answers])
    tx.fetch_all("record_answers", now=tx.now)
    if any(answer.data is not None for answer in answers):
        tx.fetch_all("insert_direct_bios", now=tx.now)
        tx.move_lines("accept_answers", "accept")
    targets = {answer.state for answer in answers}  # each statement goes through all lines
    for event in VERDICT_EVENTS:
        if artist_transition(event)[1].value in targets:
            tx.move_lines("move_failed_answers", event)
    tx.fetch_all("end_calls", now=tx.now)


def load_open_calls(tx: Transaction) -> list[OpenCall]:
    """Calls that a process which died has left."""
    return [OpenCall(*row) for row in tx.fetch_all("open_calls")]


class OutcomeCount(NamedTuple):
    """The calls with one outcome."""

    outcome: str
    calls: int


def next_call_number(tx: Transaction) -> int:
    """Return the number of the next call to be claimed."""
    return int(tx.fetch_one("next_call")[0])


def count_outcomes(tx: Transaction, first: int) -> list[OutcomeCount]:
    """Return the outcomes of the calls from number `first` on, the most frequent first."""
    return [OutcomeCount(str(outcome), int(n)) for outcome, n in tx.fetch_all("outcomes_since", first=first)]
