"""Drawing reports for a terminal: pure functions from data to rich's tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.text import Text

from batcher.core.room import MeasuredUsage
from batcher.state.costs import Costs, sum_costs
from batcher.state.status import Status
from batcher.views.forecast import describe_expected_end
from batcher.views.sheet import (
    MOST_SHARDS,
    TitledTable,
    build_table,
    format_duration,
    format_time,
    format_usd,
    shorten_id,
)

SHARD_WAITS_FOR = {
    "released": "to be uploaded again",
    "uploading": "to find out what became of its upload",
    "uploaded": "to be sent again: it was refused",
    "creating": "to find out what became of its batch",
}


def draw_status(status: Status) -> RenderableType:
    """The job at one moment."""
    names = ["priority", "artists", "done before", "done", "in flight", "open", "held", "dead"]
    keys = ["priority", "artists", "done_before", "done", "in_flight", "open", "held", "dead"]
    parts: list[RenderableType] = [
        build_table("By priority", names, [[str(p[keys[0]]), *(p[key] for key in keys[1:])] for p in status.priorities])
    ]
    if status.batches:
        parts.append(_draw_batch_table(status))
    if status.failures:
        rows = [(f["class"], f["code"] or "", f["times"]) for f in status.failures]
        parts.append(build_table("Failures so far", ["class", "code", "times"], rows, 2))
    if status.lost:
        lost = [(f["state"], f["class"], f["code"] or "", f["artists"]) for f in status.lost]
        parts.append(build_table("Given up or held", ["state", "class", "code", "artists"], lost, 3))
    if len(status.shard_costs) > 1:
        columns = ["shard", "bios", "reserved", "spent", "saved", "wasted"]
        parts.append(build_table("Money by shard", columns, _shard_cost_rows(status.shard_costs)))
    return Group(*parts, *(Text(line) for line in _describe_status(status)))


def _batch_row(batch: Mapping[str, Any], now: float) -> tuple[Any, ...]:
    done = f"{batch['completed'] + batch['failed']:,} of {batch['lines']:,}"
    where = (batch["batch_id"], str(batch["shard"]), str(batch["priority"]), batch["status"])
    return (*where, done, format_duration(max(0.0, now - batch["recorded_at"])))


def _draw_batch_table(status: Status) -> TitledTable:
    rows = [_batch_row(batch, status.now) for batch in status.batches]
    return build_table(
        "In flight", ["batch", "shard", "priority", "status", "lines", "for"], rows, 4, ["priority", "for"]
    )


def _describe_status(status: Status) -> list[str]:
    lines = [
        f"Room: {status.reserved:,} of {status.ceiling:,} tokens are reserved (limit {status.limit:,}), "
        f"headroom {status.headroom:,}.",
        *_describe_refusals(status.refusals),
        _describe_job_costs(status),
        *_describe_measured_tokens(status.expectation.measured),
    ]
    lines += [_describe_waiting_lines(w) for w in status.waiting_lines]
    lines += [_describe_waiting_shard(w) for w in status.waiting_shards]
    lines += [_describe_pause(p["reason"], p["until"], status.now) for p in status.pauses]
    if status.blocked_until > status.now:
        lines.append(
            f"The service has no room for more; asked again at {format_time(status.blocked_until)} UTC at the latest."
        )
    if status.outage_until > status.now:
        lines.append(f"The service does not answer; asked again at {format_time(status.outage_until)} UTC.")
    if status.direct_until > status.now:
        lines.append(
            f"The direct lane was refused or not answered; it calls again at {format_time(status.direct_until)} UTC."
        )
    if status.stopped:
        lines.append(f"Stopped: {status.stopped}.")
    return [*lines, *_describe_outcome(status)]


def _describe_waiting_lines(wait: Mapping[str, Any]) -> str:
    return f"{wait['lines']:,} lines wait after {wait['class']}, the first until {format_time(wait['first_at'])} UTC."


def _describe_waiting_shard(wait: Mapping[str, Any]) -> str:
    return f"Shard {wait['shard']} waits until {format_time(wait['until'])} UTC {SHARD_WAITS_FOR[wait['state']]}."


def _describe_pause(reason: str, until: float | None, now: float) -> str:
    if until is not None and until <= now:
        return f"The pause ({reason}) is over: one shard at a time until one succeeds."
    return f"Paused ({reason}) until {_format_pause_end(until)}."


def _format_pause_end(moment: float | None) -> str:
    return f"{format_time(moment)} UTC" if moment else "`batcher resume`"


def _describe_refusals(refusals: Mapping[str, Any]) -> list[str]:
    if not refusals["times"]:
        return []
    named = f"; it named a limit of {refusals['named_limit']:,}" if refusals["named_limit"] else ""
    return [
        f"Refused for the limit {refusals['times']:,} times, last at {format_time(refusals['last_at'])} UTC with "
        f"{refusals['in_flight']:,} tokens reserved{named}."
    ]


def _describe_costs(costs: Costs) -> str:
    """What something has cost, and may."""
    if costs.spent is None or costs.reserved is None:
        return "The model's price is not known, so what is spent, saved, wasted and reserved is not known either"
    told = f"Spent {format_usd(costs.spent)}, of that {format_usd(costs.wasted)} on answers that gave no bio"
    if costs.saved:
        told += f"; {format_usd(costs.saved)} saved against the standard price"
    if costs.reserved:
        told += f"; at most {format_usd(costs.reserved)} in flight"
    return told


def _describe_job_costs(status: Status) -> str:
    told, to_come = _describe_costs(status.costs), status.expectation.dollars
    if to_come.expected is None and status.costs.spent is not None:
        return f"{told}; the price of what is to come is not known."
    if not to_come.expected:
        return f"{told}."
    bounds = f"{format_usd(to_come.best)} at best, {format_usd(to_come.most)} at most"
    return f"{told}; about {format_usd(to_come.expected)} to come ({bounds})."


def _shard_cost_rows(costs: Sequence[Costs]) -> list[Sequence[Any]]:
    """A row each, those beyond MOST_SHARDS as one."""
    shown = costs if len(costs) <= MOST_SHARDS else costs[: MOST_SHARDS - 1]
    rest = costs[len(shown) :]
    named = [("direct" if c.shard is None else str(c.shard), c) for c in shown]
    if rest:
        named.append((f"{len(rest)} more", sum_costs(rest)))
    return [(name, c.bios, *(format_usd(n) for n in (c.reserved, c.spent, c.saved, c.wasted))) for name, c in named]


def _describe_measured_tokens(seen: MeasuredUsage) -> list[str]:
    if not seen.has_enough_lines:
        return []
    taken = "" if seen.token_ratio == seen.input / seen.counted else f" (taken as {seen.token_ratio:g})"
    return [
        f"Measured on {seen.executed:,} lines: {seen.input / seen.counted:.3f} tokens for each counted one{taken}, "
        f"{seen.output / seen.executed:.0f} tokens an answer, {seen.retry_share:.1%} of the lines go again."
    ]


def _describe_outcome(status: Status) -> list[str]:
    """Where it will end, and what waits for a word of the user's; that it has ended where it has."""
    if not any(status.states.get(state) for state in ("ready", "waiting", "in_batch", "in_direct")):
        return ["Nothing is in flight or waits to be sent."]
    planned = next((s for s in status.shards if s["state"] == "planned"), None)
    told = describe_expected_end(status.expectation)
    if planned:
        told.append(f"{_format_shard_count(planned['shards'])} planned and not released; `batcher submit` releases.")
    return told


