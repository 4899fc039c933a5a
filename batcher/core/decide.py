"""Deciding what to do next: `decide_actions(snapshot, now)`. Pure; the runner performs the actions and asks again.

The order is that of the promises: first find out what an interrupted call has done, then record the results that were
paid for, then refresh the batches, and only then send more.
"""

from collections import Counter

from batcher.core.actions import (
    Action,
    Cancel,
    Clean,
    Finish,
    Gather,
    Hold,
    Ingest,
    Reconcile,
    Refresh,
    Refuse,
    Wait,
    Withdraw,
)
from batcher.core.admission import BATCHES_PER_HOUR, NO_ANSWER, NO_ROOM, admit_shards, find_gate_obstacle
from batcher.core.brake import PromptView, bound_loose_lines, describe_brake, describe_share
from batcher.core.lifecycle import INTENTS, SENDABLE_STATES, is_terminal
from batcher.core.snapshot import LooseLines, Pause, ShardView, Snapshot


def decide_actions(snapshot: Snapshot, now: float) -> list[Action]:
    """Return the next actions, in order; never empty. A Wait or a Finish is the only one."""
    if snapshot.outage_until > now:
        return [Wait(snapshot.outage_until, NO_ANSWER)]
    urgent = _urgent_actions(snapshot, now)
    if urgent:
        return urgent
    if snapshot.stopped:
        return [Finish(snapshot.stopped)]
    going = snapshot.without_braked_work()
    sending, stop = _sending_actions(going, now)
    return sending or [_heed_brake(_wait_or_finish(going, now, stop), snapshot)]


def _heed_brake(action: Action, snapshot: Snapshot) -> Action:
    """Return how the run ends or waits where the brake keeps something back: once nothing is in flight."""
    braked = snapshot.braked
    if braked and action == Finish():
        return Finish(describe_brake(braked[0]), asks=True)
    if braked and isinstance(action, Wait):
        return Wait(action.until, f"{describe_share(braked[0])}; {action.reason}")
    return action


def decide_cancel_actions(snapshot: Snapshot, now: float) -> list[Action]:
    """Return the next actions of a process that sends nothing and only follows cancelled batches to their end."""
    if snapshot.outage_until > now:
        return [Wait(snapshot.outage_until, NO_ANSWER)]
    urgent = _urgent_actions(snapshot, now)
    if urgent or not snapshot.cancelled:
        return urgent or [Finish()]
    times = [b.retry_at for b in snapshot.batches] + [s.wait_until for s in snapshot.shards if s.state in INTENTS]
    next_look = max(now, snapshot.polled_at) + snapshot.poll_interval_s
    return [Wait(min([t for t in times if t > now] + [next_look]), "batches are being cancelled")]


def _urgent_actions(snapshot: Snapshot, now: float) -> list[Action]:
    """Return what comes before sending: open intents, cancels, results, a refresh that is due, and file deletions."""
    actions: list[Action] = [Reconcile(s.shard) for s in snapshot.shards if s.state in INTENTS and s.wait_until <= now]
    actions += [Cancel(b.batch_id) for b in snapshot.batches if b.cancels]
    actions += [
        Withdraw(s.shard) for s in snapshot.shards if s.shard in snapshot.cancelled and s.state in SENDABLE_STATES
    ]
    actions += [
        Ingest(b.batch_id) for b in snapshot.batches if is_terminal(b.status) and b.retry_at <= now and not b.held_back
    ]
    if (
        _has_running_batches(snapshot) or snapshot.unread
    ) and not snapshot.polled_at <= now < snapshot.polled_at + snapshot.poll_interval_s:
        actions.append(Refresh())
    if snapshot.files_due:
        actions.append(Clean())
    return actions


def _has_running_batches(snapshot: Snapshot) -> bool:
    return any(not is_terminal(b.status) for b in snapshot.batches)


def _is_pilot_asked(snapshot: Snapshot) -> bool:
    """Return whether lines of a pilot are under way that have no first answer yet."""
    return any(shard.is_pilot for shard in snapshot.shards)


