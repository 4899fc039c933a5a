"""The documented views over the state: on real states their numbers are those of `status` and of `collect`."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from batcher.catalog.prices import resolve_prices
from batcher.collect.collect import collect_bios
from batcher.plan.reversioning import give_todays_version
from batcher.sandbox import SandboxSettings, apply_changes
from batcher.state import facts, redo
from batcher.state.redo import RedoFilter
from batcher.state.reports.query import run_query
from batcher.state.reports.status import Status, read_status
from tests.support.direct_kit import Desk, desk, settings_of
from tests.support.protocol_kit import given_up
from tests.support.world import World, config_with, counter

FAULTS = {"line_failures": {"content_policy": 0.1, "invalid_json": 0.2, "server": 0.2}}


def ask(world: World, question: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in run_query(world.store, question).rows]


def ask_records(world: World, question: str) -> list[dict[str, Any]]:
    found = run_query(world.store, question)
    return [dict(zip((column.name for column in found.columns), row, strict=True)) for row in found.rows]


def planned(folder: Path) -> World:
    return desk(folder, 24)


def in_flight(folder: Path) -> World:
    world = desk(folder, 24)
    world.release(3)
    world.act(once=True)
    return world


def with_failures(folder: Path) -> World:
    """Return a job in which lines have died, and others were asked for twice."""
    settings = apply_changes(SandboxSettings(), {"faults": FAULTS, "cache_writes": 0.5, "reasoning_tokens": 30})
    world = desk(folder, 60, settings, settings_of(limits={"lines_per_shard": 20}))
    world.release()
    world.act()
    assert set(world.states()) == {"dead", "done"}
    return world


def in_both_lanes(folder: Path) -> World:
    """Return a job of both lanes, with calls of the direct one that are perhaps paid, and bios asked for again."""
    world = desk(folder, 24)
    world.lost = "Artist Number 12"
    world.direct(2, max_lines=12)
    world.release()
    world.act()
    with world.store.transaction("redo") as tx:
        redo.choose_redos(tx, RedoFilter(prompt=1, artists=["a00002", "a00003"]))
        redo.redo_lines(tx)
        give_todays_version(tx, world.config, world.job, counter())
    return world


def perhaps_paid(folder: Path) -> World:
    """Return a job with a line whose answer its batch never had."""
    return given_up(folder, lambda lines: lines[1:])


JOBS = [planned, in_flight, with_failures, in_both_lanes, perhaps_paid]


@pytest.fixture(scope="module", params=JOBS, ids=lambda make: make.__name__)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a job that no test changes but by a collect, with the prices recorded as once the service was reached."""
    make: Callable[[Path], World] = request.param
    made = make(tmp_path_factory.mktemp("job"))
    with made.store.transaction("reached") as tx:
        facts.save_prices(tx, made.config.model.name, resolve_prices(made.config.model.name))
    return made


def told(world: World) -> Status:
    with world.store.read_transaction() as tx:
        return read_status(tx, world.config, resolve_prices)


def moment(seconds: float) -> datetime:
    """Return a time as DuckDB reads it: Python may round to the microsecond beside."""
    ((read,),) = duckdb.execute("SELECT to_timestamp(?)", [seconds]).fetchall()
    assert isinstance(read, datetime)
    assert abs(read - datetime.fromtimestamp(seconds, UTC)) <= timedelta(microseconds=1)
    return read


def test_lines_are_counted_as_in_the_status(world: World) -> None:
    status = told(world)
    assert ask(world, "SELECT state, count(*) FROM lines GROUP BY 1 ORDER BY 1") == sorted(status.states.items())
    again = ask(world, "SELECT state, count(*) FROM lines WHERE asked_again GROUP BY 1 ORDER BY 1")
    assert again == sorted(status.asked_again.items())
    for row in status.priorities:
        counts = ask(
            world,
            f"SELECT count(*), count(*) FILTER (state = 'done'), count(*) FILTER (state = 'dead') FROM lines "
            f"WHERE priority = {row.priority}",
        )
        assert counts == [(row.artists, row.done, row.dead)]
    lost = ask(
        world,
        "SELECT state, failure, code, count(*) FROM lines WHERE state IN ('dead', 'held', 'skipped') GROUP BY ALL "
        "ORDER BY ALL",
    )
    assert lost == sorted(map(tuple, status.lost))


