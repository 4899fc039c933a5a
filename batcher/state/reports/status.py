"""What `status` and `show` report, read from the state as data: `--json` prints it, and the views draw it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from batcher.catalog.prices import PriceOf
from batcher.config.sections import Config
from batcher.core.brake import AnswerReason, describe_brake
from batcher.core.lifecycle import ArtistState, is_terminal
from batcher.core.pilots import PilotStage, describe_failed_pilot, describe_open_pilot
from batcher.state import facts, remote_files
from batcher.state.costs import Costs, costs_by_shard, sum_costs
from batcher.state.db.transaction import Transaction
from batcher.state.pilots import load_newest_pilots, load_pilot_progress
from batcher.state.reports.expectation import Expectation, build_expectation
from batcher.state.reports.outlook import load_outlook
from batcher.state.versions import load_versions

NEWEST_SAMPLES = 500
"""The number of quota samples that a status holds."""


class PriorityProgress(NamedTuple):
    """The artists of one priority, by how far they are."""

    priority: int
    artists: int
    """All but skipped rows."""
    done_before: int
    done: int
    in_flight: int
    open: int
    """Neither sent nor over."""
    held: int
    dead: int


STATES_COUNTED: Mapping[str, Sequence[ArtistState]] = {
    "artists": [state for state in ArtistState if state is not ArtistState.SKIPPED],
    "done_before": [ArtistState.DONE_BEFORE],
    "done": [ArtistState.DONE],
    "in_flight": [ArtistState.IN_BATCH, ArtistState.IN_DIRECT],
    "open": [ArtistState.READY, ArtistState.WAITING],
    "held": [ArtistState.HELD],
    "dead": [ArtistState.DEAD],
}
"""The states that each number of a PriorityProgress counts."""


class ShardCount(NamedTuple):
    """The shards in one state, with the sums of their lines and counted tokens."""

    state: str
    shards: int
    lines: int
    tokens: int


class UnsettledBatch(NamedTuple):
    """A batch that runs, or whose results are to be read once more. Times are epoch seconds."""

    batch_id: str
    shard: int
    priority: int
    status: str
    total: int
    completed: int
    failed: int
    stray: bool
    created_at: float
    """In the service's clock."""
    recorded_at: float
    lines: int
    retry_at: float
    """When its results are read the next time; 0 where that was never put off."""


class FailureTotal(NamedTuple):
    """The tries that failed with one class and code."""

    class_: str
    code: str | None
    times: int
    counted: int
    """Those that count against the tries of their line."""
    last_at: float


class LostCount(NamedTuple):
    """The dead, held or skipped artists with one class and code."""

    state: str
    class_: str | None
    code: str | None
    artists: int


class WaitingLines(NamedTuple):
    """The lines that wait after one class of failure, and when the first and the last of them are due."""

    class_: str
    lines: int
    first_at: float
    last_at: float


class WaitingShard(NamedTuple):
    """A shard that is not handled before a time."""

    shard: int
    state: str
    until: float


class OpenPause(NamedTuple):
    """A pause that has not been ended. `until` None: until the user resumes."""

    scope: str
    reason: str
    until: float | None


class OpenBrake(NamedTuple):
    """A prompt of which nothing more is sent: the share of its newest judged answers that was of no use, and why."""

    prompt: int
    share: float
    answers: int
    unusable: int
    reasons: Sequence[AnswerReason]
    text: str
    """The same in words, with what to do."""


class QuotaSample(NamedTuple):
    """The account's room at one moment. Tokens are None where the source did not name them."""

    happened_at: float
    source: str
    """submission, refusal or header."""
    model: str
    limit_tokens: int | None
    reserved: int | None
    own: int | None
    headroom: int | None
    shard: int | None
    detail: str | None


class RoomRefusals(NamedTuple):
    """The refusals for the enqueued-token limit: how many, and of the last one when and with what in flight."""

    times: int
    last_at: float | None
    in_flight: int | None
    named_limit: int | None


class OpenPilot(NamedTuple):
    """A pilot that is under way, or that waits for the user as too few of its answers were accepted."""

    pilot: int
    prompt: int
    lines: int
    judged: int
    accepted: int
    failed: bool
    text: str
    """How far it is, or the question and what may be done."""