def _sending_actions(snapshot: Snapshot, now: float) -> tuple[list[Action], Hold | Refuse | None]:
    """Return new work, and what keeps the next shard back: for now (Hold), or for good (Refuse)."""
    if find_gate_obstacle(snapshot.gate, now) or _must_await_probe(snapshot):
        return [], None
    queue = [s for s in snapshot.shards if s.state in SENDABLE_STATES and s.wait_until <= now]
    gather = _gathering_actions(queue, snapshot, now)
    # Before a pilot has shown whether the prompt is any good, nothing is bought again.
    if gather and not _is_pilot_asked(snapshot):
        return gather, None
    return _admit_queue(queue, snapshot)


def _must_await_probe(snapshot: Snapshot) -> bool:
    """Return whether one shard was sent to test what the service takes, and has no outcome yet; the others wait for it.

    It is a test after a quota pause, where anything that was sent since may show that the quota is back (an open
    intent is perhaps a batch), or past a limit that has lapsed.
    """
    if snapshot.lapsed_ceiling is not None and snapshot.room.reserved > snapshot.lapsed_ceiling:
        return True
    sent = any(batch.recorded_at >= snapshot.probe_since for batch in snapshot.batches)
    return snapshot.probing and (sent or any(s.state in INTENTS for s in snapshot.shards))


def _lane_pauses(snapshot: Snapshot) -> list[Pause]:
    """Return the pauses that concern this lane."""
    return [p for p in snapshot.pauses if p.scope == "all"]


def _gathering_actions(queue: list[ShardView], snapshot: Snapshot, now: float) -> list[Action]:
    """Return which loose lines become shards now, the most urgent first; of an untried prompt a first wave alone."""
    actions: list[Action] = []
    gathered = Counter[int]()  # lines of each prompt
    for group in sorted((g for g in snapshot.loose if g.due <= now), key=lambda g: g.priority):
        view = snapshot.prompts.get(group.version)
        prompt = view.prompt if view else 0
        most = bound_loose_lines(view, _count_lines_ahead(group.priority, view, queue, snapshot) + gathered[prompt])
        if most != 0 and _should_cut_retries(group, most, queue, snapshot, now):
            actions.append(Gather(group.priority, group.version, most))
            gathered[prompt] += group.lines if most is None else min(group.lines, most)
    return actions


def _count_lines_ahead(priority: int, view: PromptView | None, queue: list[ShardView], snapshot: Snapshot) -> int:
    """Return the lines of a prompt that are in flight, or wait in shards as urgent as the priority."""
    if view is None or view.most_lines is None:
        return 0
    versions = {version for version, each in snapshot.prompts.items() if each.prompt == view.prompt}
    return view.in_flight + sum(s.lines for s in queue if s.priority <= priority and s.version in versions)


def _should_cut_retries(
    group: LooseLines, most: int | None, queue: list[ShardView], snapshot: Snapshot, now: float
) -> bool:
    """Return whether due lines become a shard now: they fill one, or nothing as urgent waits and no more are due soon.

    Retries of an urgent priority do not queue behind less urgent shards (promise 4). most: lines of the shard at most.
    """
    limits = snapshot.shard_limits
    if group.lines >= (limits.lines if most is None else min(most, limits.lines)) or group.tokens >= limits.tokens:
        return True
    soon = now + snapshot.poll_interval_s
    alike = (g for g in snapshot.loose if (g.priority, g.version) == (group.priority, group.version))
    more = any(now < g.due <= soon for g in alike)
    return not more and not any(s.priority <= group.priority for s in queue)


def _admit_queue(queue: list[ShardView], snapshot: Snapshot) -> tuple[list[Action], Hold | Refuse | None]:
    left = BATCHES_PER_HOUR - snapshot.created_last_hour
    if snapshot.probing or snapshot.lapsed_ceiling is not None:
        left = min(left, 1)
    actions: list[Action] = []
    for step in admit_shards(queue, snapshot.room, snapshot.budget, left, snapshot.prompts):
        if isinstance(step, Hold | Refuse):
            return actions, step
        actions.append(step)
    return actions, None


