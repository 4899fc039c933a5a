"""Pauses of sending, and the history of the quota. Functions of an open transaction."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from batcher.core.failures import FailureClass
from batcher.core.retry import Jitter, RetryRules, latest_wait_time, retry_delay_seconds
from batcher.core.snapshot import Pause
from batcher.state import facts
from batcher.state.db.transaction import Transaction
from batcher.state.versions import load_versions

if TYPE_CHECKING:  # `status` loads the pauses, and needs neither
    from batcher.core.direct.pacing import RateHeaders
    from batcher.state.submissions import Reservation


class QuotaRule(NamedTuple):
    """How quota failures are handled, by the failure table."""

    rules: RetryRules
    jitter: Jitter
    pause_s: float
    """How long (seconds) sending pauses when they do not end."""


def record_quota_failure(
    tx: Transaction,
    rule: QuotaRule,
    detail: str,
    said: str,
    sent_at: float | None = None,
    wait_s: float | None = None,
) -> None:
    """Record one quota failure and pause sending: longer each time, and for `rule.pause_s` after the last try.

    said: the service's own sentence; "" where it is not known. sent_at: when the request that failed was sent (epoch
    seconds); None: now. A request that was sent before a pause belongs to the incident that the pause is for, however
    late it ends, and pauses nothing. wait_s: the seconds of a Retry-After; no pause is shorter.
    """
    if said:
        facts.record_quota_sentence(tx, said)
    versions = load_versions(tx)
    record_refusal_sample(tx, versions[max(versions)].model, detail=f"insufficient quota ({detail})")
    policy = rule.rules.policies[FailureClass.QUOTA]
    latest = latest_wait_time(rule.rules, rule.pause_s, tx.now)
    earlier = [p for p in load_open_pauses(tx, latest) if p.reason == "quota"]
    (paused_until,) = tx.fetch_one("quota_paused_until", latest=latest)
    if paused_until is not None and (tx.now if sent_at is None else sent_at) < paused_until:
        tx.record_event("quota", f"{detail}: sent before the pause, so the same incident")
        return
    tries = max((p.tries for p in earlier), default=-1) + 1
    over = policy.tries is not None and tries >= policy.tries
    wait = rule.pause_s if over else retry_delay_seconds(policy, tries, rule.jitter(), rule.rules.jitter_share)
    pause_sending(
        tx, "all", "quota", tx.now + max(wait, wait_s or 0.0), f"insufficient quota ({detail})", 0 if over else tries
    )


def load_open_pauses(tx: Transaction, latest: float) -> tuple[Pause, ...]:
    """Return the pauses that were not ended, whether or not their time is over.

    latest: a time that is later was written by a clock that was ahead, and counts as past.
    """
    return tuple(Pause(*row) for row in tx.fetch_all("open_pauses", latest=latest))


def pause_sending(tx: Transaction, scope: str, reason: str, until: float | None, detail: str, tries: int = 0) -> None:
    """Stop sending in a scope (direct, all) until a time (epoch seconds; None: until the user resumes).

    An earlier pause for the same reason ends. tries: how many pauses for this reason preceded it.
    """
    _end_pauses(tx, [reason])
    tx.fetch_all("insert_pause", scope=scope, reason=reason, until=until, tries=tries, now=tx.now)
    tx.record_event("pause", detail)


def end_probed_pauses(tx: Transaction, sent_at: float, latest: float) -> None:
    """End the quota pauses that were over when a successful request was sent (`sent_at`, epoch seconds).

    latest: a pause until later was set by a clock that was ahead, and ends as well.
    """
    tx.fetch_all("end_probed_pauses", sent_at=sent_at, latest=latest, now=tx.now)


def end_lapsed_direct_pauses(tx: Transaction) -> None:
    """End the pauses of the direct lane whose time is over."""
    tx.fetch_all("end_pauses_over", now=tx.now)


def record_header_samples(tx: Transaction, model: str, headers: Sequence["RateHeaders"]) -> None:
    """Add a row to the quota history for each answer whose headers carried a rate limit."""
    rows = [_header_sample_row(tx.now, model, each) for each in headers if any(limit is not None for limit in each)]
    if rows:
        tx.insert_rows("quota_samples", rows)


def _header_sample_row(now: float, model: str, headers: "RateHeaders") -> tuple[object, ...]:
    """Return a row of the table: time, source, model, limit, reserved, own, headroom, shard, detail."""
    requests, tokens = headers.requests, headers.tokens
    detail = f"requests {requests.remaining:,} of {requests.limit:,} left" if requests else ""
    limit, left = (tokens.limit, tokens.remaining) if tokens else (None, None)
    return now, "header", model, limit, None, None, left, None, detail


def record_submission_sample(tx: Transaction, model: str, shard: int, reservation: "Reservation") -> None:
    """Add a submission to the history of the quota: what it reserves, and what it leaves."""
    _insert_sample(
        tx, "submission", model,
        shard=shard, limit_tokens=reservation.limit_tokens, reserved=reservation.reserved_before,
        own=reservation.reserved, headroom=reservation.headroom_after,
    )  # fmt: skip


def record_refusal_sample(
    tx: Transaction,
    model: str,
    detail: str | None = None,
    *,
    shard: int | None = None,
    limit_tokens: int | None = None,
    reserved: int | None = None,
) -> None:
    """Add a refusal to the history of the quota.

    limit_tokens: the limit that it names; reserved: the tokens that were in flight; None: it says nothing of it.
    """
    _insert_sample(tx, "refusal", model, shard=shard, limit_tokens=limit_tokens, reserved=reserved, detail=detail)


def _insert_sample(tx: Transaction, source: str, model: str, **values: int | str | None) -> None:
    """Add a row to the history of the quota; columns that are not among `values` are empty."""
    empty = dict.fromkeys(("limit_tokens", "reserved", "own", "headroom", "shard", "detail"))
    tx.fetch_all("insert_quota_sample", source=source, model=model, now=tx.now, **{**empty, **values})


def resume_sending(tx: Transaction) -> int:
    """End every pause, and every wait that the service has asked for; return how many pauses there were."""
    ended = _end_pauses(tx, None)
    for wait in (facts.WaitFact.OUTAGE, facts.WaitFact.ASKED, facts.WaitFact.RATE):
        facts.set_wait(tx, wait, 0)
    tx.record_event("resume", f"{ended} pause{'s' if ended != 1 else ''} ended")
    return ended


def _end_pauses(tx: Transaction, reasons: Sequence[str] | None) -> int:
    """End the open pauses for these reasons (None: for any); return how many there were."""
    return len(tx.fetch_all("end_pauses", reasons=reasons, now=tx.now))
