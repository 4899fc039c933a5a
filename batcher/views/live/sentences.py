"""The sentences of the live view: end, room, money, waits and the closing line."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import NamedTuple

from batcher.nouns import current_nouns
from batcher.state.reports.status import OpenPause, Status
from batcher.views.live.counts import count_lines, format_share, is_job_open, sum_lines
from batcher.views.moments import format_clock, format_day, format_end_range, format_until
from batcher.views.next_steps import needs_person
from batcher.views.sheet import format_count, format_duration, format_usd

FAR_S = 2 * 86_400.0
"""Seconds from which on a deadline is named by its day alone."""
QUIET, WARNING, ALARM = "", "yellow", "bold red"
"""The styles of a sentence: nothing to do, to be looked at, something is lost."""


class Sentence(NamedTuple):
    """A sentence and the style that it is shown in."""

    text: str
    style: str = QUIET


class ExpectedEnd(NamedTuple):
    """When the job is expected to end (epoch seconds)."""

    best: float
    expected: float
    worst: float


def compute_end(status: Status) -> ExpectedEnd | None:
    """Return when the job is expected to end; None where it has ended, or first waits for the user."""
    if not is_job_open(status) or waits_for_user(status):
        return None
    view = status.expectation.forecast
    return ExpectedEnd(status.now + view.best_s, status.now + view.expected_s, status.now + view.worst_s)


def waits_for_user(status: Status) -> bool:
    """Return whether nothing more is sent before the user has acted."""
    return bool(status.expectation.waits_for or (status.pilot is not None and status.pilot.failed))


def describe_end(status: Status, zone: tzinfo | None) -> Sentence:
    """Return when the job ends, against its deadline; for one that waits for the user, how long it takes from then."""
    if not is_job_open(status):
        return Sentence("Nothing is in flight or waits to be sent.")
    view, end = status.expectation.forecast, compute_end(status)
    guess = "; a guess until the first batch has ended" if not view.measured else ""
    if end is None:
        span = f"{format_duration(view.expected_s)} ({format_duration(view.best_s)} to {format_duration(view.worst_s)}"
        act = status.expectation.waits_for or "you have decided on the pilot"
        return Sentence(f"Not before {act}; from then on it takes about {span}{guess}).", WARNING)
    when = format_end_range(end.best, end.expected, end.worst, status.now, zone, guess)
    return _join_deadline(f"Done about {when}.", status, end, zone)


def _join_deadline(text: str, status: Status, end: ExpectedEnd, zone: tzinfo | None) -> Sentence:
    left_s = status.expectation.deadline_s
    if left_s <= 0:
        return Sentence(f"{text} PAST the deadline, which was {format_duration(-left_s)} ago.", ALARM)
    deadline = status.now + left_s
    name = f"Deadline {(format_day if left_s > FAR_S else format_clock)(deadline, status.now, zone)}"
    if end.expected > deadline:
        return Sentence(f"{text} {name}: {'probably ' if end.best <= deadline else ''}MISSED.", ALARM)
    return Sentence(f"{text} {name}: {'met' if end.worst <= deadline else 'probably met'}.")


def describe_room(status: Status) -> Sentence:
    """Return how much of the enqueued-token limit is reserved."""
    share = format_share(status.reserved, status.ceiling)
    return Sentence(f"{share}: {status.reserved:,} of {status.ceiling:,} tokens reserved (limit {status.limit:,})")


def describe_money(status: Status, budget_usd: float) -> Sentence:
    """Return what was spent, what is expected in all, and the budget. budget_usd: 0 where there is none."""
    costs = status.costs
    if costs.spent is None or costs.reserved is None:
        return Sentence("the model's price is not known")
    parts = [f"{format_usd(costs.spent)} spent" if costs.spent else "nothing spent yet"]
    if costs.wasted:
        parts[0] += f" ({format_usd(costs.wasted)} of it wasted)"
    if costs.reserved:
        parts.append(f"at most {format_usd(costs.reserved)} in flight")
    total = estimate_total(status)
    if total is not None and is_job_open(status):
        parts.append(f"about {format_usd(total)} in all")
    if budget_usd:
        parts.append(f"budget {format_usd(budget_usd)}")
    tight = bool(budget_usd and total is not None and total > budget_usd)
    return Sentence(", ".join(parts), WARNING if costs.wasted or tight else QUIET)


def estimate_total(status: Status) -> float | None:
    """Return the dollars that the whole job is expected to cost; None where a price is not known.

    Of what is in flight only the most that it may cost is recorded. It is taken to be used as far as the lines that are
    still to be sent are expected to use theirs; where none is left, as far as answers have cost so far.
    """
    costs, to_come = status.costs, status.expectation.dollars
    if costs.spent is None or costs.reserved is None or to_come.expected is None or to_come.most is None:
        return None
    if to_come.most:
        flying = costs.reserved * to_come.expected / to_come.most
    else:
        lines = sum(row.in_flight for row in status.priorities)
        answered = sum(row.done + row.dead for row in status.priorities)
        flying = lines * costs.spent / answered if answered and costs.spent else costs.reserved
    return costs.spent + min(flying, costs.reserved) + to_come.expected


def describe_waits(status: Status, now: float, zone: tzinfo | None) -> list[Sentence]:
    """Return who waits for what until when, the most general first; what waits for a person is among the next steps."""
    waits = [_describe_pause(pause, now, zone) for pause in status.pauses if not needs_person(pause, now)]
    for until, text in (
        (status.outage_until, "The service does not answer; it is called again"),
        (status.blocked_until, "The service has no room for more; it is asked again"),
        (status.direct_until, "The direct lane was refused or not answered; it calls again"),
    ):
        if until > now:
            waits.append(Sentence(f"{text} {format_until(until, now, zone)}."))
    if status.pilot is not None and not status.pilot.failed:
        waits.append(Sentence(f"{status.pilot.text[:1].upper()}{status.pilot.text[1:].rstrip('.')}."))
    waits += _describe_first_wave(status)
    for row in status.waiting_lines:
        lines = format_count(row.lines, "line")
        verb = "is" if row.lines == 1 else "are"
        when = format_until(row.first_at, now, zone)
        waits.append(Sentence(f"{lines} failed with {row.class_} and {verb} retried {when}."))
    for shard in status.waiting_shards:
        when = format_until(shard.until, now, zone)
        waits.append(Sentence(f"Shard {shard.shard} ({shard.state.replace('_', ' ')}) is tried again {when}."))
    return waits


def _describe_pause(pause: OpenPause, now: float, zone: tzinfo | None) -> Sentence:
    if pause.until is not None and pause.until > now:
        return Sentence(f"Paused ({pause.reason}); goes on {format_until(pause.until, now, zone)}.", WARNING)
    return Sentence(f"The pause ({pause.reason}) is over: one shard at a time until one succeeds.")


def _describe_first_wave(status: Status) -> list[Sentence]:
    """Return that lines wait for the first answers, where something is in flight and they do."""
    waiting = sum(row.lines for row in status.shards if row.state in {"released", "uploaded"})
    flying = sum(row.in_flight for row in status.priorities)
    if status.first_wave is None or not waiting or not flying:
        return []
    lines = format_count(waiting, "released line")
    return [Sentence(f"{lines} wait{'s' if waiting == 1 else ''} for the first answers of this prompt.")]


def describe_closing(status: Status, elapsed_s: float | None, files: Sequence[str] = ()) -> str:
    """Return what has become of a job in one line.

    elapsed_s: seconds from its first line sent to its end, None where none was sent. files: what was written.
    """
    parts = count_lines(status.states)
    lines = {part.name: part.lines for part in parts}
    total, over = sum_lines(parts), not is_job_open(status)
    accepted, nouns = lines["accepted"], current_nouns()
    bios = nouns.count_answers(accepted) if over else f"{accepted:,} of {total:,} {nouns.answers}"
    told = [bios, f"{lines['dead']:,} dead"]
    if lines["held"]:
        told.append(f"{lines['held']:,} held")
    told += [f"{lines[name]:,} {name}" for name in ("in flight", "to be retried", "not sent") if lines[name]]
    spent = status.costs.spent
    told.append("price unknown" if spent is None else f"{format_usd(spent)} spent")
    if elapsed_s is not None:
        told.append(format_duration(elapsed_s))
    if files:
        told.append(f"written to {' and '.join(files)}")
    return f"{'Done' if over else 'Not done'}: {', '.join(told)}."


def describe_progress(status: Status, zone: tzinfo | None) -> str:
    """Return how far a job is in one line, for where there is no screen."""
    parts = count_lines(status.states)
    total = sum_lines(parts)
    accepted = parts[0].lines
    told = [f"{accepted:,} of {total:,} lines accepted ({format_share(accepted, total)})"]
    told += [f"{part.lines:,} {part.name}" for part in parts[1:] if part.lines]
    spent = status.costs.spent
    if spent:
        told.append(f"{format_usd(spent)} spent")
    end = compute_end(status)
    if end is not None:
        told.append(f"done about {format_clock(end.expected, status.now, zone)}")
    elif is_job_open(status):
        told.append("waits for you")
    return ", ".join(told)