def _wait_or_finish(snapshot: Snapshot, now: float, stop: Hold | Refuse | None) -> Action:
    waits = _upcoming_waits(snapshot, now)
    problem = f"shard {stop.shard} {stop.reason}" if isinstance(stop, Refuse) else ""
    if waits:
        first = min(waits, key=lambda w: w.until)
        return Wait(first.until, f"shard {stop.shard}: {stop.reason}") if isinstance(stop, Hold) else first
    if problem or not _has_open_work(snapshot):
        return Finish(problem)
    paused = next((p for p in _lane_pauses(snapshot) if p.until is None), None)
    why = f"paused: {paused.reason}; `batcher resume` goes on" if paused else "waiting for room"
    return Wait(now + snapshot.poll_interval_s, why)


def _has_open_work(snapshot: Snapshot) -> bool:
    return bool(snapshot.shards or snapshot.batches or snapshot.loose)


def _upcoming_waits(snapshot: Snapshot, now: float) -> list[Wait]:
    """Return every time at which something becomes possible, with its reason."""
    waits = [Wait(b.retry_at, "results not complete yet") for b in snapshot.batches if b.retry_at > now]
    if _has_running_batches(snapshot):
        waits.append(Wait(snapshot.polled_at + snapshot.poll_interval_s, "batches are running"))
    if not _has_open_work(snapshot):
        return []
    waits += [Wait(s.wait_until, "a shard waits to be retried") for s in snapshot.shards if s.wait_until > now]
    waits += [Wait(g.due, "failed lines wait to be sent again") for g in snapshot.loose if g.due > now]
    waits += [
        Wait(p.until, f"paused: {p.reason}") for p in _lane_pauses(snapshot) if p.until is not None and p.until > now
    ]
    if snapshot.room.blocked_until > now:
        waits.append(Wait(snapshot.room.blocked_until, NO_ROOM))
    if snapshot.created_last_hour >= BATCHES_PER_HOUR:
        waits.append(Wait(now + 60, f"{BATCHES_PER_HOUR:,} batches were created within the hour"))
    return waits


HAND_OVER = "the rest goes to the direct lane"
"""The problem that `decide_tail_actions` finishes with when the direct lane is to do the rest."""

LONGEST_BATCH_S = 24 * 3600.0
"""The completion window of a batch in seconds: what is sent now may take this long (OpenAI, guides/batch, 2026-07)."""


PILOT_ANSWERED = "each line of the pilot has its first answer"
"""The problem that `decide_pilot_actions` finishes with."""


def decide_pilot_actions(snapshot: Snapshot, now: float) -> list[Action]:
    """Return the next actions as `decide_actions` does, up to the first answers of the pilot.

    Where the job stops for its setup meanwhile, the results of what is in flight are awaited: they were paid for, and
    show how much is wrong.
    """
    if snapshot.outage_until > now:
        return [Wait(snapshot.outage_until, NO_ANSWER)]
    urgent = _urgent_actions(snapshot, now)
    if urgent:
        return urgent
    if not _is_pilot_asked(snapshot):
        return [Finish(PILOT_ANSWERED)]
    if snapshot.stopped and _has_running_batches(snapshot):
        return [Wait(max(now, snapshot.polled_at) + snapshot.poll_interval_s, "batches are running")]
    return decide_actions(snapshot, now)


def decide_tail_actions(snapshot: Snapshot, now: float, *, fewer_than: int, deadline: float) -> list[Action]:
    """Return the next actions as `decide_actions` does, or hand the rest over to the direct lane.

    It is handed over once fewer than `fewer_than` lines are left to send, or once a batch that is sent now may end
    after the deadline (epoch seconds). Only what could be sent now is handed over.
    """
    going = snapshot.without_braked_work()
    waiting = [s for s in going.shards if s.state in SENDABLE_STATES]
    lines = sum(s.lines for s in waiting) + sum(g.lines for g in going.loose)
    due = any(s.wait_until <= now for s in waiting) or any(g.due <= now for g in going.loose)
    closed = snapshot.stopped or any(p.is_active(now) for p in snapshot.pauses)
    late = now + LONGEST_BATCH_S > deadline
    if due and not closed and (lines < fewer_than or late):
        return [Finish(HAND_OVER)]
    return decide_actions(snapshot, now)
