"""`plan --reuse`: answers of an earlier job's state are taken where the request is the same, and cost nothing."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batcher.catalog.prices import resolve_prices
from batcher.collect.collect import collect_bios
from batcher.errors import InputError
from batcher.state.db.schema import SCHEMA_VERSION
from batcher.state.following.other_state import PATIENCE_S
from batcher.state.reports.outlook import OpenLines
from batcher.views.plan import draw_plan, plan_to_json, summarise_plan
from tests.support.direct_kit import Desk
from tests.support.same_kit import asked, draw_plain, judged_by, plan_more, same_config, same_desk, write_rows
from tests.support.world import bios_job


@pytest.fixture
def earlier(tmp_path: Path) -> Desk:
    """Return an earlier job that is done: four rows, each with a request of its own."""
    world = same_desk(tmp_path / "earlier", rows=4, job={"dedupe": False})
    world.release()
    world.act()
    assert world.states() == {"done": 4}
    return world


def new_desk(tmp_path: Path, dedupe: bool = False, **sections: Any) -> Desk:
    """Return a job without a plan."""
    world = Desk(tmp_path / "new", config=same_config(job={"dedupe": dedupe}, **sections))
    (tmp_path / "new").mkdir(exist_ok=True)
    return world


def bios(world: Desk) -> dict[str, object]:
    return {str(artist_id): data for artist_id, data in world.rows("SELECT artist_id, data FROM bios")}


def rows_of(tmp_path: Path, first: int, count: int, kinds: int = 4) -> Path:
    """Write a table whose ids the earlier job does not have; row n asks what its row n % kinds asks."""
    return write_rows(tmp_path / f"rows-{first}-{count}-{kinds}.csv", range(first, first + count), kinds)


@pytest.mark.parametrize("dedupe", [False, True])
def test_answers_are_taken_where_the_request_is_the_same(tmp_path: Path, earlier: Desk, dedupe: bool) -> None:
    before = (earlier.store.folder / "state.duckdb").read_bytes()
    world = new_desk(tmp_path, dedupe)
    result, report = plan_more(world, rows_of(tmp_path, 100, 10, kinds=5), reuse=earlier.store.folder)
    assert (result.reused.lines, result.reused.refused, result.lines_planned) == (8, 0, 1 if dedupe else 2)
    assert world.states() == {"done_before": 8, "ready": 2}
    assert world.rows("SELECT DISTINCT lane, cost_usd FROM bios") == [("earlier", None)]
    told, was = bios(world), bios(earlier)
    assert all(told[f"a{n}"] == was[f"a00{n % 5}"] for n in range(100, 110) if n % 5 < 4)
    world.release()
    world.act()
    assert (world.states(), sum(asked(world).values())) == ({"done_before": 8, "done": 2}, 1 if dedupe else 2)
    assert collect_bios(world.store, world.job, tmp_path / "bios.parquet", None, only_new=False).bios == 10
    assert (earlier.store.folder / "state.duckdb").read_bytes() == before

    reused = result.reused
    assert reused.version is not None
    lines = [OpenLines(reused.version, reused.lines, reused.tokens, reused.longest)]
    summary = summarise_plan(report, world.config, resolve_prices, world.clock(), reused=lines)
    told_json = plan_to_json(result, report, summary)
    assert (told_json["reused_rows"], told_json["reuse_refused"]) == (8, 0)
    assert summary.reused_usd
    assert "8 artists take their bios from the other state, which asked the same: 8 lines and about" in draw_plain(
        draw_plan(result, report, summary), 200
    )


def test_a_later_plan_and_a_rehearsal(tmp_path: Path, earlier: Desk) -> None:
    """Rows that are planned already and not sent take the answers too; a dry run says so and changes nothing."""
    world = new_desk(tmp_path, dedupe=True)
    table = rows_of(tmp_path, 100, 10, kinds=5)
    plan_more(world, table)
    assert world.states() == {"ready": 10}
    rehearsed, _ = plan_more(world, table, reuse=earlier.store.folder, dry_run=True)
    assert (rehearsed.reused.lines, world.states()) == (8, {"ready": 10})
    planned, _ = plan_more(world, table, reuse=earlier.store.folder)
    assert (planned.reused.lines, world.states()) == (8, {"done_before": 8, "ready": 2})
    again, _ = plan_more(world, table, reuse=earlier.store.folder)
    assert (again.reused.lines, world.states()) == (0, {"done_before": 8, "ready": 2})
    world.release()
    world.act()
    assert (world.states(), sum(asked(world).values())) == ({"done_before": 8, "done": 2}, 1)


def test_an_answer_that_is_refused_today_is_asked_for(tmp_path: Path, earlier: Desk) -> None:
    world = new_desk(tmp_path)
    world.job = judged_by(lambda artist_id: artist_id == "a101")
    result, report = plan_more(world, rows_of(tmp_path, 100, 4), reuse=earlier.store.folder)
    assert (result.reused.lines, result.reused.refused, world.states()) == (3, 1, {"done_before": 3, "ready": 1})
    summary = summarise_plan(report, world.config, resolve_prices, world.clock())
    assert "; 1 more was refused by today's job." in draw_plain(draw_plan(result, report, summary), 200)
    none = result.reused._replace(lines=0, refused=4)
    told = draw_plain(draw_plan(replace(result, reused=none), report, summary), 200)
    assert "4 bios of the other state were refused by today's job: none is taken." in told


@pytest.mark.parametrize(
    ("change", "known"),
    [
        (lambda world: setattr(world, "job", replace(bios_job(), system="Be brief.")), 0),
        (lambda world: setattr(world, "job", replace(bios_job(), schema={**bios_job().schema, "title": "B"})), 0),
        (lambda world: setattr(world, "job", replace(bios_job(), template="Who was {artist_name}?\n{facts}")), 0),
    ],
)
def test_nothing_is_taken_where_anything_of_the_request_differs(
    tmp_path: Path, earlier: Desk, change: Callable[[Desk], None], known: int
) -> None:
    world = new_desk(tmp_path)
    change(world)
    result, report = plan_more(world, rows_of(tmp_path, 100, 4), reuse=earlier.store.folder)
    assert (result.reused.lines, result.lines_planned) == (0, 4)
    summary = summarise_plan(report, world.config, resolve_prices, world.clock())
    assert "The other state has 4 bios, and no" in draw_plain(draw_plan(result, report, summary), 200)


def test_an_answer_counts_only_where_its_line_is_rendered_as_it_was_sent(tmp_path: Path, earlier: Desk) -> None:
    """Today's prompt_values says something else of a row: what was asked then is not known by it."""

    def tell_less(artist: Any) -> dict[str, str]:
        return {"artist_name": artist.artist_name, "facts": "none"}

    world = new_desk(tmp_path)
    world.job = replace(bios_job(), artist=type("Artist", (bios_job().artist,), {"prompt_values": tell_less}))
    result, _ = plan_more(world, rows_of(tmp_path, 100, 4), reuse=earlier.store.folder)
    assert (result.reused.lines, result.reused.known, result.reused.answers, result.lines_planned) == (0, 0, 4, 4)


