"""Pauses that begin by themselves: sending stops for a time. Functions of an open transaction."""

from dataclasses import dataclass

from batcher.core.retry import FailureClass, Jitter, Rules, delay_s, latest_wait
from batcher.state import intents
from batcher.state.db.transaction import Transaction
from batcher.state.plan import load_versions


@dataclass(frozen=True, slots=True)
class QuotaRule:
    """How the failure table has quota failures handled."""

    rules: Rules
    jitter: Jitter
    pause_s: float
    """How long sending pauses when they do not end."""


def quota_failed(
    tx: Transaction, rule: QuotaRule, detail: str, sent_at: float | None = None, wait_s: float | None = None
) -> None:
    """One quota event: sending pauses, longer each time, and for a day after the last try.

    sent_at: when that was sent which tells of it. What was sent before a pause tells of the same incident, however late
    it ends; a call (None) tells of now. wait_s: a Retry-After; no pause is shorter.
    """
    versions = load_versions(tx)
    intents.sample_quota(tx, "refusal", versions[max(versions)].model, None, detail=f"insufficient quota ({detail})")
    policy = rule.rules.policies[FailureClass.QUOTA]
    latest = latest_wait(rule.rules, rule.pause_s, tx.now)
    pauses = [p for p in intents.pauses(tx, latest) if p.reason == "quota"]
    (paused_until,) = tx.one("quota_paused_until", latest=latest)
    if paused_until is not None and (tx.now if sent_at is None else sent_at) < paused_until:
        tx.event("quota", f"{detail}: sent before the pause, so the same incident")
        return
    tries = max((p.tries for p in pauses), default=-1) + 1
    over = policy.tries is not None and tries >= policy.tries
    wait = rule.pause_s if over else delay_s(policy, tries, rule.jitter(), rule.rules.jitter_share)
    intents.pause(
        tx, "all", "quota", tx.now + max(wait, wait_s or 0.0), f"insufficient quota ({detail})", 0 if over else tries
    )