def _format_shard_count(count: int) -> str:
    return f"{count:,} shard is" if count == 1 else f"{count:,} shards are"


TRY_COLUMNS = ("at (UTC)", "outcome", "code", "batch", "tokens in", "out", "cost")


def draw_artist(artist: Mapping[str, Any]) -> RenderableType:
    """One artist's whole history."""
    head = Text(f"{artist['artist_name']} ({artist['artist_id']}), priority {artist['priority']}: {artist['state']}")
    parts: list[RenderableType] = [head]
    if artist["failure"]:
        parts.append(Text(f"last failure: {artist['failure']}, {artist['code']}: {artist['message']}"))
    if artist["bio"]:
        parts.append(Text("\n" + _bio_text(artist["bio"]["data"]) + "\n"))
    parts.append(Text(f"{_describe_costs(Costs(**artist['costs']))}."))
    rows = [_try_row(t) for t in artist["attempts_made"]]
    if rows:
        parts.append(build_table("Tries", TRY_COLUMNS, rows, 4, ["tokens in", "out", "cost"]))
    events = [_event_row(e) for e in artist["events"]]
    if events:
        parts.append(
            build_table("History of its line and its shards", ["at (UTC)", "event", "shard", "detail"], events, 4)
        )
    return Group(*parts)


def _try_row(made: Mapping[str, Any]) -> tuple[Any, ...]:
    where = made["batch_id"] or made["lane"]
    tokens = (made["tokens_input"], made["tokens_output"])
    return (
        format_time(made["happened_at"]),
        made["outcome"],
        made["code"] or "",
        where,
        *tokens,
        format_usd(made["cost_usd"]),
    )


def _event_row(event: Mapping[str, Any]) -> tuple[str, ...]:
    detail = " ".join(shorten_id(word) for word in str(event["detail"] or "").split())
    return format_time(event["happened_at"]), event["kind"].replace("_", " "), str(event["shard"] or ""), detail


def _bio_text(data: str) -> str:
    fields = orjson.loads(data)
    return str(fields.get("bio") or data)