@pytest.mark.parametrize(
    ("section", "taken"),
    [
        ({"model": {"name": "gpt-5.4-nano"}}, 0),
        ({"model": {"endpoint": "/v1/responses"}}, 0),
        ({"model": {"parameters": {"seed": 7}}}, 0),
        ({"model": {"max_output_tokens": 900}}, 4),
    ],
)
def test_the_settings_of_the_request_have_to_be_the_same(
    tmp_path: Path, earlier: Desk, section: dict[str, Any], taken: int
) -> None:
    world = new_desk(tmp_path, **section)
    result, _ = plan_more(world, rows_of(tmp_path, 100, 4), reuse=earlier.store.folder)
    assert (result.reused.lines, result.lines_planned) == (taken, 4 - taken)


def make_foreign(folder: Path) -> None:
    folder.mkdir()
    with duckdb.connect(str(folder / "state.duckdb")) as con:
        con.execute("CREATE TABLE t (a INTEGER)")


def make_text(folder: Path) -> None:
    folder.mkdir()
    (folder / "state.duckdb").write_text("no database at all" * 1_000, encoding="utf-8")


def make_schema(folder: Path, version: int) -> None:
    make_foreign(folder)
    with duckdb.connect(str(folder / "state.duckdb")) as con:
        con.execute(
            f"CREATE TABLE meta (key VARCHAR, value VARCHAR); INSERT INTO meta VALUES ('schema_version', '{version}')"
        )


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda folder: None,
            "other holds no state; name the folder of an earlier job's state",
        ),
        (make_foreign, "other/state.duckdb is not a state of Batcher's"),
        (make_text, "other/state.duckdb is not a state of Batcher's"),
        (
            lambda folder: make_schema(folder, 3),
            "is of schema 3, which does not say how its answers were asked",
        ),
        (
            lambda folder: make_schema(folder, 99),
            f"is of schema 99, this Batcher knows {SCHEMA_VERSION}: upgrade Batcher",
        ),
    ],
)
def test_what_is_no_state_to_take_from_is_refused_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], None], sentence: str
) -> None:
    make(tmp_path / "other")
    world = new_desk(tmp_path)
    with pytest.raises(InputError) as raised:
        plan_more(world, rows_of(tmp_path, 0, 4), reuse=tmp_path / "other")
    assert sentence in str(raised.value)
    assert str(raised.value).startswith("--reuse: ")
    assert not world.store.exists()


def test_the_state_of_the_job_itself_is_refused(tmp_path: Path, earlier: Desk) -> None:
    with pytest.raises(InputError, match="is the state of this job itself"):
        plan_more(earlier, rows_of(tmp_path, 0, 4), reuse=earlier.store.folder)


def test_a_state_that_is_in_use_is_waited_for_and_then_refused(tmp_path: Path, earlier: Desk) -> None:
    path = earlier.store.folder / "state.duckdb"
    hold = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    world = new_desk(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        began = world.clock.now
        with pytest.raises(InputError, match="is in use by another process; plan again once that has ended"):
            plan_more(world, rows_of(tmp_path, 0, 4), reuse=earlier.store.folder)
        assert world.clock.now - began == pytest.approx(PATIENCE_S)
        holder.communicate("")
    assert plan_more(world, rows_of(tmp_path, 0, 4), reuse=earlier.store.folder)[0].reused.lines == 4