class Status(NamedTuple):
    """The whole job at one moment. Times are epoch seconds; 0 where there is nothing to wait for."""

    now: float
    states: Mapping[str, int]
    priorities: Sequence[PriorityProgress]
    shards: Sequence[ShardCount]
    batches: Sequence[UnsettledBatch]
    failures: Sequence[FailureTotal]
    lost: Sequence[LostCount]
    waiting_lines: Sequence[WaitingLines]
    waiting_shards: Sequence[WaitingShard]
    pauses: Sequence[OpenPause]
    limit: int
    ceiling: int
    reserved: int
    headroom: int
    blocked_until: float
    outage_until: float
    direct_until: float
    stopped: str
    quota_said: str
    """What the service last said when the quota was used up; "" where it never said anything."""
    costs: Costs
    expectation: Expectation
    shard_costs: Sequence[Costs]
    quota: Sequence[QuotaSample]
    """The newest samples of the account's room: submissions, refusals, headers."""
    refusals: RoomRefusals
    files_left: int
    brakes: Sequence[OpenBrake]
    """The prompts of which lines wait and nothing is sent, as too many of their answers were of no use."""
    pilot: OpenPilot | None
    first_wave: int | None
    """Lines that may be in flight until an answer was judged; None: any number."""
    asked_again: Mapping[str, int]
    """The artists whose bio was asked for again, by state. Each has its earlier bio, also where it is held or dead."""
    following: int = 0
    """The open artists that wait for the answer to another line, which asks the same."""


class ArtistBio(NamedTuple):
    """An artist's bio, its model's answer in `data` as JSON. What is not known of an earlier bio is None."""

    data: str
    model: str | None
    finish_reason: str | None
    lane: str
    shard: int | None
    batch_id: str | None
    attempts: int | None
    completed_at: float | None
    cost_usd: float | None


class ArtistAttempt(NamedTuple):
    """One try of an artist's line."""

    happened_at: float
    lane: str
    shard: int | None
    batch_id: str | None
    outcome: str
    code: str | None
    message: str | None
    counted: bool
    tokens_input: int
    tokens_output: int
    cost_usd: float | None


class ArtistEvent(NamedTuple):
    """One event in the history of an artist's line or of its shards."""

    happened_at: float
    kind: str
    shard: int | None
    batch_id: str | None
    detail: str | None


class ArtistHistory(NamedTuple):
    """One artist's whole history: the row of the table `artists`, the bio, the money, the tries and the events."""

    artist_id: str
    artist_name: str
    priority: int
    state: str
    custom_id: str
    shard: int | None
    submission: int | None
    wait_until: float | None
    attempts: int
    """Those that count."""
    failure: str | None
    code: str | None
    message: str | None
    tokens: int
    data: str
    """The row of the table, as JSON."""
    asked_again: bool
    """Whether the bio was asked for again, and is the earlier one."""
    same_as: str | None
    """The artist whose line asks the same, and whose answer this one takes; None: it has a line of its own."""
    bio: ArtistBio | None
    costs: Costs
    attempts_made: Sequence[ArtistAttempt]
    """All tries, also those that do not count."""
    events: Sequence[ArtistEvent]


class SimilarArtist(NamedTuple):
    """An artist whose id or name holds a text."""

    artist_id: str
    artist_name: str


def read_status(tx: Transaction, config: Config, price_of: PriceOf) -> Status:
    """Return everything that `status` reports."""
    outlook = load_outlook(tx, config)
    room = outlook.room
    by_shard = costs_by_shard(tx, outlook.versions, price_of)
    states, priorities, asked_again, following = _count_artists(tx)
    batches = [UnsettledBatch(*row) for row in tx.fetch_all("batches_in_flight")]
    return Status(
        now=tx.now,
        states=states,
        priorities=priorities,
        shards=[ShardCount(*row) for row in tx.fetch_all("shards_by_state")],
        batches=[batch for batch in batches if not is_terminal(batch.status) or batch.retry_at],
        failures=[FailureTotal(*row) for row in tx.fetch_all("failures_by_class")],
        lost=[LostCount(*row) for row in tx.fetch_all("lost_by_class")],
        waiting_lines=[WaitingLines(*row) for row in tx.fetch_all("who_waits")],
        waiting_shards=[WaitingShard(*row) for row in tx.fetch_all("shards_waiting", now=tx.now)],
        pauses=[OpenPause(p.scope, p.reason, p.until) for p in outlook.pauses],
        limit=room.limit,
        ceiling=room.ceiling,
        reserved=room.reserved,
        headroom=room.headroom,
        blocked_until=room.blocked_until,
        outage_until=outlook.outage_until,
        direct_until=outlook.direct_until,
        stopped=facts.read_stop_reason(tx),
        quota_said=facts.read_quota_sentence(tx),
        costs=sum_costs(by_shard),
        expectation=build_expectation(outlook, config, price_of, tx.now),
        shard_costs=by_shard,
        quota=[QuotaSample(*row) for row in tx.fetch_all("quota_history", most=NEWEST_SAMPLES)],
        refusals=RoomRefusals(*tx.fetch_one("room_refusals", now=tx.now)),
        files_left=len(remote_files.load_files_left(tx)),
        brakes=[
            OpenBrake(b.prompt, b.share, b.judged.answers, b.judged.unusable, b.judged.reasons, describe_brake(b))
            for b in outlook.braked
        ],
        pilot=_load_open_pilot(tx, config),
        first_wave=outlook.load.first_wave,
        asked_again=asked_again,
        following=following,
    )


