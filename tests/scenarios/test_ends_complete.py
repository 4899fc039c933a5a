"""Limits that move, money that is gone, batches that expire, a service that is down: the run ends complete."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batcher.core import events
from batcher.core.actions import Finish
from batcher.sandbox import Faults, SandboxSettings, apply_changes
from tests.support.world import World, config_with, write_table

pytestmark = pytest.mark.slow("whole jobs to their end, with every kind of fault")

HOUR = 3600.0
LINES, SHARDS = 60, 10
LIMIT = 40_000
"""Room for seven of the ten shards at once."""


def world(folder: Path, budget: float = 0.0, look_s: float = HOUR / 3, **faults: object) -> World:
    settings = apply_changes(SandboxSettings(), {"faults": apply_changes(Faults(), faults), "enqueued_tokens": LIMIT})
    config = config_with(
        limits={"lines_per_shard": LINES // SHARDS, "tokens_per_shard": LIMIT, "enqueued_tokens": LIMIT},
        poll={"interval_s": look_s},
        budget={"max_usd": budget},
    )
    made = World(folder, settings, config)
    made.plan(write_table(folder / "artists.csv", LINES, (1,)))
    made.release()
    assert made.rows("SELECT count(*) FROM shards") == [(SHARDS,)]
    return made


def ends_complete(job: World) -> None:
    assert job.act() == Finish()
    assert job.states() == {"done": LINES}
    assert job.sandbox.ledger.billing_totals()["usable_more_than_once"] == 0


def when_created(job: World, batches: int, happens: Callable[[], None]) -> None:
    """Does something to the service once so many batches were created."""
    record = job.record_event
    created = 0

    def react(event: events.Event) -> None:
        nonlocal created
        record(event)
        if isinstance(event, events.BatchCreated):
            created += 1
            if created == batches:
                happens()

    job.record_event = react  # type: ignore[method-assign]


def test_a_limit_that_is_halved_in_mid_run_is_learned_from_the_first_refusal(tmp_path: Path) -> None:
    job = world(tmp_path)
    when_created(job, 3, lambda: job.sandbox.update_settings({"enqueued_tokens": LIMIT // 2}))
    ends_complete(job)
    first = "(SELECT min(happened_at) FROM quota_samples WHERE source = 'refusal')"
    refused = job.rows("SELECT count(*), max(limit_tokens) FROM quota_samples WHERE source = 'refusal'")
    assert int(str(refused[0][0])) > 0
    assert refused[0][1] == LIMIT // 2
    late = f"SELECT 1 FROM submissions WHERE outcome LIKE 'refused%' AND create_intended_at > {first}"
    assert job.rows(late) == []  # what the service had named by then was kept to
    held = f"SELECT max(reserved_before + reserved) FROM submissions WHERE intended_at > {first}"
    assert int(str(job.rows(held)[0][0])) <= 0.8 * LIMIT / 2


def test_a_limit_that_is_raised_in_mid_run_does_no_harm(tmp_path: Path) -> None:
    job = world(tmp_path)
    when_created(job, 3, lambda: job.sandbox.update_settings({"enqueued_tokens": LIMIT * 2}))
    ends_complete(job)
    assert job.rows("SELECT 1 FROM quota_samples WHERE source = 'refusal'") == []


def test_a_quota_that_is_gone_at_the_seventh_of_ten_shards(tmp_path: Path) -> None:
    job = world(tmp_path)

    def gone() -> None:
        now = job.sandbox.now()
        job.sandbox.update_faults({"quota_gone_between": [now, now + HOUR / 2]})

    when_created(job, 7, gone)
    ends_complete(job)
    failed = job.rows("SELECT count(*), count(*) FILTER (counted) FROM attempts WHERE outcome = 'quota'")
    assert int(str(failed[0][0])) > 0
    assert failed[0][1] == 0  # no line paid for it
    assert job.rows("SELECT count(*) FROM pauses WHERE tries = 0 AND ended_at IS NOT NULL") == [(1,)]


def test_batches_that_all_expire(tmp_path: Path) -> None:
    job = world(tmp_path, look_s=4 * HOUR, expire_batches=tuple(range(1, SHARDS + 1)))
    ends_complete(job)
    assert len(job.rows("SELECT 1 FROM batches WHERE status = 'expired'")) == SHARDS


def test_a_service_that_is_down_for_an_hour(tmp_path: Path) -> None:
    job = world(tmp_path)

    def down() -> None:
        now = job.sandbox.now()
        job.sandbox.update_faults({"outage_between": [now, now + HOUR]})

    when_created(job, 4, down)
    ends_complete(job)
    assert job.rows("SELECT 1 FROM events WHERE kind = 'outage'") or events.CallFailed in job.kinds()
    assert job.rows("SELECT 1 FROM attempts WHERE outcome <> 'bio'") == []


@pytest.mark.parametrize("once", [True, False])
def test_a_budget_smaller_than_one_shard_sends_nothing(tmp_path: Path, once: bool) -> None:
    job = world(tmp_path, budget=0.0001)
    ended = job.act(once=once)
    assert isinstance(ended, Finish)
    assert ended.problem.startswith("shard 1 may cost $0.")
    assert "; $0.000100 of the budget of $0.000100 is left; raise [budget] max_usd to at least $0." in ended.problem
    assert job.rows("SELECT count(*) FROM submissions") == [(0,)]
