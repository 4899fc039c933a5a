"""A job that ended because its next shard is refused for good is shown as one that waits for a person."""

import re
from pathlib import Path

import pytest

from batcher.catalog.prices import resolve_prices
from batcher.commands.tools.findings import BAD, check_job_state
from batcher.config.sections import Config
from batcher.core.actions import Finish, Wait
from batcher.core.admission import max_shard_cost
from batcher.core.lifecycle import ShardState
from batcher.core.snapshot import ShardView
from batcher.state.snapshot import load_budget, load_room
from batcher.views.live.sentences import compute_end, describe_end
from batcher.views.next_steps import describe_next_steps
from tests.support.outlook_kit import known, settings_with, status, status_text, world
from tests.support.world import World

pytestmark = pytest.mark.slow("forecasts while jobs run")
BUDGET_END = "End: not before the budget is raised; from then on in"


def settings_of(budget: float) -> Config:
    """Two shards fit into the room at once; the others follow."""
    return settings_with({"enqueued_tokens": 42_000}, budget={"max_usd": budget})


def most_cost(job: World) -> float:
    """Return the most dollars that the next shard may cost."""
    ((lines, tokens, longest),) = job.rows(
        "SELECT lines, tokens, longest FROM shards WHERE state = 'released' ORDER BY shard LIMIT 1"
    )
    view = ShardView(1, 1, ShardState.RELEASED, int(str(lines)), int(str(tokens)), longest=int(str(longest)))
    with job.store.read_transaction() as tx:
        return known(
            max_shard_cost(view, load_budget(tx, settings_of(99.0), resolve_prices, load_room(tx, job.config)))
        )


def refused_steps(job: World) -> list[str]:
    return [step.sentence for step in describe_next_steps(status(job)) if step.kind == "refused"]


def spent_job(folder: Path) -> World:
    """Return a job that has spent a part, has nothing in flight, and whose budget is too small for its next shard."""
    job = world(folder, 240, settings_of(99.0))
    job.act(once=True)
    with job.store.transaction("test") as tx:
        tx.con.execute("UPDATE shards SET state = 'planned' WHERE state = 'released'")
    assert job.act() == Finish()
    job.release()
    spent = known(status(job).costs.spent)
    assert spent > 0
    job.config = settings_of(spent + most_cost(job) / 2)
    return job


def test_a_budget_that_is_too_small_for_the_next_shard_is_shown(tmp_path: Path) -> None:
    job = spent_job(tmp_path)
    ended = job.act()
    assert isinstance(ended, Finish) and "[budget] max_usd" in ended.problem
    (sentence,) = refused_steps(job)
    problem = f"{ended.problem[:1].upper()}{ended.problem[1:]}"
    assert sentence == f"{problem}; `batcher poll` goes on once the budget is raised."
    text = status_text(job)
    assert BUDGET_END in text and "Done about" not in text
    assert (
        compute_end(status(job)) is None and "Not before the budget is raised" in describe_end(status(job), None).text
    )
    (found,) = [f for f in check_job_state(job.config, job.store) if f.what == "refused"]
    assert (found.level, found.found, found.todo) == (BAD, sentence, "")


def test_the_amount_that_is_named_is_enough(tmp_path: Path) -> None:
    job = spent_job(tmp_path)
    (sentence,) = refused_steps(job)
    (enough,) = re.findall(r"to at least \$([\d.]+)", sentence)
    job.config = settings_of(float(enough))
    assert not refused_steps(job)
    assert "Done about" in status_text(job)
    assert isinstance(job.act(once=True), Wait)


def test_a_budget_whose_dollars_may_come_free_is_waited_for(tmp_path: Path) -> None:
    job = world(tmp_path, 240, settings_of(99.0))
    job.act(once=True)
    reserved = known(status(job).costs.reserved)
    job.config = settings_of(reserved + most_cost(job) / 2)  # where the batches cost less, the next shard fits
    assert not refused_steps(job)
    assert "Done about" in status_text(job)
    job.config = settings_of(most_cost(job) / 2)  # not even if they cost nothing
    assert refused_steps(job)
    assert BUDGET_END in status_text(job)


def test_dollars_that_were_lost_do_not_come_free(tmp_path: Path) -> None:
    job = world(tmp_path, 60, settings_of(99.0))
    job.config = settings_of(1.5 * most_cost(job))
    held = most_cost(job)
    with job.store.transaction("test") as tx:
        tx.con.execute(
            "INSERT INTO direct_calls VALUES (1, 'a00000', 1, ?, ?, ?, 'lost')", [held, job.clock(), job.clock()]
        )
    assert isinstance(job.act(once=True), Finish)
    assert refused_steps(job)


def test_a_line_over_the_limit_is_shown(tmp_path: Path) -> None:
    job = world(tmp_path, 2, settings_with({"lines_per_shard": 1}))
    job.config = settings_with({"lines_per_shard": 1, "enqueued_tokens": 100})
    assert isinstance(job.act(), Finish)
    (sentence,) = refused_steps(job)
    assert "is over the limit of 80; `batcher poll` goes on once the enqueued-token limit is raised." in sentence
    assert "End: not before the enqueued-token limit is raised" in status_text(job)


@pytest.mark.parametrize("change", [
    "UPDATE shards SET state = 'planned' WHERE state = 'released'",
    "INSERT INTO wishes (shard, made_at) SELECT shard, 1 FROM shards WHERE state = 'released'",
])  # fmt: skip
def test_shards_that_are_not_released_or_are_cancelled_wait_for_no_budget(tmp_path: Path, change: str) -> None:
    job = spent_job(tmp_path)
    with job.store.transaction("test") as tx:
        tx.con.execute(change)
    assert not refused_steps(job)
