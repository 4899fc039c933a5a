"""The single facts of a job, each with its type: why it stopped, until when the service wants no calls, and the like.

They are rows of the table `facts`, read once a transaction. The names of the tables that plans were made from are
rows of it too (state/plan.py).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import orjson

from batcher.catalog.prices import ModelPrices, TokenRates
from batcher.state.db.transaction import Transaction

MOST_SAID = 500
"""Characters that are kept of a sentence of the service."""


class WaitFact(StrEnum):
    """The times before which something may not be done, by the name of the fact that keeps each."""

    OUTAGE = "outage_until"
    """No call at all: the service does not answer."""
    ASKED = "asked_until"
    """No call at all: the service asked for it by a Retry-After. Unlike an outage it outlives the process."""
    ROOM = "blocked_until"
    """No shard: the service refused one for its enqueued-token limit."""
    RATE = "send_after"
    """No shard: the service refused one for its rate."""
    DIRECT = "direct_until"
    """No call of the direct lane."""


def read_wait(tx: Transaction, wait: WaitFact, latest: float) -> float:
    """Return the time (epoch seconds) until which to wait; 0 where there is nothing to wait for.

    latest: a later time was set by a clock that was ahead, and counts as past. For facts that is decided here alone.
    """
    until = tx.read_fact(wait.value)
    return until if until <= latest else 0.0


def set_wait(tx: Transaction, wait: WaitFact, until: float) -> None:
    """Set a time to wait for; 0 ends the wait."""
    tx.write_fact(wait.value, until)


def extend_wait(tx: Transaction, wait: WaitFact, until: float) -> None:
    """Set a time to wait for, unless a later one is set already."""
    tx.write_fact(wait.value, max(until, tx.read_fact(wait.value)))


def read_stop_reason(tx: Transaction) -> str:
    """Return why nothing is sent until the user has acted; "" where sending goes on."""
    return tx.read_text_fact("stopped")


def stop_sending(tx: Transaction, reason: str) -> None:
    """Send nothing more until the user has acted. reason: a sentence for the user."""
    tx.write_fact("stopped", text=reason)


def clear_stop_reason(tx: Transaction) -> None:
    """Forget why an earlier command stopped."""
    tx.write_fact("stopped", text="")


def read_quota_sentence(tx: Transaction) -> str:
    """Return what the service last said when the quota was used up; "" where it never said anything."""
    return tx.read_text_fact("quota_said")


def record_quota_sentence(tx: Transaction, sentence: str) -> None:
    """Record what the service says of a used up quota, for the user."""
    tx.write_fact("quota_said", text=sentence[:MOST_SAID])


def read_told_marks(tx: Transaction) -> dict[str, str]:
    """Return the marks of what `[notify]` was given, by kind (`core.notices.decide`)."""
    return dict(orjson.loads(tx.read_text_fact("told") or "{}"))


def record_told_marks(tx: Transaction, marks: Mapping[str, str]) -> None:
    """Record the marks of what `[notify]` was given."""
    tx.write_fact("told", text=orjson.dumps(marks).decode())


def read_limit_hint(tx: Transaction, model: str) -> int:
    """Return the batch tokens that OpenAI named to an admin key for the project and a model; 0 where it never did."""
    return int(tx.read_fact(f"limit_hint {model}"))


def record_limit_hint(tx: Transaction, model: str, tokens: int) -> None:
    """Record the batch tokens that OpenAI names to an admin key for the project and a model."""
    tx.write_fact(f"limit_hint {model}", tokens)


def read_brake_resumed(tx: Transaction) -> int:
    """Return how many executions were recorded when the user last decided to go on although the brake had tripped.

    Only later ones count. 0: the user never did.
    """
    return int(tx.read_fact("brake_resumed"))


def record_brake_resumed(tx: Transaction, executions: int) -> None:
    """Record that the user goes on, whatever the first `executions` answers were."""
    tx.write_fact("brake_resumed", executions)


def read_newest_pilot(tx: Transaction) -> int:
    """Return the number of the newest pilot that was ever recorded; 0 where none was.

    It costs no statement of its own, and most looks find none.
    """
    return int(tx.read_fact("pilots"))


def record_pilot_made(tx: Transaction, pilot: int) -> None:
    """Record that there are pilots. pilot: the number of the newest."""
    tx.write_fact("pilots", pilot)


def read_poll_time(tx: Transaction) -> float:
    """Return when the batches were last listed (epoch seconds); 0 where they never were."""
    return tx.read_fact("polled_at")


def record_poll(tx: Transaction) -> None:
    """Record that the batches were listed now, and so that the service answers."""
    tx.write_fact("polled_at", tx.now)
    tx.write_fact("outages", 0)


def forget_poll(tx: Transaction) -> None:
    """Have the batches listed at the next opportunity, and end the wait of an outage."""
    tx.write_fact("polled_at", 0)
    set_wait(tx, WaitFact.OUTAGE, 0)


def count_outage(tx: Transaction) -> int:
    """Count a call that failed; return how many failed in a row before it."""
    return _increment_fact(tx, "outages")


def count_unknown_call(tx: Transaction) -> int:
    """Count a call whose outcome is unknown; return how many there were in a row before it."""
    return _increment_fact(tx, "unknown_calls")


def reset_unknown_calls(tx: Transaction) -> None:
    """Record that a call had an outcome."""
    tx.write_fact("unknown_calls", 0)


def count_room_refusal(tx: Transaction) -> int:
    """Count a refusal for the enqueued-token limit; return how many there were in a row before it."""
    return _increment_fact(tx, "room_refusals")


def reset_room_refusals(tx: Transaction) -> None:
    """Record that the service accepted a shard within the limit."""
    tx.write_fact("room_refusals", 0)


def _increment_fact(tx: Transaction, name: str) -> int:
    count = int(tx.read_fact(name))
    tx.write_fact(name, count + 1)
    return count


def read_listing_lag(tx: Transaction) -> float:
    """Return the longest time (seconds) that was seen between a batch's creation and a listing that shows it."""
    return tx.read_fact("listing_lag_s")


