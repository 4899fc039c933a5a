"""Several batches of one shard: whose answer counts, and what the others cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from batcher.catalog.prices import resolve_prices
from batcher.core import events
from batcher.sandbox.api.batches import Batch
from batcher.state import strays, submissions
from batcher.state.costs import costs_by_shard, sum_costs
from batcher.state.versions import load_versions
from tests.support.results_kit import HOURS, LINES, Bench, Make, failed


class Twins(Bench):
    """Two batches of one shard: the recorded one, and a stray that a lost answer left."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        with self.world.store.read_transaction() as tx:
            run_id = tx.fetch_one("run")[0]
        client = self.world.service()
        wish = self.batch.request
        metadata = dict(wish.metadata or {})
        assert metadata["batcher_run"] == run_id
        self.recorded = self.batch
        self.world.clock.sleep(5)
        client.create_batch(wish.input_file_id, wish.endpoint, metadata)
        self.stray = list(self.world.sandbox.lifecycle.batches.values())[-1]
        self.world.clock.sleep(3 * HOURS)
        self.world.sandbox.run_due_events()


@pytest.fixture
def twins(make: Make) -> Bench:
    return make(Twins)


def fail_in(bench: Bench, batch: Batch, bad: Mapping[int, tuple[int, str]], absent: Sequence[int] = ()) -> None:
    """Make lines of a batch fail, by number, or leave them out of both files."""
    bench.batch = batch
    rows = sorted(bench.read(), key=lambda row: str(row["custom_id"]))
    good = [row for n, row in enumerate(rows) if n not in bad and n not in absent]
    bench.write(good)
    bench.write([failed(rows[n], *how) for n, how in bad.items()], "error")
    batch.completed, batch.failed, batch.total = len(good), len(bad), len(rows)


def verdicts(bench: Bench) -> dict[str, tuple[object, ...]]:
    rows = bench.world.rows("SELECT artist_id, state, failure, attempts FROM artists WHERE state <> 'done'")
    return {str(row[0]): row[1:] for row in rows}


def test_successes_of_both_are_taken_and_the_second_is_wasted_cost(twins: Twins) -> None:
    fail_in(twins, twins.recorded, {0: (500, "server_error"), 1: (500, "server_error")})
    fail_in(twins, twins.stray, {1: (500, "server_error"), 2: (500, "server_error")})
    twins.act()
    assert verdicts(twins).keys() == {"a00001"}
    assert twins.outcomes()["repeated"] == LINES - 3
    assert twins.count("attempts", "outcome = 'repeated' AND cost_usd > 0") == LINES - 3
    assert "second answers" in twins.odd()
    with twins.world.store.read_transaction() as tx:
        wasted = sum_costs(costs_by_shard(tx, load_versions(tx), resolve_prices)).wasted
    assert wasted


def test_a_failure_of_the_first_is_kept_where_the_second_lacks_the_line(twins: Twins) -> None:
    fail_in(twins, twins.stray, {0: (400, "context_length_exceeded"), 1: (500, "server_error")})
    fail_in(twins, twins.recorded, {}, absent=(0, 1))
    for _ in range(4):
        twins.act_later()
    assert verdicts(twins)["a00000"] == ("dead", "invalid", 1)
    assert verdicts(twins)["a00001"][1:] == ("server", 1)


def test_what_was_not_executed_says_less_than_what_was(twins: Twins) -> None:
    fail_in(twins, twins.recorded, {0: (500, "server_error")})
    fail_in(twins, twins.stray, {0: (0, "batch_cancelled"), 1: (0, "batch_cancelled")})
    twins.act()
    assert verdicts(twins)["a00000"][1:] == ("server", 1)
    assert twins.count("attempts", "artist_id = 'a00000' AND counted") == 1


def test_failures_wait_for_the_last_sibling(twins: Twins) -> None:
    fail_in(twins, twins.stray, {0: (500, "server_error")})
    fail_in(twins, twins.recorded, {0: (500, "server_error")})
    assert twins.recorded.output_file_id is not None
    twins.world.sandbox.files._files[twins.recorded.output_file_id].ready_at = twins.world.clock() + HOURS
    twins.act()
    assert verdicts(twins) == {"a00000": ("in_batch", None, 0)}
    twins.act(once=False)
    assert twins.world.states() == {"done": LINES}


def test_a_late_batch_of_a_settled_shard_gives_what_is_still_wanted(make: Make) -> None:
    twins = make(Twins)
    assert isinstance(twins, Twins)
    del twins.world.sandbox.lifecycle.batches[twins.stray.id]  # not seen yet
    fail_in(twins, twins.recorded, {0: (400, "context_length_exceeded"), 1: (429, "insufficient_quota")})
    twins.act()
    assert twins.world.states() == {"done": LINES - 2, "dead": 1, "ready": 1}
    twins.world.sandbox.lifecycle.batches[twins.stray.id] = twins.stray
    late = twins.world.service().retrieve_batch(twins.stray.id)
    assert late is not None
    with twins.world.store.transaction("late") as tx:
        assert strays.record_found_batch(tx, submissions.load_submission(tx, 1), late) == events.StrayFound(
            1, late.batch_id
        )
    twins.act()
    assert twins.world.states() == {"done": LINES}
    assert twins.outcomes()["repeated"] == LINES - 2
