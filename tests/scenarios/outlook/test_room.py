"""The room under the limit: what a refusal tells of it, how a probe tests it, and how reservations are corrected."""

from pathlib import Path

import pytest

from batcher.state.reports.outlook import REFUSED_FOR_S
from batcher.state.snapshot import LEARNED_FOR_S, load_room
from tests.support.outlook_kit import LINES, MODEL, outlook, settings_with, status, status_text, world
from tests.support.world import write_table

pytestmark = pytest.mark.slow("forecasts while whole jobs run")


def test_a_refusal_tells_how_much_room_others_leave(tmp_path: Path) -> None:
    config = settings_with({"lines_per_shard": 30, "enqueued_tokens": 100_000})
    job = world(tmp_path, LINES, config)
    job.sandbox.update_settings({"enqueued_tokens": 100_000, "phantom_tokens": 60_000})
    job.act(once=True)
    job.clock.sleep(60)
    job.act(once=True)
    refused = job.rows("SELECT reserved, limit_tokens FROM quota_samples WHERE source = 'refusal'")
    assert refused
    reserved, named = refused[-1]
    told = f"Refused for the limit {len(refused)} times, last at"
    assert told in status_text(job)
    assert f"with {reserved:,} tokens reserved; it named a limit of {named:,}." in status_text(job)
    sent = job.rows(
        "SELECT intended_at, limit_tokens, reserved_before, reserved, headroom_after, shard "
        "FROM submissions ORDER BY ALL"
    )
    samples = "SELECT happened_at, limit_tokens, reserved, own, headroom, shard FROM quota_samples"
    assert job.rows(f"{samples} WHERE source = 'submission' AND model = '{MODEL}' ORDER BY ALL") == sent
    assert [row.source for row in status(job).quota].count("submission") == len(sent)
    assert len(status(job).quota) == len(sent) + len(refused)
    view = outlook(job)
    assert view.load.ceiling < int(view.room.limit * view.room.threshold)
    assert view.load.ceiling >= view.room.reserved
    job.clock.sleep(REFUSED_FOR_S + LEARNED_FOR_S)
    later = outlook(job)
    assert later.load.ceiling == int(later.room.limit * later.room.threshold)


def test_a_probe_does_not_wait_for_what_was_sent_before_the_pause(tmp_path: Path) -> None:
    job = world(tmp_path, 120)
    job.act(once=True)
    with job.store.transaction("pause") as tx:
        tx.fetch_all("insert_pause", scope="all", reason="quota", until=tx.now + 60, tries=0, now=tx.now)
    job.plan(write_table(tmp_path / "artists.csv", 240, (1, 2)))
    job.release()
    before = len(job.sandbox.lifecycle.batches)
    job.clock.sleep(61)
    job.act(once=True)
    assert len(job.sandbox.lifecycle.batches) == before + 1


def test_reservations_of_a_ratio_that_was_too_low_are_raised(tmp_path: Path) -> None:
    job = world(tmp_path, 60)
    job.act(once=True)
    with job.store.read_transaction() as tx:
        before = load_room(tx, job.config).reserved
    with job.store.transaction("test") as tx:
        tx.con.execute("UPDATE batches SET settled_at = 1, executed = 500, counted_tokens = 1000, used_input = 1500")
        after = load_room(tx, job.config).reserved
    assert after == pytest.approx(1.5 * before, rel=0.001)
