"""What a report reads from the state: the same numbers as `status` and `collect`, in a bounded number of points."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from batcher.collect.collect import collect_bios
from batcher.state.reports import report
from batcher.state.reports.report import STEPS, ReportData
from batcher.state.reports.span import read_job_span
from tests.support.direct_kit import desk
from tests.support.report_kit import finish_job, make_world, read_data
from tests.support.world import World, write_table

LINES = 120


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a job that has ended, with dead lines."""
    world = make_world(tmp_path_factory.mktemp("ended"), LINES)
    finish_job(world)
    return world


@pytest.fixture(scope="module")
def data(ended: World) -> ReportData:
    return read_data(ended)


def test_the_numbers_are_those_of_collect_and_status(ended: World, data: ReportData) -> None:
    collected = collect_bios(ended.store, ended.job, ended.folder / "bios.jsonl", None, only_new=False)
    assert data.bios == collected.bios > 100
    assert data.lost_count == collected.dead + collected.held == len(data.lost) > 0
    assert not data.is_open


def test_the_curves_end_at_the_bios_of_each_priority(data: ReportData) -> None:
    assert [(curve.priority, curve.artists) for curve in data.curves] == [(1, 40), (2, 40), (3, 40)]
    assert [curve.bios[STEPS] for curve in data.curves] == [row.done for row in data.status.priorities]
    assert all(curve.bios[0] == 0 and list(curve.bios) == sorted(curve.bios) for curve in data.curves)
    assert {len(curve.bios) for curve in data.curves} == {STEPS + 1}


def test_the_phases_of_a_shard_follow_one_another(ended: World, data: ReportData) -> None:
    (sent,) = ended.rows("SELECT count(DISTINCT shard) FROM submissions")[0]
    assert len({phase.shard for phase in data.phases}) == data.shards_sent == sent
    first = data.phases[0].shard
    mine = [phase for phase in data.phases if phase.shard == first]
    assert [phase.phase for phase in mine] == ["uploaded", "validating", "in progress", "finalizing", "taken in"]
    assert all(before.ends == after.begins for before, after in pairwise(mine))


def test_of_many_shards_every_second_is_shown(ended: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_SHARDS_SHOWN", 3)
    data = read_data(ended)
    assert data.every == -(-data.shards_sent // 3)
    assert len({phase.shard for phase in data.phases}) == -(-data.shards_sent // data.every)


def test_reserved_tokens_rise_and_fall_to_nothing(ended: World, data: ReportData) -> None:
    (most,) = ended.rows("SELECT max(reserved_before + reserved) FROM submissions")[0]
    assert max(level.tokens for level in data.reserved) == most
    assert data.reserved[-1].tokens == 0
    assert all(level.tokens >= 0 for level in data.reserved)


def test_the_limit_that_the_service_named_is_there(data: ReportData) -> None:
    assert data.limits[0].tokens == 60_000
    assert {refusal.limit for refusal in data.refusals} == {45_000}


def test_each_class_of_failure_tells_what_became_of_its_lines(ended: World, data: ReportData) -> None:
    failed = ended.rows(
        "SELECT count(DISTINCT (artist_id, outcome)) FROM attempts WHERE outcome NOT IN ('bio', 'repeated')"
    )
    assert sum(fate.lines for fate in data.fates) == failed[0][0]
    assert {fate.fate for fate in data.fates} == {"has a bio", "dead"}
    dead = {fate.class_: fate.lines for fate in data.fates if fate.fate == "dead"}
    assert dead["invalid"] == data.status.states["dead"] - dead.get("server", 0) > 0


def test_the_money_ends_at_what_was_spent(data: ReportData) -> None:
    costs, last = data.status.costs, data.money[-1]
    assert last.spent == pytest.approx(costs.spent)
    assert last.wasted == pytest.approx(costs.wasted)
    assert costs.wasted is not None
    assert costs.wasted > 0


def test_the_service_times_count_each_batch_that_ended(ended: World, data: ReportData) -> None:
    (batches,) = ended.rows("SELECT count(*) FROM batches WHERE finished_at IS NOT NULL")[0]
    assert sum(count.batches for count in data.service_times) == batches


def test_the_samples_are_bios_and_stay_the_same(ended: World, data: ReportData) -> None:
    assert len({sample.artist_id for sample in data.samples}) == report.SAMPLES
    assert data.samples == read_data(ended).samples
    known = set(ended.rows("SELECT artist_id, data FROM bios"))
    assert known >= {(sample.artist_id, sample.data) for sample in data.samples}


def test_a_bounded_number_of_points_whatever_the_job(
    ended: World, data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "STEPS", 3)
    monkeypatch.setattr(report, "SERVICE_BINS", 2)
    few = read_data(ended)
    assert {len(curve.bios) for curve in few.curves} == {4}
    assert [curve.bios[3] for curve in few.curves] == [curve.bios[STEPS] for curve in data.curves]
    assert len(few.reserved) <= 8 < len(data.reserved)
    assert len(few.money) <= 4 < len(data.money)
    assert few.money[-1].spent == pytest.approx(data.money[-1].spent)
    assert len({count.from_s for count in few.service_times}) == 2 < len({c.from_s for c in data.service_times})


def test_dead_lines_beyond_the_bound_are_counted(ended: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_LOST", 2)
    data = read_data(ended)
    assert len(data.lost) == 2 < data.lost_count


@pytest.fixture
def planned(tmp_path: Path) -> Iterator[World]:
    yield make_world(tmp_path, 60)


def test_a_job_that_was_only_planned_has_a_report(planned: World) -> None:
    data = read_data(planned)
    assert data.is_open
    assert (data.bios, data.shards_sent, data.phases, data.money, data.samples, data.fates) == (0, 0, [], [], [], [])
    assert [curve.bios[STEPS] for curve in data.curves] == [0, 0, 0]


def test_what_is_under_way_lasts_until_now(planned: World) -> None:
    planned.act(once=True)
    planned.clock.sleep(100)
    data = read_data(planned)
    assert data.is_open
    assert {phase.ends for phase in data.phases} >= {planned.clock.now}
    assert data.until == planned.clock.now


def test_a_job_of_the_direct_lane_alone_begins_with_its_first_call(tmp_path: Path) -> None:
    world = desk(tmp_path, 3)
    world.direct(1)
    first, answered = world.rows("SELECT min(intended_at), min(ended_at) FROM direct_calls")[0]
    assert float(str(first)) < float(str(answered))
    with world.store.read_transaction() as tx:
        assert read_job_span(tx).started_at == first
    assert read_data(world).since == first


def test_priorities_beyond_the_largest_are_one_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_PRIORITIES", 2)
    world = make_world(tmp_path, 61)
    data = read_data(world)
    assert [(curve.priority, curve.artists) for curve in data.curves] == [(1, 21), (2, 20), (None, 20)]


def test_bios_of_an_earlier_run_are_there_from_the_start(tmp_path: Path) -> None:
    world = make_world(tmp_path, 10)
    table = write_table(tmp_path / "more.csv", 20)
    done = tmp_path / "done.csv"
    done.write_text("artist_id,bio\na00012,Was a painter of still lifes.\n", encoding="utf-8")
    world.plan(table, done=done)
    data = read_data(world)
    assert data.bios == 1
    assert sum(curve.bios[0] for curve in data.curves) == 1
    assert [sample.prompt for sample in data.samples] == [None]
