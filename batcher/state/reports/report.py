"""What `report` shows, read from the state as data: the status, and how it came to be, in a bounded number of points.

What grows with the job is summed up in steps of time, and rows that are left out are counted: the page of a million
lines is as large as that of a thousand.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from batcher.catalog.prices import PriceOf
from batcher.config.sections import Config
from batcher.core.lifecycle import SHARD_EVENTS, count_open_artists
from batcher.state import submissions
from batcher.state.db.transaction import Transaction
from batcher.state.reports.prompts import PromptTotals, load_prompt_totals
from batcher.state.reports.span import read_job_span
from batcher.state.reports.status import Status, read_status

STEPS = 120
"""Steps of time in which a chart counts what grows with the job."""
MOST_PRIORITIES = 7
"""Priorities that are shown; the others, of fewer artists, are counted together."""
MOST_SHARDS_SHOWN = 200
"""Shards whose phases are shown; of more of them every second, third and so on."""
MOST_LIMITS = 100
"""Changes of the limit, and refusals for it, that are shown: the newest."""
MOST_LOST = 1_000
"""Dead and held lines that are listed, the most urgent ones."""
MESSAGE_LENGTH = 300
"""Characters of the reason of a dead or held line."""
SAMPLES = 20
"""Bios that are shown."""
SERVICE_BINS = 24
"""Bars of the service times at most."""
SERVICE_STEPS_S = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
"""Widths of a bar of service times in seconds, of which the smallest is taken that is wide enough."""


class PriorityCurve(NamedTuple):
    """The bios of one priority as they came. priority None: all that have no curve of their own."""

    priority: int | None
    artists: int
    """All but skipped rows."""
    bios: Sequence[int]
    """Bios at the end of each step of time, earlier ones included; the first number is that before the first step."""


class ShardPhase(NamedTuple):
    """What a shard was in for a time (epoch seconds): uploaded, validating, in progress, finalizing, taken in."""

    shard: int
    phase: str
    begins: float
    ends: float


class TokenLevel(NamedTuple):
    """Reserved tokens from a moment on (epoch seconds)."""

    at: float
    tokens: int


class NamedRefusal(NamedTuple):
    """A refusal for the limit; None where it does not say what was reserved, or names no limit."""

    at: float
    reserved: int | None
    limit: int | None


class ServiceTimeCount(NamedTuple):
    """The batches of one status whose service time is in a range of seconds."""

    from_s: float
    to_s: float
    status: str
    batches: int


class FailureFate(NamedTuple):
    """The lines to which a class of failure has happened, by what has become of them since."""

    class_: str
    fate: str
    """has a bio, still open, held or dead."""
    lines: int


class MoneyLevel(NamedTuple):
    """Dollars that were spent until a moment (epoch seconds), and those of them for answers that gave no bio."""

    at: float
    spent: float
    wasted: float


class LostLine(NamedTuple):
    """A dead or held line."""

    artist_id: str
    artist_name: str
    priority: int
    state: str
    class_: str | None
    code: str | None
    message: str | None
    tries: int
    has_bio: bool
    """Whether it has an earlier bio: only the new one that was asked for is missing."""


class SampleBio(NamedTuple):
    """A bio as it was accepted."""

    artist_id: str
    artist_name: str
    priority: int
    data: str
    """The model's answer, as JSON."""
    prompt: int | None
    """The number of its prompt; None for a bio of an earlier run."""


class ReportData(NamedTuple):
    """A job at one moment and how it came there. Times are epoch seconds."""

    status: Status
    prompts: Sequence[PromptTotals]
    planned_at: float
    since: float
    """When the first line was sent; before that when the job was planned."""
    until: float
    """Now, or when the last thing happened where nothing is under way."""
    step_s: float
    """Seconds of a step of the curves."""
    bios: int
    """Bios that exist, earlier ones included: what `collect` writes."""
    max_usd: float
    """The budget; 0: no bound."""
    curves: Sequence[PriorityCurve]
    shards_sent: int
    phases: Sequence[ShardPhase]
    every: int
    """`phases` has one of this many of the shards that were sent."""
    reserved: Sequence[TokenLevel]
    limits: Sequence[TokenLevel]
    """The limit whenever it changed."""
    threshold: float
    """The share of the limit that may be reserved."""
    refusals: Sequence[NamedRefusal]
    service_times: Sequence[ServiceTimeCount]
    fates: Sequence[FailureFate]
    money: Sequence[MoneyLevel]
    lost: Sequence[LostLine]
    """The most urgent dead and held lines."""
    samples: Sequence[SampleBio]

    @property
    def is_open(self) -> bool:
        """Whether anything is in flight or waits to be sent."""
        return count_open_artists(self.status.states) > 0

    @property
    def lost_count(self) -> int:
        """All dead and held lines, of which `lost` has some."""
        return sum(self.status.states.get(state, 0) for state in ("dead", "held"))


