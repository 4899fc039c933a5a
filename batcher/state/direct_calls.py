"""The calls of the direct lane as rows of the state, with the lines that they are for.

A call is claimed in the transaction before it is sent, and ends in the one that records its answer.
"""

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, replace
from typing import NamedTuple

from batcher.core.direct.decide import LineTries
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import VERDICT_EVENTS, artist_transition
from batcher.errors import IllegalTransitionError
from batcher.state import shards
from batcher.state.db.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Selection:
    """Which lines the lane is for; None: no restriction."""

    priority: int | None = None
    failure: str | None = None
    """The class of the line's last failure."""
    max_lines: int | None = None
    """Lines that are sent in all; their retries are not counted."""
    unreleased: bool = True
    """Whether lines are sent that were planned and not released."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A line that may be sent."""

    artist_id: str
    custom_id: str
    data: str
    tokens: int
    line_hash: int | None
    version: int
    shard: int | None


class Candidates(NamedTuple):
    """The next lines to send, and when more are due."""

    lines: list[Candidate]
    next_due: float | None
    """When the next of the waiting lines is due (epoch seconds); None: none waits."""
    braked: int | None = None
    """The version of lines that the brake keeps back; None: there are none."""


class LineWeight(NamedTuple):
    """Lines of one version with the same number of counted tokens."""

    version: int
    tokens: int
    lines: int


