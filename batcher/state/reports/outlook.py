"""Reading what a forecast is computed from."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from batcher.catalog.prices import LONG_REQUEST
from batcher.config.sections import Config
from batcher.core.brake import NO_PROMPTS, Braked, Prompts
from batcher.core.direct.workers import LINES_PER_WORKER_S
from batcher.core.failures import FailureClass
from batcher.core.forecast import BatchInFlight, RemainingWork
from batcher.core.lifecycle import SENDABLE_STATES
from batcher.core.model import JobVersion
from batcher.core.room import MeasuredUsage, Room
from batcher.core.snapshot import LooseLines, Pause, ShardView
from batcher.state import facts, quota_pauses, submissions
from batcher.state.costs import load_budget_spending
from batcher.state.db.transaction import Transaction
from batcher.state.snapshot import (
    can_free_budget,
    latest_valid_wait,
    load_loose_lines,
    load_measured,
    load_prompts,
    load_room,
    read_outage_until,
)
from batcher.state.versions import load_open_lines, load_stored_versions

REFUSED_FOR_S = 2 * 3600.0
"""Seconds for which a refusal shows how much room others leave, for the forecast."""


class OpenLines(NamedTuple):
    """Lines of one job version that are neither sent nor ended, and their counted tokens.

    Those that the service may price as long requests stand apart from the others.
    """

    version: JobVersion
    lines: int
    tokens: int
    longest: int = 0
    """Counted tokens of the longest."""
    prefix: int = 0
    """Counted tokens of each before its cache breakpoint; 0: they have none."""


class Outlook(NamedTuple):
    """What a forecast is computed from."""

    room: Room
    load: RemainingWork
    ended_s: tuple[float, ...]
    """Service times of the batches that ended, in seconds."""
    measured: MeasuredUsage
    open: Sequence[OpenLines]
    spent_usd: float
    in_flight_usd: float
    """The most that what is in flight may cost. It and `spent_usd` are 0 where the budget has no bound."""
    waits_for: str
    """What a person has to do before anything is sent, as the end of "not before ..."; "" where nothing. The forecast
    counts from then on."""
    planned_at: float
    """When the job was first planned (epoch seconds)."""
    versions: Mapping[int, JobVersion] = MappingProxyType({})
    pauses: Sequence[Pause] = ()
    outage_until: float = 0.0
    direct_until: float = 0.0
    """The direct lane makes no calls before this time (epoch seconds)."""
    per_worker_s: float = LINES_PER_WORKER_S
    """Lines that one worker of the direct lane does in a second: measured, else assumed."""
    braked: Sequence[Braked] = ()
    """The prompts of which lines are open and the brake keeps all back."""
    queue: Sequence[ShardView] = ()
    """The shards that are released, not sent and not to be cancelled."""
    loose: Sequence[LooseLines] = ()
    prompts: Prompts = NO_PROMPTS
    """What the answers so far say about sending more, by the version of the open lines."""
    frees: bool = True
    """Whether anything runs whose end may free some of the dollars in flight."""

    @property
    def open_line_count(self) -> int:
        """The lines that are neither sent nor ended."""
        return sum(part.lines for part in self.open)

    @property
    def open_token_count(self) -> int:
        """The counted tokens of the open lines."""
        return sum(part.tokens for part in self.open)


def load_outlook(tx: Transaction, config: Config) -> Outlook:
    """Return the outlook of this moment. It reads less than `load_snapshot`, as nothing is decided from it."""
    latest = latest_valid_wait(tx, config)
    measured = load_measured(tx)._replace(paid_again=int(tx.fetch_one("paid_again")[0]))
    room, pauses = load_room(tx, config, measured), quota_pauses.load_open_pauses(tx, latest)
    outage_until = read_outage_until(tx, latest)
    # A quota pause ends with credit, and what comes after its time is only a try.
    until = [p.until for p in pauses if p.scope == "all" and p.until is not None and p.reason != FailureClass.QUOTA]
    stored, loose = load_stored_versions(tx), load_loose_lines(tx, latest)
    versions = {number: each.version for number, each in stored.items()}
    parts = load_open_lines(tx, LONG_REQUEST / room.factor)
    prompts = load_prompts(tx, config, {part.version for part in parts})
    braked = {view.prompt: view.braked for view in prompts.values() if view.braked}
    spending = load_budget_spending(tx, config.budget.max_usd, room.factor)
    unsent = [(ShardView(*row), is_unwanted) for *row, is_unwanted in tx.fetch_all("unsent", latest=latest)]
    return Outlook(
        room=room,
        load=RemainingWork(
            ceiling=_attainable_ceiling(tx, config, room),
            shards=[(room.reserved_tokens(shard.tokens), shard.lines) for shard, _ in unsent],
            flights=[BatchInFlight(*row) for row in tx.fetch_all("flights", now=tx.now)],
            loose=(room.reserved_tokens(sum(g.tokens for g in loose)), sum(g.lines for g in loose)),
            retry_share=measured.retry_share,
            free_in_s=max(0.0, *(at - tx.now for at in [*until, outage_until, room.blocked_until])),
            first_wave=_bound_lines_in_flight(prompts),
        ),
        ended_s=tuple(float(row[0]) for row in tx.fetch_all("service_times")),
        measured=measured,
        open=[
            OpenLines(versions[p.version], p.lines, p.tokens, p.longest, stored[p.version].prefix_tokens) for p in parts
        ],
        spent_usd=spending.spent_usd,
        in_flight_usd=spending.in_flight_usd,
        waits_for=_find_blocker(facts.read_stop_reason(tx), bool(braked), pauses, tx.now),
        planned_at=submissions.load_run(tx).planned_at,
        versions=versions,
        pauses=pauses,
        outage_until=outage_until,
        direct_until=facts.read_wait(tx, facts.WaitFact.DIRECT, latest),
        per_worker_s=facts.read_worker_rate(tx) or LINES_PER_WORKER_S,
        braked=[braked[prompt] for prompt in sorted(braked)],
        queue=[shard for shard, is_unwanted in unsent if shard.state in SENDABLE_STATES and not is_unwanted],
        loose=loose,
        prompts=prompts,
        # Without dollars in flight there is nothing to come free, and nothing to look for.
        frees=spending.in_flight_usd <= 0 or can_free_budget(tx, config.budget.max_usd),
    )


def _find_blocker(stopped: str, is_braked: bool, pauses: Sequence[Pause], now: float) -> str:
    """Return what a person has to do before anything is sent; "" where nothing."""
    if stopped:
        return "what has stopped it is fixed"
    active = [pause for pause in pauses if pause.scope == "all" and pause.is_active(now)]
    if any(pause.reason == FailureClass.QUOTA for pause in active):
        return "credit is added"
    if any(pause.until is None for pause in active):
        return "`batcher resume`"
    return "the brake is released" if is_braked else ""


def _bound_lines_in_flight(prompts: Prompts) -> int | None:
    """Return how many lines may be in flight until an answer was judged; None where one prompt has any judged.

    The forecast knows no prompts: where those of one have been judged, the others wait beside them.
    """
    bounds = {view.prompt: view.most_lines for view in prompts.values()}
    known = [bound for bound in bounds.values() if bound is not None]
    return sum(known) if known and len(known) == len(bounds) else None


def _attainable_ceiling(tx: Transaction, config: Config, room: Room) -> int:
    """Return the tokens that a forecast may count on having reserved at once.

    Where others hold a part of the limit, that is what was in flight when the service last refused for it.
    """
    refused = tx.fetch_all("refused_at", model=config.model.name, since=tx.now - REFUSED_FOR_S, now=tx.now)
    in_flight = int(refused[0][0]) if refused else 0
    return min(room.ceiling, max(in_flight, room.reserved)) if in_flight else room.ceiling
