"""Draw the status of a job and the history of an artist: pure functions from data to rich's tables."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.core.lifecycle import count_open_artists
from batcher.core.room import MeasuredUsage
from batcher.nouns import current_nouns
from batcher.state.costs import Costs, sum_costs
from batcher.state.reports.status import (
    ArtistAttempt,
    ArtistHistory,
    OpenPause,
    RoomRefusals,
    Status,
)
from batcher.views.answers import describe_answer
from batcher.views.forecast import describe_expected_end
from batcher.views.moments import format_clock, localize
from batcher.views.next_steps import describe_next_steps, needs_person
from batcher.views.sheet import (
    MOST_SHARDS,
    Cell,
    TitledTable,
    build_table,
    format_count,
    format_duration,
    format_time,
    format_usd,
    format_usd_column,
    name_with_id,
)

SHARD_WAITS_FOR = {
    "released": "to be uploaded again",
    "uploading": "to find out what became of its upload",
    "uploaded": "to be sent again: it was refused",
    "creating": "to find out what became of its batch",
}
"""What a shard waits for, by its state."""

TRY_COLUMNS = ("at (UTC)", "outcome", "code", "batch", "tokens in", "out", "cost")
"""The columns of the table of an artist's tries."""

EVENT_WORDS = {
    "intend_upload": "upload begins",
    "record_upload": "uploaded",
    "intend_create": "batch requested",
    "record_create": "batch recorded",
    "batch": "batch created",
    "status": "batch status",
    "end": "batch ended",
    "settle": "shard ended",
    "settled": "results taken in",
}
"""The events of a shard in words; others are called by their names."""


def _format_moment(at: float, now: float) -> str:
    """Return a moment (epoch seconds) with its zone and its distance: "17:48 UTC, in 4 min"."""
    clock = format_clock(at, now).removesuffix(" today")
    distance = f"in {format_duration(at - now)}" if at >= now else f"{format_duration(now - at)} ago"
    return f"{clock} {localize(at):%Z}, {distance}"


def draw_status(status: Status) -> RenderableType:
    """Return the drawing of a job at one moment."""
    nouns = current_nouns()
    names = ["priority", nouns.rows, "done before", "done", "in flight", "open", "held", "dead"]
    parts: list[RenderableType] = [
        build_table("By priority", names, [[str(row.priority), *row[1:]] for row in status.priorities])
    ]
    if status.batches:
        parts.append(_draw_batch_table(status))
    if status.failures:
        failures = [(row.class_, row.code or "", row.times) for row in status.failures]
        parts.append(build_table("Failures so far", ["class", "code", "times"], failures, 2))
    if status.lost:
        lost = [(row.state, row.class_, row.code or "", row.artists) for row in status.lost]
        parts.append(build_table("Given up or held", ["state", "class", "code", nouns.rows], lost, 3))
    if len(status.shard_costs) > 1:
        columns = ["shard", nouns.answers, "reserved", "spent", "saved", "wasted"]
        parts.append(build_table("Money by shard", columns, _shard_cost_rows(status.shard_costs)))
    return Group(*parts, *(Text(line) for line in _describe_status(status)))


def _draw_batch_table(status: Status) -> TitledTable:
    rows: list[Sequence[Cell]] = []
    for batch in status.batches:
        done = f"{batch.completed + batch.failed:,} of {batch.lines:,}"
        age = format_duration(max(0.0, status.now - batch.recorded_at))
        rows.append((batch.batch_id, str(batch.shard), str(batch.priority), batch.status, done, age))
    return build_table(
        "In flight", ["batch", "shard", "priority", "status", "lines", "for"], rows, 4, ["priority", "for"]
    )


