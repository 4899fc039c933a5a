"""`cancel` and `retry`: what the user requests by hand, and what it may not change."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batcher.catalog.prices import resolve_prices
from batcher.core.actions import Finish
from batcher.core.decide import decide_cancel_actions
from batcher.core.failures import FailureClass
from batcher.core.lifecycle import ArtistState
from batcher.errors import InputError
from batcher.lanes.batch.runner import BatchRunner
from batcher.sandbox.api.batches import Batch
from batcher.state import wishes
from batcher.state.reports.status import read_artist
from batcher.state.wishes import CancelResult, RetriedLines, RetryFilter, RetryResult
from tests.support.results_kit import HOURS, LINES, Bench, failed
from tests.support.results_kit import Make as MakeBench

Make = Callable[..., "Job"]


class Job(Bench):
    """A job whose batches have been started, and not ended."""

    def run_batch(self) -> Batch:
        """Send what can be sent."""
        self.world.act(once=True)
        return list(self.world.sandbox.lifecycle.batches.values())[-1]

    def end(self) -> None:
        """Advance the clock until the service has ended what runs."""
        self.world.clock.sleep(3 * HOURS)
        self.world.sandbox.run_due_events()

    def ask(self, *shards: int) -> CancelResult:
        """Request the cancel of shards; none: of everything."""
        with self.world.store.transaction("cancel") as tx:
            return wishes.request_cancel(tx, shards)

    def follow(self) -> object:
        """Run a process that only follows cancelled batches."""
        runner = BatchRunner(self.world.tools())
        runner.prepare_run()
        ended = runner.run_until_idle(how=decide_cancel_actions)
        self.check_conservation()
        return ended

    def bring_back(self, **choice: object) -> RetryResult:
        with self.world.store.transaction("retry") as tx:
            return wishes.retry_lines(tx, RetryFilter(**choice))  # type: ignore[arg-type]

    def batches(self) -> list[str]:
        return [batch.status for batch in self.world.sandbox.lifecycle.batches.values()]


@pytest.fixture
def make(make: MakeBench) -> Make:
    """Make jobs as the shared fixture makes benches."""

    def build(**options: object) -> Job:
        job = make(Job, **options)
        assert isinstance(job, Job)
        return job

    return build


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_a_batch_in_flight_is_cancelled_what_was_done_is_taken_and_the_rest_held(make: Make) -> None:
    job = make(lines=60)
    job.world.clock.sleep(400)
    assert job.ask(1) == CancelResult([1], [], 0)
    assert job.follow() == Finish()
    states = job.world.states()
    assert states["done"] + states["held"] == 60
    assert states["held"] > 0
    assert job.batches() == ["cancelled"]
    assert job.count("artists", "state = 'held' AND failure <> 'cancelled'") == 0
    assert job.count("wishes", "ended_at IS NULL") == 0
    assert job.act(once=False) == Finish()  # and nothing of it goes again by itself
    assert job.batches() == ["cancelled"]


def test_a_process_that_is_at_work_carries_the_wish_out_and_goes_on_with_the_rest(make: Make) -> None:
    job = make(lines=60, per_shard=20)
    job.ask(2)
    assert job.act(once=False) == Finish()
    assert sorted(job.batches()) == ["cancelled", "completed", "completed"]
    assert job.count("artists", "state = 'done' AND shard IN (1, 3)") == 40


def test_a_shard_that_was_not_sent_goes_back_to_planned_and_can_be_released_again(make: Make) -> None:
    job = make(lines=60, per_shard=20)
    with job.world.store.transaction("test") as tx:  # as if there had been no room for it
        tx.con.execute("UPDATE batches SET settled_at = 1, ended_at = 1 WHERE shard = 3")
        tx.con.execute("UPDATE submissions SET ended_at = 1 WHERE shard = 3")
        tx.con.execute("UPDATE artists SET state = 'ready', submission = NULL WHERE shard = 3")
        tx.con.execute("UPDATE shards SET state = 'uploaded', submission = NULL WHERE shard = 3")
    assert job.ask(3).withdrawn == [3]
    assert job.world.rows("SELECT state, file_id FROM shards WHERE shard = 3") == [("planned", None)]
    assert job.count("remote_files", "shard = 3 AND purpose = 'batch'") == 1
    assert job.count("wishes", "ended_at IS NULL") == 0
    job.act(once=False)
    assert job.world.states() == {"done": 40, "ready": 20}
    assert job.world.release() == 1
    job.act(once=False)
    assert job.world.states() == {"done": 60}


def test_a_batch_whose_answer_was_lost_is_found_and_cancelled(make: Make) -> None:
    job = make(lose_answer={"create": 1.0}, list_lag_s=30.0)
    assert job.count("shards", "state = 'creating'") == 1
    assert job.ask().following == [1]
    job.world.sandbox.update_faults({"lose_answer": {}})
    assert job.follow() == Finish()
    assert job.batches() == ["cancelled"]
    assert job.world.states().get("ready") is None


def test_a_shard_whose_upload_was_lost_is_withdrawn_once_that_is_known(tmp_path: Path) -> None:
    class Uploading(Job):
        def run_batch(self) -> Batch:
            self.world.sandbox.update_faults({"lose_answer": {"upload": 1.0}})
            self.world.act(once=True)
            return None  # type: ignore[return-value]

    job = Uploading(tmp_path)
    try:
        assert job.count("shards", "state IN ('uploading', 'released')") == 1
        job.ask()
        job.world.sandbox.update_faults({"lose_answer": {}})
        assert job.follow() == Finish()
        assert job.batches() == []
        assert job.world.states() == {"ready": LINES}
        assert job.world.rows("SELECT state FROM shards") == [("planned",)]
    finally:
        job.close()


def test_a_batch_that_ended_before_it_could_be_cancelled_is_taken_in_and_its_failures_held(make: Make) -> None:
    job = make()
    job.end()
    rows = job.read()
    job.write(rows[2:])
    job.write([failed(rows[0], 500, "server_error"), failed(rows[1], 400, "context_length_exceeded")], "error")
    job.batch.completed, job.batch.failed = LINES - 2, 2
    job.ask()
    assert job.follow() == Finish()
    assert job.world.states() == {"done": LINES - 2, "held": 1, "dead": 1}
    assert job.world.rows("SELECT failure FROM artists WHERE state = 'held'") == [("server",)]


def test_the_service_may_fail_at_first_and_lose_its_answers(make: Make) -> None:
    job = make(lose_answer={"cancel": 0.7}, refuse_before={"cancel": 0.5})
    job.ask()
    assert job.follow() == Finish()
    assert job.batches() == ["cancelled"]
    assert job.world.states().get("in_batch") is None


def test_cancelling_everything_holds_what_waits_to_be_tried_again(make: Make) -> None:
    job = make()
    job.end()
    rows = job.read()
    job.write(rows[1:])
    job.write([failed(rows[0], 500, "server_error")], "error")
    job.batch.completed, job.batch.failed = LINES - 1, 1
    job.act()
    assert job.world.states() == {"done": LINES - 1, "waiting": 1}
    assert job.ask().held == 1
    assert job.act(once=False) == Finish()
    assert job.world.states() == {"done": LINES - 1, "held": 1}
    job.bring_back(states=(ArtistState.HELD,))
    job.act(once=False)
    assert job.world.states() == {"done": LINES}


def test_cancelling_twice_or_nothing_changes_nothing(make: Make) -> None:
    job = make()
    job.ask()
    job.ask()
    assert job.count("wishes") == 1
    job.follow()
    assert job.ask() == CancelResult([], [], 0)


def test_a_shard_that_cannot_be_cancelled_is_named_with_the_reason(make: Make) -> None:
    job = make()
    with pytest.raises(InputError, match="there is no shard 7"):
        job.ask(7)
    job.act(once=False)
    with pytest.raises(InputError, match="shard 1 is settled"):
        job.ask(1)
    with job.world.store.transaction("test") as tx:
        tx.con.execute("UPDATE shards SET state = 'planned'")
    with pytest.raises(InputError, match="was not released"):
        job.ask(1)


# --- retry -----------------------------------------------------------------------------------------------------------


def die_of(job: Job, *outcomes: tuple[str, str, bool]) -> str:
    """Make an artist who is dead of the last class, after these attempts: class, code, counted."""
    job.end()
    job.act()
    artist = "a00000"
    with job.world.store.transaction("test") as tx:
        tx.con.execute("DELETE FROM bios WHERE artist_id = ?", [artist])
        tx.con.execute("DELETE FROM attempts WHERE artist_id = ?", [artist])
        for outcome, code, counted in outcomes:
            tx.con.execute(
                "INSERT INTO attempts (artist_id, lane, shard, batch_id, outcome, code, counted, happened_at) "
                "VALUES (?, 'batch', 1, 'batch_old', ?, ?, ?, 1)",
                [artist, outcome, code, counted],
            )
        total = sum(done for _, _, done in outcomes)
        tx.con.execute(
            "UPDATE artists SET state = 'dead', failure = ?, attempts = ? WHERE artist_id = ?",
            [outcomes[-1][0], total, artist],
        )
    return artist


def test_tries_begin_anew_for_the_class_that_the_line_died_of(make: Make) -> None:
    job = make()
    artist = die_of(job, ("unusable", "length", True), *[("server", "server_error", True)] * 4)
    back = job.bring_back(failure=FailureClass.SERVER)
    assert back.lines == [("dead", "server", 1)]
    assert job.world.rows(f"SELECT state, attempts, failure FROM artists WHERE artist_id = '{artist}'") == [
        ("ready", 1, "server")
    ]
    job.world.sandbox.update_faults({"poison": [artist]})
    assert job.act(once=False) == Finish()
    assert job.world.states() == {"done": LINES - 1, "dead": 1}
    assert job.count("attempts", f"artist_id = '{artist}' AND outcome = 'server'") == 8  # four, and four again


def test_a_line_that_was_given_up_after_all_its_attempts_is_tried_again_too(make: Make) -> None:
    job = make()
    die_of(
        job,
        *[("unusable", "length", True)] * 2,
        *[("expired", "batch_expired", True)] * 3,
        *[("server", "x", True)] * 3,
    )
    job.bring_back()
    assert job.act(once=False) == Finish()
    assert job.world.states() == {"done": LINES}


def test_what_is_perhaps_paid_comes_back_only_when_it_is_named(make: Make) -> None:
    job = make()
    job.end()
    job.write(job.read()[2:])
    assert job.act(once=False) == Finish()
    assert job.world.states() == {"done": LINES - 2, "held": 2}
    assert job.bring_back() == RetryResult([], 2)
    assert job.bring_back(artist_id="a00001").lines == []
    assert job.bring_back(states=(ArtistState.HELD,)).perhaps_paid == 2
    assert job.bring_back(failure=FailureClass.MISSING) == RetryResult([RetriedLines("held", "missing", 2)], 0)
    job.act(once=False)
    assert job.world.states() == {"done": LINES}


def test_only_what_was_chosen_comes_back(make: Make) -> None:
    job = make()
    artist = die_of(job, ("invalid", "x", True))
    assert job.bring_back(failure=FailureClass.SERVER).lines == []
    assert job.bring_back(states=(ArtistState.HELD,)).lines == []
    assert job.bring_back(artist_id="a00001").lines == []
    assert job.bring_back(artist_id=artist, states=(ArtistState.DEAD,)).lines == [("dead", "invalid", 1)]
    assert job.bring_back().lines == []
    assert job.count("bios") == LINES - 1


def test_the_whole_history_is_shown(make: Make) -> None:
    job = make()
    artist = die_of(job, ("invalid", "context_length_exceeded", True))
    job.bring_back()
    job.act(once=False)
    with job.world.store.read_transaction() as tx:
        shown = read_artist(tx, artist, resolve_prices)
    assert shown is not None
    assert [made.outcome for made in shown.attempts_made] == ["invalid", "bio"]
    kinds = [event.kind for event in shown.events]
    assert kinds.index("retry") > kinds.index("settled")
    assert kinds.count("settled") == 2
    assert next(e for e in shown.events if e.kind == "retry").detail == "was dead after invalid"