def test_shards_and_batches_are_those_of_the_status(world: World) -> None:
    status = told(world)
    shards = ask(
        world,
        "SELECT state, count(*), sum(lines)::BIGINT, sum(tokens)::BIGINT FROM shards "
        "WHERE state NOT IN ('stale', 'split') GROUP BY 1 ORDER BY 1",
    )
    assert shards == [tuple(row) for row in status.shards]
    batches = ask(
        world,
        "SELECT batch_id, shard, status, total, completed, failed, stray, created_at, recorded_at FROM batches "
        "WHERE settled_at IS NULL ORDER BY created_at",
    )
    assert batches == [
        (*b[:2], b.status, b.total, b.completed, b.failed, b.stray, moment(b.created_at), moment(b.recorded_at))
        for b in status.batches
    ]
    flying = ask(world, "SELECT coalesce(sum(reserved_tokens), 0)::BIGINT FROM batches WHERE ended_at IS NULL")
    assert flying == [(status.reserved,)]
    assert ask(world, "SELECT batch_id FROM shards WHERE state = 'in_flight' ORDER BY 1") == sorted(
        (b.batch_id,) for b in status.batches
    )


def test_money_is_that_of_the_status(world: World) -> None:
    status = told(world)
    rows = ask_records(world, "SELECT * FROM costs ORDER BY shard NULLS LAST")
    assert [(row["shard"], row["bios"]) for row in rows] == [(cost.shard, cost.bios) for cost in status.shard_costs]
    for row, cost in zip(rows, status.shard_costs, strict=True):
        for name in ("reserved", "spent", "wasted", "saved"):
            assert float(row[f"{name}_usd"]) == pytest.approx(getattr(cost, name), abs=1e-11), (name, row)
    spent = ask(world, "SELECT coalesce(sum(cost_usd), 0) FROM attempts")[0][0]
    assert float(spent) == pytest.approx(status.costs.spent, abs=1e-9)


def test_failures_and_quota_are_those_of_the_status(world: World) -> None:
    status = told(world)
    failures = ask(
        world,
        "SELECT outcome, code, count(*), count(*) FILTER (counted), max(happened_at) FROM attempts "
        "WHERE outcome NOT IN ('bio', 'repeated') GROUP BY ALL ORDER BY 3 DESC, 1, 2",
    )
    assert failures == [(*row[:4], moment(row.last_at)) for row in status.failures]
    quota = ask(
        world,
        "SELECT happened_at, source, model, limit_tokens, reserved_tokens, own_tokens, headroom_tokens, shard, detail "
        "FROM quota ORDER BY happened_at",
    )
    assert sorted(quota, key=str) == sorted(((moment(row.happened_at), *row[1:]) for row in status.quota), key=str)


def test_bios_are_those_that_collect_writes(world: World) -> None:
    out, failed = world.folder / "bios.jsonl", world.folder / "failed.jsonl"
    collect_bios(world.store, world.job, out, failed, only_new=False)
    collected = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    rows = ask_records(
        world, "SELECT b.* FROM bios AS b JOIN lines AS a USING (artist_id) ORDER BY a.priority, a.input_order"
    )
    assert len(rows) == len(collected)
    for row, written in zip(rows, collected, strict=True):
        fields = orjson.loads(row.pop("data"))
        assert fields.items() <= written.items()
        assert row.pop("collected_at") is not None
        completed = datetime.fromisoformat(written["completed_at"]).replace(tzinfo=UTC)
        assert row.pop("completed_at") == completed
        assert float(row.pop("cost_usd")) == pytest.approx(written["cost_usd"], abs=1e-11)
        assert row == {name: written[name] for name in row}
    dead = "SELECT artist_id FROM lines WHERE state IN ('dead', 'held', 'skipped') AND NOT asked_again ORDER BY 1"
    assert [row[0] for row in ask(world, dead)] == sorted(
        orjson.loads(line)["artist_id"] for line in failed.read_bytes().splitlines()
    )


def test_the_jobs_have_what_is_compared(tmp_path: Path) -> None:
    """A comparison of nothing with nothing would hold."""
    both = in_both_lanes(tmp_path)
    assert isinstance(both, Desk)
    status = told(both)
    assert status.asked_again and {cost.shard is None for cost in status.shard_costs} == {True, False}


def test_an_unknown_price_is_null_and_not_zero(tmp_path: Path) -> None:
    world = desk(tmp_path, 6)
    world.release()
    world.act()
    with world.store.transaction("as if") as tx:
        tx.con.execute("UPDATE attempts SET cost_usd = NULL")
        tx.con.execute("DELETE FROM facts WHERE name LIKE 'prices %'")
    assert ask(world, "SELECT DISTINCT spent_usd, wasted_usd, reserved_usd, saved_usd FROM costs") == [
        (None, None, 0, None)
    ]
    with world.store.read_transaction() as tx:
        costs = read_status(tx, config_with(), lambda _: None).costs
    assert (costs.spent, costs.wasted, costs.reserved, costs.saved) == (None, None, 0, None)