def _load_open_pilot(tx: Transaction, config: Config) -> OpenPilot | None:
    """Return the newest pilot that is not over, or by which `run` asks what is done with the rest.

    Of another prompt than that of the newest pilot only one is meant whose prompt has unsent lines.
    """
    newest = load_newest_pilots(tx)
    for pilot, unsent in (each for each in newest if each.unsent or each is newest[0]):
        _, stage, tally, _ = load_pilot_progress(tx, pilot, config.pilot.min_accepted)
        failed = stage is PilotStage.FAILED
        if stage is PilotStage.PASSED or (failed and not (config.pilot.lines and unsent)):
            continue
        text = describe_failed_pilot(tally, config.pilot.min_accepted) if failed else describe_open_pilot(tally)
        return OpenPilot(pilot.pilot, pilot.prompt, tally.lines, tally.judged, tally.accepted, failed, text)
    return None


def _count_artists(tx: Transaction) -> tuple[Mapping[str, int], list[PriorityProgress], Mapping[str, int], int]:
    """Return the artists in each state that has any, the progress of each priority, by state the artists whose bio was
    asked for again, and those that wait for the answer to another line, from one count of all."""
    states, again, by_priority = Counter[str](), Counter[str](), dict[int, Counter[str]]()
    following = 0
    for priority, state, artists, redone, follows in tx.fetch_all("count_by_priority"):
        following += follows
        states[state] += artists
        again[state] += redone
        by_priority.setdefault(priority, Counter())[state] += artists
    progress = [
        PriorityProgress(priority, **{name: sum(counted[s] for s in among) for name, among in STATES_COUNTED.items()})
        for priority, counted in by_priority.items()
    ]
    by_state, redone_by_state = dict(sorted(states.items())), dict(sorted((+again).items()))
    return by_state, [row for row in progress if row.artists], redone_by_state, following


def read_artist(tx: Transaction, artist_id: str, price_of: PriceOf) -> ArtistHistory | None:
    """Return one artist's whole history; None when the state does not know the id."""
    rows = tx.fetch_all("artist", artist_id=artist_id)
    if not rows:
        return None
    bios = [ArtistBio(*row) for row in tx.fetch_all("artist_bio", artist_id=artist_id)]
    bio = bios[0] if bios else None
    costs = sum_costs(costs_by_shard(tx, load_versions(tx), price_of, artist_id))
    attempts = [ArtistAttempt(*row) for row in tx.fetch_all("artist_attempts", artist_id=artist_id)]
    events = [ArtistEvent(*row) for row in tx.fetch_all("artist_events", artist_id=artist_id)]
    return ArtistHistory._make([*rows[0], bio, costs, attempts, events])


def has_artist(tx: Transaction, artist_id: str) -> bool:
    """Return whether the state knows an artist."""
    return bool(tx.fetch_one("has_artist", artist_id=artist_id)[0])


def find_similar_artists(tx: Transaction, text: str) -> list[SimilarArtist]:
    """Return up to five artists whose id or name holds a text, in input order."""
    return [SimilarArtist(*row) for row in tx.fetch_all("similar_artists", text=text)]


def to_json(value: object) -> object:
    """Return named tuples as objects, with all that is in them; a field `class_` is the key `class`."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name.rstrip("_"): to_json(part) for name, part in value._asdict().items()}
    return [to_json(part) for part in value] if isinstance(value, list | tuple) else value
