"""Pauses that begin by themselves: sending stops for a time. Functions of an open transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from batcher.core.failures import FailureClass
from batcher.core.retry import Jitter, RetryRules, latest_wait_time, retry_delay_seconds
from batcher.core.snapshot import Pause
from batcher.state.db.transaction import Transaction
from batcher.state.submissions import Reservation
from batcher.state.versions import load_versions


@dataclass(frozen=True, slots=True)
class QuotaRule:
    """How the failure table has quota failures handled."""

    rules: RetryRules
    jitter: Jitter
    pause_s: float
    """How long sending pauses when they do not end."""


def record_quota_failure(
    tx: Transaction, rule: QuotaRule, detail: str, sent_at: float | None = None, wait_s: float | None = None
) -> None:
    """One quota event: sending pauses, longer each time, and for a day after the last try.

    sent_at: when that was sent which tells of it. What was sent before a pause tells of the same incident, however late
    it ends; a call (None) tells of now. wait_s: a Retry-After; no pause is shorter.
    """
    versions = load_versions(tx)
    record_quota_sample(tx, "refusal", versions[max(versions)].model, None, detail=f"insufficient quota ({detail})")
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
    """The pauses that have not been ended, over or not. latest: as for `views`."""
    return tuple(Pause(*row) for row in tx.fetch_all("open_pauses", latest=latest))


def pause_sending(tx: Transaction, scope: str, reason: str, until: float | None, detail: str, tries: int = 0) -> None:
    """Stops sending in a scope (direct, all) until a time; an earlier pause for the same reason ends."""
    _end_pauses(tx, [reason])
    tx.fetch_all("insert_pause", scope=scope, reason=reason, until=until, tries=tries, now=tx.now)
    tx.record_event("pause", detail)


def record_quota_sample(
    tx: Transaction, source: str, model: str, reservation: Reservation | None, **more: object
) -> None:
    """Adds a row to the quota history. more: limit_tokens, reserved, shard, detail."""
    values: dict[str, object] = {"limit_tokens": None, "shard": None, "detail": None}
    taken: dict[str, object] = {"reserved": None, "own": None, "headroom": None}
    if reservation is not None:
        values["limit_tokens"] = reservation.limit_tokens
        taken = {
            "reserved": reservation.reserved_before,
            "own": reservation.reserved,
            "headroom": reservation.headroom_after,
        }
    tx.fetch_all("insert_quota_sample", source=source, model=model, now=tx.now, **{**values, **taken, **more})


def resume_sending(tx: Transaction) -> int:
    """End every pause; return how many there were."""
    ended = _end_pauses(tx, None)
    tx.record_event("resume", f"{ended} pauses ended")
    return ended


def _end_pauses(tx: Transaction, reasons: Sequence[str] | None) -> int:
    """End the open pauses for these reasons (None: for any); return how many there were."""
    return len(tx.fetch_all("end_pauses", reasons=reasons, now=tx.now))