def record_listing_lag(tx: Transaction, lag_s: float) -> None:
    """Record how late a listing was, where it was later than any before."""
    tx.write_fact("listing_lag_s", max(lag_s, read_listing_lag(tx)))


class OpenSubmit(NamedTuple):
    """A `submit` that has not come to its end: how many shards it was to release, and how many it has released."""

    most: int
    released: int


def read_open_submit(tx: Transaction) -> OpenSubmit | None:
    """Return the `submit` that was interrupted; None where the last one has ended."""
    most = tx.read_text_fact("open_submit")
    return OpenSubmit(int(most), int(tx.read_fact("open_submit"))) if most else None


def record_open_submit(tx: Transaction, submit: OpenSubmit) -> None:
    """Record that a `submit` has released shards, until `end_open_submit`."""
    tx.write_fact("open_submit", submit.released, str(submit.most))


def end_open_submit(tx: Transaction) -> None:
    """Forget the last `submit`: the next one releases shards of its own."""
    if read_open_submit(tx) is not None:
        tx.write_fact("open_submit")


def read_worker_rate(tx: Transaction) -> float:
    """Return the lines that one worker of the direct lane does in a second; 0 where that was never measured."""
    return tx.read_fact("direct_per_worker_s")


def record_worker_rate(tx: Transaction, lines_per_s: float) -> None:
    """Record the lines that one worker of the direct lane has done in a second."""
    tx.write_fact("direct_per_worker_s", lines_per_s)


def has_reached_service(tx: Transaction) -> bool:
    """Return whether the service has ever answered this job."""
    return tx.read_fact("reached_at") > 0


def record_service_reached(tx: Transaction) -> None:
    """Record that the service has answered."""
    tx.write_fact("reached_at", tx.now)


def read_service_origin(tx: Transaction) -> str:
    """Return the address (scheme, host, port, path) of the service that has this job's work; "" before any contact."""
    return tx.read_text_fact("service")


def record_service_origin(tx: Transaction, origin: str) -> None:
    """Record the address of the service that has this job's work."""
    tx.write_fact("service", text=origin)


def read_plan_options(tx: Transaction) -> str:
    """Return the options of the last plan as JSON; "" where it kept none."""
    return tx.read_text_fact("planned_with")


def save_plan_options(tx: Transaction, options: str) -> None:
    """Keep the options of this plan, as JSON."""
    tx.write_fact("planned_with", text=options)


def load_prices(tx: Transaction, model: str) -> ModelPrices | None:
    """Return the prices of a model as they were saved. Raises KeyError where none were, or by an older version that
    knew no price of writing to the cache; None: they are unknown."""
    kept = tx.read_text_fact(f"prices {model}")
    if not kept:
        raise KeyError(model)
    found = orjson.loads(kept)
    if found and "written" not in found["batch"]:
        raise KeyError(model)
    return ModelPrices(TokenRates(**found["batch"]), TokenRates(**found["standard"])) if found else None


def save_prices(tx: Transaction, model: str, prices: ModelPrices | None) -> None:
    """Keep the prices of a model, so that `status` does not load the table of all models."""
    kept = {lane: rates._asdict() for lane, rates in prices._asdict().items()} if prices else None
    tx.write_fact(f"prices {model}", text=orjson.dumps(kept).decode())