def _describe_status(status: Status) -> list[str]:
    nouns = current_nouns()
    lines = [
        f"Room: {status.reserved:,} of {status.ceiling:,} tokens are reserved (limit {status.limit:,}), "
        f"headroom {status.headroom:,}.",
        *_describe_refusals(status.refusals, status.now),
        _describe_job_costs(status),
        *_describe_measured_tokens(status.expectation.measured),
    ]
    if status.asked_again:
        counts = ", ".join(f"{n:,} {state.replace('_', ' ')}" for state, n in status.asked_again.items())
        lines.append(f"Asked for again, each with its earlier {nouns.answer}: {counts}.")
    if status.following:
        waits = "waits" if status.following == 1 else "wait"
        lines.append(
            f"{status.following:,} of the open {nouns.rows} {waits} for the {nouns.answer} of another one, which asks "
            "the same."
        )
    lines += [
        f"{format_count(w.lines, 'line')} {'waits' if w.lines == 1 else 'wait'} after {w.class_}, "
        f"{'' if w.lines == 1 else 'the first '}until {_format_moment(w.first_at, status.now)}."
        for w in status.waiting_lines
    ]
    lines += [
        f"Shard {w.shard} waits until {_format_moment(w.until, status.now)}, {SHARD_WAITS_FOR[w.state]}."
        for w in status.waiting_shards
    ]
    lines += [_describe_pause(pause, status.now) for pause in status.pauses if not needs_person(pause, status.now)]
    if status.blocked_until > status.now:
        lines.append(
            "The service has no room for more; asked again at the latest at "
            f"{_format_moment(status.blocked_until, status.now)}."
        )
    if status.outage_until > status.now:
        lines.append(f"The service does not answer; asked again at {_format_moment(status.outage_until, status.now)}.")
    if status.direct_until > status.now:
        lines.append(
            "The direct lane was refused or not answered; it calls again at "
            f"{_format_moment(status.direct_until, status.now)}."
        )
    if status.pilot is not None and not status.pilot.failed:
        lines.append(f"{status.pilot.text}.")
    lines += _describe_first_wave(status)
    return [*lines, *_describe_outcome(status), *(step.sentence for step in describe_next_steps(status))]


def _describe_first_wave(status: Status) -> list[str]:
    """Return that lines wait for the first answers, where something is in flight and they do."""
    waiting = sum(row.lines for row in status.shards if row.state in {"released", "uploaded"})
    flying = sum(row.in_flight for row in status.priorities)
    if status.first_wave is None or not waiting or not flying:
        return []
    return [f"A first wave is in flight; {waiting:,} released lines wait until some of its answers were judged."]


def _describe_pause(pause: OpenPause, now: float) -> str:
    """Return until when it is paused, or that it is over."""
    if pause.until is not None and pause.until <= now:
        return f"The pause ({pause.reason}) is over: one shard at a time until one succeeds."
    return f"Paused ({pause.reason}) until {_format_moment(pause.until or 0.0, now)}."


def _describe_refusals(refusals: RoomRefusals, now: float) -> list[str]:
    if not refusals.times:
        return []
    named = f"; it named a limit of {refusals.named_limit:,}" if refusals.named_limit else ""
    return [
        f"Refused for the limit {format_count(refusals.times, 'time')}, last at "
        f"{_format_moment(refusals.last_at or 0.0, now)}, with {refusals.in_flight:,} tokens reserved{named}."
    ]


def _describe_costs(costs: Costs) -> str:
    """Return what something has cost, and may cost."""
    if costs.spent is None or costs.reserved is None:
        return "The model's price is not known, so what is spent, saved, wasted and reserved is not known either"
    text = f"Spent {format_usd(costs.spent)}" if costs.spent else "Spent nothing yet"
    if costs.wasted:
        text += f", of that {format_usd(costs.wasted)} on answers of no use"
    if costs.saved:
        text += f"; {format_usd(costs.saved)} saved against the standard price"
    if costs.reserved:
        text += f"; at most {format_usd(costs.reserved)} in flight"
    return text


def _describe_job_costs(status: Status) -> str:
    so_far, to_come = _describe_costs(status.costs), status.expectation.dollars
    if to_come.expected is None and status.costs.spent is not None:
        return f"{so_far}; the price of what is to come is not known."
    if not to_come.expected:
        return f"{so_far}."
    bounds = f"{format_usd(to_come.best)} at best, {format_usd(to_come.most)} at most"
    return f"{so_far}; about {format_usd(to_come.expected)} to come ({bounds})."


def _shard_cost_rows(costs: Sequence[Costs]) -> list[Sequence[Cell]]:
    """Return a row for each shard; those beyond MOST_SHARDS are summed up in one."""
    shown = costs if len(costs) <= MOST_SHARDS else costs[: MOST_SHARDS - 1]
    rest = costs[len(shown) :]
    named = [("direct" if c.shard is None else str(c.shard), c) for c in shown]
    if rest:
        named.append((_name_shards(rest), sum_costs(rest)))
    amounts = [[c.reserved for _, c in named], [c.spent for _, c in named], [c.saved for _, c in named]]
    columns = [format_usd_column(column) for column in [*amounts, [c.wasted for _, c in named]]]
    return [(name, c.bios, *dollars) for (name, c), *dollars in zip(named, *columns, strict=True)]