class _Bounds(NamedTuple):
    """The extent of a job; None before anything was sent."""

    last_at: float | None
    longest_s: float | None
    bios: int
    shards_sent: int


class _Steps(NamedTuple):
    """STEPS equal steps of time from `since` to `until` (epoch seconds)."""

    since: float
    until: float
    step_s: float


def read_report(tx: Transaction, config: Config, price_of: PriceOf) -> ReportData:
    """Return everything that `report` shows."""
    status = read_status(tx, config, price_of)
    planned_at = submissions.load_run(tx).planned_at
    bounds = _Bounds(*tx.fetch_one("report_bounds"))
    is_open, started_at = count_open_artists(status.states) > 0, read_job_span(tx).started_at
    steps = _divide_time(
        planned_at if started_at is None else started_at,
        tx.now if is_open or bounds.last_at is None else bounds.last_at,
    )
    every = max(1, -(-bounds.shards_sent // MOST_SHARDS_SHOWN))
    return ReportData(
        status=status,
        prompts=load_prompt_totals(tx),
        planned_at=planned_at,
        since=steps.since,
        until=steps.until,
        step_s=steps.step_s,
        bios=bounds.bios,
        max_usd=config.budget.max_usd,
        curves=_load_curves(tx, steps),
        shards_sent=bounds.shards_sent,
        phases=_load_phases(tx, every, steps.until),
        every=every,
        reserved=_load_reserved(tx, steps),
        limits=[TokenLevel(*row) for row in reversed(tx.fetch_all("limits_over_time", most=MOST_LIMITS))],
        threshold=config.limits.threshold,
        refusals=[NamedRefusal(*row) for row in reversed(tx.fetch_all("limits_named", most=MOST_LIMITS))],
        service_times=_load_service_times(tx, bounds.longest_s),
        fates=[FailureFate(*row) for row in tx.fetch_all("fates_by_failure")],
        money=_load_money(tx, steps),
        lost=[LostLine(*row) for row in tx.fetch_all("lost_lines", most=MOST_LOST, length=MESSAGE_LENGTH)],
        samples=[SampleBio(*row) for row in tx.fetch_all("sample_bios", most=SAMPLES)],
    )


def _divide_time(since: float, until: float) -> _Steps:
    """Return the steps from one moment to another one, of a second in all at least."""
    until = max(until, since + 1.0)
    return _Steps(since, until, (until - since) / STEPS)


def _load_curves(tx: Transaction, steps: _Steps) -> list[PriorityCurve]:
    added: dict[int | None, list[int]] = {}
    rows = tx.fetch_all("bios_over_time", most=MOST_PRIORITIES, since=steps.since, until=steps.until, step=steps.step_s)
    for priority, step, bios in rows:
        at = min(int(step), STEPS - 1) + 1
        added.setdefault(priority, [0] * (STEPS + 1))[at] += int(bios)
    none = [0] * (STEPS + 1)
    return [
        PriorityCurve(priority, int(artists), list(accumulate(added.get(priority, none))))
        for priority, artists in tx.fetch_all("artists_by_priority", most=MOST_PRIORITIES)
    ]


def _load_phases(tx: Transaction, every: int, until: float) -> list[ShardPhase]:
    kinds = [*SHARD_EVENTS, "status"]
    return [ShardPhase(*row) for row in tx.fetch_all("shard_phases", every=every, until=until, kinds=kinds)]


def _load_reserved(tx: Transaction, steps: _Steps) -> list[TokenLevel]:
    found = []
    for first_at, last_at, most, last in tx.fetch_all("reserved_over_time", since=steps.since, step=steps.step_s):
        found.append(TokenLevel(first_at, int(most)))
        if last_at > first_at:
            found.append(TokenLevel(last_at, int(last)))
    return found


def _load_service_times(tx: Transaction, longest_s: float | None) -> list[ServiceTimeCount]:
    if longest_s is None:
        return []
    wide_enough = (step for step in SERVICE_STEPS_S if longest_s / step < SERVICE_BINS)
    step = next(wide_enough, longest_s / (SERVICE_BINS - 1))
    rows = tx.fetch_all("service_time_counts", step=step, most=SERVICE_BINS)
    return [ServiceTimeCount(place * step, (place + 1) * step, status, batches) for place, status, batches in rows]


def _load_money(tx: Transaction, steps: _Steps) -> list[MoneyLevel]:
    spent = wasted = 0.0
    found = []
    rows = tx.fetch_all("spent_over_time", since=steps.since, until=steps.until, step=steps.step_s)
    for step, more, more_wasted in rows:
        spent, wasted = spent + float(more), wasted + float(more_wasted)
        found.append(MoneyLevel(min(steps.since + (int(step) + 1) * steps.step_s, steps.until), spent, wasted))
    return found