class LineClaim(NamedTuple):
    """A line that is about to be sent."""

    line: Candidate
    tokens: int
    """What the call takes of the minute's tokens at most."""
    reserved_usd: float
    """What it costs at most."""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call without an outcome, whose process died."""

    call: int
    artist_id: str
    custom_id: str
    data: str
    version: int


class RecentCall(NamedTuple):
    """What a call took of the limits of its minute."""

    sent_at: float
    tokens: int


@dataclass(frozen=True, slots=True)
class CallRecord:
    """The result of one call, as the table `answers` takes it. Exactly one of data and state is set."""

    call: int
    artist_id: str
    outcome: str
    """bio, a class of failure, lost (no answer came), or unsent (nothing was sent)."""
    data: str | None = None
    model: str = ""
    finish_reason: str = ""
    tokens_input: int = 0
    tokens_cached: int = 0
    tokens_output: int = 0
    tokens_written: int = 0
    tokens_reasoning: int = 0
    cost_usd: float | None = None
    completed_at: float | None = None
    code: str | None = None
    message: str | None = None
    status_code: int | None = None
    state: str | None = None
    wait_until: float | None = None
    counted: bool = True
    version: int | None = None
    """What it asked with; None: the version that the line has now."""


def next_call_number(tx: Transaction) -> int:
    """Return the number of the next call."""
    return int(tx.fetch_one("next_call")[0])


def load_candidates(
    tx: Transaction,
    selection: Selection,
    first_call: int,
    max_lines: int,
    latest: float,
    braked: Collection[int] = (),
) -> Candidates:
    """Make the waiting lines ready that are due, and return the next lines to send, the most urgent first.

    first_call: the first call of this command; lines since then count against the selection's `max_lines`. max_lines:
    lines to return at most. latest: a later time to wait for was set by a clock that was ahead, and counts as past.
    braked: versions of which nothing is sent.
    """
    tx.move_lines("direct_fall_due", "fall_due", now=tx.now, latest=latest)
    is_full = False
    if selection.max_lines is not None:
        left = selection.max_lines - int(tx.fetch_one("count_lines_claimed", first=first_call)[0])
        is_full, max_lines = left <= 0, max_lines if left <= 0 else min(max_lines, left)
    chosen: dict[str, object] = {"priority": selection.priority, "failure": selection.failure}
    chosen |= {"unreleased": selection.unreleased, "full": is_full, "first": first_call}
    chosen |= {"braked": list(braked)}
    next_due, kept_back = tx.fetch_one("direct_due", **chosen)
    rows = tx.fetch_all("direct_lines", most=max_lines, **chosen)
    return Candidates([Candidate(*row) for row in rows], next_due, kept_back)


def weigh_selection(tx: Transaction, selection: Selection) -> list[LineWeight]:
    """Return the lines that may be sent or wait to be, by what they cost."""
    rows = tx.fetch_all(
        "weigh_selection",
        priority=selection.priority,
        failure=selection.failure,
        unreleased=selection.unreleased,
        most=selection.max_lines,
    )
    return [LineWeight(*row) for row in rows]


def filter_ready_lines(tx: Transaction, lines: Sequence[Candidate]) -> dict[str, Candidate]:
    """Return the lines that are still ready and unchanged, by artist id, each with the shard that holds it now."""
    rows = tx.fetch_all("still_ready", ids=[line.artist_id for line in lines])
    shard_of = {(artist_id, version, line_hash): shard for artist_id, shard, version, line_hash in rows}
    keys = [(line, (line.artist_id, line.version, line.line_hash)) for line in lines]
    return {line.artist_id: replace(line, shard=shard_of[key]) for line, key in keys if key in shard_of}


def record_claims(tx: Transaction, claims: Sequence[LineClaim]) -> list[int]:
    """Take ready lines out of their shards and open a call for each; return the numbers of the calls.

    Raises IllegalTransitionError where a line was not ready: then it might be paid twice.
    """
    first = next_call_number(tx)
    calls = list(range(first, first + len(claims)))
    rows = [
        (call, claim.line.artist_id, claim.tokens, claim.reserved_usd, tx.now, None, None)
        for call, claim in zip(calls, claims, strict=True)
    ]
    tx.insert_rows("direct_calls", rows)
    for shard in sorted({claim.line.shard for claim in claims if claim.line.shard is not None}):
        shards.dissolve_shard(tx, shard, "the direct lane took lines out of it")
    claimed = tx.move_lines("claim_direct", "claim_direct", first=first)
    if claimed != len(claims):
        raise IllegalTransitionError(f"{claimed} of {len(claims)} lines were claimed")
    return calls


def load_line_tries(tx: Transaction, artist_id: str, failure: FailureClass) -> LineTries:
    """Return the earlier attempts at a line, before a failure of this class is recorded."""
    return LineTries(*tx.fetch_one("tries_of", artist_id=artist_id, failure=failure.value))


def find_failing_lines(tx: Transaction, lines: Sequence[Candidate], failure: FailureClass, tries: int) -> set[str]:
    """Return the artist ids of those lines that have failed with this class more than `tries` times."""
    ids = [line.artist_id for line in lines]
    rows = tx.fetch_all("find_failing_lines", ids=ids, failure=failure.value, tries=tries)
    return {str(artist_id) for (artist_id,) in rows}


def record_answers(tx: Transaction, answers: Sequence[CallRecord]) -> None:
    """End calls: record their bios and attempts, and move their lines on."""
    tx.fetch_all("create_answers")
    tx.insert_rows("answers", [astuple(answer) for answer in answers])
    tx.fetch_all("create_taken")
    tx.fetch_all("record_answers", now=tx.now)
    if any(answer.data is not None for answer in answers):
        tx.fetch_all("insert_direct_bios", now=tx.now)
        if tx.fetch_one("count_redone_answers")[0]:
            tx.fetch_all("keep_former_direct_bios", now=tx.now)
            tx.fetch_all("replace_direct_bios", now=tx.now)
        tx.move_lines("accept_answers", "accept")
    targets = {answer.state for answer in answers}  # no statement runs that cannot find any
    for event in VERDICT_EVENTS:
        if artist_transition(event)[1].value in targets:
            tx.move_lines("move_failed_answers", event)
    tx.fetch_all("end_calls", now=tx.now)


def widen_answers(tx: Transaction, version: int, wider: int) -> None:
    """Have the lines whose answer was cut off retried with more room, in the transaction of `record_answers`, after it.

    version: the version that they were sent with; wider: the one to retry them with.
    """
    tx.fetch_all("widen_answers", version=wider, was=version)


def load_open_calls(tx: Transaction) -> list[OpenCall]:
    """Return calls that a dead process has left, 100 at most."""
    return [OpenCall(*row) for row in tx.fetch_all("open_calls")]


def load_recent_calls(tx: Transaction, since: float) -> list[RecentCall]:
    """Return the calls from `since` until now, in order; a later one was recorded by a clock that was ahead."""
    return [RecentCall(float(at), int(tokens)) for at, tokens in tx.fetch_all("recent_calls", since=since, now=tx.now)]


def count_calls_since(tx: Transaction, since: float) -> int:
    """Return how many calls were sent after `since`."""
    return int(tx.fetch_one("calls_since", since=since)[0])


def find_nth_call_time(tx: Transaction, since: float, n: int) -> float | None:
    """Return when the n-th call (from 0) after `since` was sent; None where there were fewer."""
    rows = tx.fetch_all("nth_call_since", since=since, n=n)
    return float(rows[0][0]) if rows else None


class OutcomeCount(NamedTuple):
    """The calls with one outcome."""

    outcome: str
    calls: int


def count_outcomes(tx: Transaction, first: int) -> list[OutcomeCount]:
    """Return the outcomes of the calls from number `first` on, the most frequent first."""
    return [OutcomeCount(str(outcome), int(n)) for outcome, n in tx.fetch_all("outcomes_since", first=first)]


def count_service_bios(tx: Transaction) -> int:
    """Return how many bios the service has made for this job, in either lane."""
    return int(tx.fetch_one("count_service_bios")[0])