def _name_shards(costs: Sequence[Costs]) -> str:
    """Return the shards of one row, from the first to the last; the direct lane stands apart."""
    numbers = [cost.shard for cost in costs if cost.shard is not None]
    names = [f"{numbers[0]} to {numbers[-1]}"] if len(numbers) > 1 else [str(number) for number in numbers]
    return " and ".join([*names, *(["direct"] if len(numbers) < len(costs) else [])])


def _describe_measured_tokens(measured: MeasuredUsage) -> list[str]:
    if not measured.has_enough_lines:
        return []
    ratio = measured.input / measured.counted
    thought = f" ({measured.reasoning / measured.executed:.0f} of them thinking)" if measured.reasoning else ""
    again = f"{measured.retry_share:.1%} of the lines had" if measured.retry_share else "no line had"
    return [
        f"Measured on {measured.executed:,} answers: {measured.output / measured.executed:.0f} tokens each{thought}; "
        f"{_describe_count_error(ratio, measured.token_ratio)}; {again} to be asked again."
    ]


def _describe_count_error(ratio: float, used: float) -> str:
    """Return how well tokens of input are counted. ratio: tokens for each counted one; used: by the forecast."""
    bounded = "" if used == ratio else f" (taken as {used:g})"
    off = abs(ratio - 1)
    if off < 0.1:
        return f"our count of the input is right to {off:.1%}{bounded}"
    return f"the input has {ratio:.2f} tokens for each counted one{bounded}"


def _describe_outcome(status: Status) -> list[str]:
    """Return when the job will end, or that it has ended."""
    if not count_open_artists(status.states):
        return ["Nothing is in flight or waits to be sent."]
    return describe_expected_end(status.expectation)


def draw_artist(artist: ArtistHistory) -> RenderableType:
    """Return the drawing of one artist's whole history."""
    named = name_with_id(artist.artist_id, artist.artist_name)
    head = Text(f"{named}, priority {artist.priority}: {artist.state}")
    parts: list[RenderableType] = [head]
    if artist.failure:
        parts.append(Text(f"last failure: {artist.failure}, {artist.code}: {artist.message}"))
    if artist.same_as is not None:
        parts.append(Text(_describe_leader(artist.state, artist.same_as)))
    if artist.asked_again:
        earlier = f"this is the earlier {current_nouns().answer}, which stays until another one is accepted"
        parts.append(Text(f"asked for again; {earlier}"))
    if artist.bio:
        parts.append(Text(f"\n{describe_answer(artist.bio.data)}\n"))
    parts.append(Text(f"{_describe_costs(artist.costs)}."))
    tries = [_try_row(attempt) for attempt in artist.attempts_made]
    if tries:
        parts.append(build_table("Tries", TRY_COLUMNS, tries, 4, ["tokens in", "out", "cost"]))
    events: list[Sequence[Cell]] = []
    for event in artist.events:
        detail = " ".join((event.detail or "").split())
        kind = EVENT_WORDS.get(event.kind, event.kind.replace("_", " "))
        events.append((format_time(event.happened_at), kind, str(event.shard or ""), detail))
    if events:
        parts.append(
            build_table("History of its line and its shards", ["at (UTC)", "event", "shard", "detail"], events, 4)
        )
    return Group(*parts)


def _describe_leader(state: str, leader: str) -> str:
    """Return whose line asks the same, and what that means for an artist in this state."""
    nouns = current_nouns()
    what = {
        "ready": f"whose {nouns.answer} is awaited",
        "done": f"whose {nouns.answer} this is, at no cost",
    }.get(state, "and it ended with that line")
    return f"asks the same as {leader}, {what}; `batcher show {leader}` has its tries"


def _try_row(attempt: ArtistAttempt) -> Sequence[Cell]:
    return (
        format_time(attempt.happened_at),
        current_nouns().name_outcome(attempt.outcome),
        attempt.code or "",
        attempt.batch_id or attempt.lane,
        attempt.tokens_input,
        attempt.tokens_output,
        format_usd(attempt.cost_usd),
    )
