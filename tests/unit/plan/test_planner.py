"""`plan` on the real store: what it counts, orders and cuts, and what it leaves alone when it is run again."""

import io
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import duckdb
import orjson
import pytest

from batcher.catalog.prices import PriceOf, resolve_prices
from batcher.collect.collect import collect_bios
from batcher.core.actions import Finish
from batcher.disk.shard_files import READ_BYTES, Spool
from batcher.errors import ConfigError, JobError
from batcher.plan.options import PlanOptions
from batcher.plan.planner import plan_job
from batcher.sandbox import SandboxSettings
from batcher.views.plan import draw_plan, summarise_plan
from batcher.views.progress import CleanConsole
from tests.support.planner_kit import SLOW_POLLS, TEN_LINES, Desk, check_files, ids_of, lines_of, shard_files, shards
from tests.support.world import World, config_with, counter, write_table

# --- counting, ordering, cutting -------------------------------------------------------------------------------------


def test_counts_and_order(desk: Desk) -> None:
    """Cut the most urgent lines first, ties in input order, and no shard of two priorities."""
    desk.world.config = config_with(limits={"lines_per_shard": 2})
    rows = ["x,X,2", "b,B,1", "a,A,1", "y,Y,2", "c,C,1", "z,Z,7"]
    result, report = desk.plan(desk.table("artist_id,artist_name,priority\n" + "\n".join(rows)))
    assert (result.rows_read, result.artists_new, result.lines_planned, result.shards_cut) == (6, 6, 6, 4)
    assert [ids_of(desk.world, shard) for shard in (1, 2, 3, 4)] == [["b", "a"], ["c"], ["x", "y"], ["z"]]
    assert [(p.priority, p.artists, p.lines) for p in report.priorities] == [(1, 3, 3), (2, 2, 2), (7, 1, 1)]
    assert [(s.shard, s.priority, s.lines, s.state) for s in report.shards] == [
        (1, 1, 2, "planned"), (2, 1, 1, "planned"), (3, 2, 2, "planned"), (4, 7, 1, "planned"),
    ]  # fmt: skip
    assert report.states == {"ready": 6}
    check_files(desk.world)


@pytest.mark.parametrize(("limits", "sizes"), [({"tokens_per_shard": 200}, 2), ({"bytes_per_shard": 1_200}, 2)])
def test_shards_keep_to_their_limits(desk: Desk, limits: dict[str, object], sizes: int) -> None:
    desk.world.config = config_with(limits=limits)
    _, report = desk.plan(desk.table("artist_id,artist_name\n" + "\n".join(f"a{n},Name {n}" for n in range(6))))
    assert len(report.shards) > 1
    for shard in report.shards:
        assert shard.tokens <= limits.get("tokens_per_shard", shard.tokens)  # type: ignore[operator]
        assert shard.bytes <= limits.get("bytes_per_shard", shard.bytes)  # type: ignore[operator]
    check_files(desk.world)


def test_a_table_without_priorities_has_priority_3(desk: Desk) -> None:
    _, report = desk.plan(desk.table("artist_id,artist_name\na,Ana\n"))
    assert [p.priority for p in report.priorities] == [3]


def test_the_same_input_gives_the_same_files_byte_for_byte(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", 57)
    worlds = [World(tmp_path / name, config=config_with(limits=TEN_LINES)) for name in ("one", "two")]
    for world in worlds:
        world.plan(table)
    one, two = (shard_files(world) for world in worlds)
    assert one == two
    assert len(one) == 6
    check_files(worlds[0])


def test_a_line_is_the_request_of_its_artist(desk: Desk) -> None:
    desk.plan(desk.table("artist_id,artist_name,fact\né/1,Ana,painted\n"))
    (line,) = lines_of(desk.world, 1)
    assert (line["custom_id"], line["method"], line["url"]) == ("%C3%A9%2F1", "POST", "/v1/chat/completions")
    assert [m["content"] for m in line["body"]["messages"]] == ["Be brief.", "Artist: Ana\nFact: painted"]


def test_ids_that_are_numbers_are_taken_as_texts(desk: Desk) -> None:
    desk.write_job(id_type="int")
    done = desk.folder / "done.parquet"
    duckdb.execute(f"COPY (SELECT 8 AS artist_id, 'Bo was.' AS bio) TO '{done}'")
    _, report = desk.plan(desk.table('{"artist_id": 7, "artist_name": "Ana"}\n{"artist_id": 8, "artist_name": "Bo"}',
                                     "t.jsonl"), done=done)  # fmt: skip
    assert report.states == {"ready": 1, "done_before": 1}
    assert ids_of(desk.world, 1) == ["7"]


@pytest.mark.parametrize("id_type", ["str", "int"])
def test_ids_of_parquet_may_be_numbers_decimals_or_uuids(desk: Desk, id_type: str) -> None:
    """Plan with a job that declares ids as the table has them; the example's Artist and the project's accept all."""
    desk.write_job(id_type=id_type)
    path, done = desk.folder / "t.parquet", desk.folder / "done.parquet"
    kind = "DECIMAL(20, 0)" if id_type == "int" else "UUID"
    ids = ["7", "8"] if id_type == "int" else [f"0f3b1e8e-6f0e-4a53-8f3a-0d3b1c9f9a1{n}" for n in (0, 1)]
    rows = ", ".join(f"('{i}'::{kind}, 'Name', 2.00::DECIMAL(5, 2))" for i in ids)
    duckdb.execute(f"COPY (SELECT * FROM (VALUES {rows}) AS t(artist_id, artist_name, priority)) TO '{path}'")
    duckdb.execute(f"COPY (SELECT '{ids[1]}'::{kind} AS artist_id, 'Was.' AS bio) TO '{done}'")
    _, report = desk.plan(path, done=done)
    assert ids_of(desk.world, 1) == [ids[0]]
    assert report.states == {"ready": 1, "done_before": 1}
    assert [p.priority for p in report.priorities] == [2]


@pytest.mark.parametrize("kind", ["float", "Decimal"])
def test_a_priority_may_be_declared_as_any_number_and_must_be_whole(desk: Desk, kind: str) -> None:
    desk.write_job(priority_type='__import__("decimal").Decimal | None' if kind == "Decimal" else "float | None")
    _, report = desk.plan(desk.table("artist_id,artist_name,priority\na,Ana,2.00\nb,Bo,\n"))
    assert [p.priority for p in report.priorities] == [2, 3]
    sentence = desk.refused(JobError, desk.table("artist_id,artist_name,priority\nc,Cy,1.5\n"))
    assert sentence == f"t.csv, row 2: Artist.priority is {kind}; declare it as int"


def test_planning_again_adds_only_new_artists(desk: Desk) -> None:
    head = "artist_id,artist_name,priority\n"
    desk.plan(desk.table(head + "a,Ana,2\nb,Bo,1\n"))
    before = shard_files(desk.world)
    again, _ = desk.plan(desk.table(head + "a,Ana,2\nb,Bo,1\n"))
    assert (again.artists_new, again.lines_planned, again.shards_cut) == (0, 0, 0)
    assert shard_files(desk.world) == before
    more, report = desk.plan(desk.table(head + "c,Cy,1\na,Ana,2\nb,Bo,1\n"))
    assert (more.artists_new, more.lines_planned, more.shards_cut) == (1, 1, 1)
    assert [shard.lines for shard in report.shards] == [1, 1, 1]
    assert ids_of(desk.world, 3) == ["c"]
    check_files(desk.world)


def test_artists_that_are_not_in_the_table_any_more_are_counted_and_stay_planned(desk: Desk) -> None:
    head = "artist_id,artist_name\n"
    first, _ = desk.plan(desk.table(head + "a,Ana\nb,Bo\nc,Cy\nd,Di\n"))
    assert first.not_in_table == 0
    done = desk.table("artist_id,bio\nb,Was.\n", "done.csv")
    again, report = desk.plan(desk.table(head + "a,Ana\ne,Ed\n"), done=done)
    assert again.not_in_table == 2  # b is done, and is not to be sent
    assert report.states == {"ready": 4, "done_before": 1}
    limited, _ = desk.plan(desk.table(head + "a,Ana\nc,Cy\nd,Di\ne,Ed\nf,Flo\ng,Gus\n"), limit=1)
    assert (limited.not_in_table, limited.artists_new) == (0, 1)


def test_rows_that_changed_are_told_and_taken_anew_by_replan(desk: Desk) -> None:
    head = "artist_id,artist_name,priority,fact\n"
    desk.plan(desk.table(head + "a,Ana,2,old\nb,Bo,1,old\n"))
    changed = desk.table(head + "a,Ana,2,new\nb,Bo,1,old\n")
    result, _ = desk.plan(changed)
    assert (result.changed_rows, result.lines_planned) == (1, 0)
    result, _ = desk.plan(changed, replan=True)
    assert (result.changed_rows, result.lines_planned, result.outdated_shards) == (1, 2, 2)
    assert "new" in lines_of(desk.world, 4)[0]["body"]["messages"][1]["content"]
    assert desk.plan(changed)[0].changed_rows == 0


def test_limit_and_then_the_rest(desk: Desk) -> None:
    rows = "".join(f"a{n},Name {n},{n % 3 + 1}\n" for n in range(9))
    table = desk.table("artist_id,artist_name,priority\n" + rows)
    first, report = desk.plan(table, limit=4)
    assert (first.artists_new, report.states) == (4, {"ready": 4})
    assert [ids_of(desk.world, shard) for shard in (1, 2)] == [["a0", "a3", "a6"], ["a1"]]
    _, report = desk.plan(table)
    assert report.states == {"ready": 9}
    planned = [line for n in range(len(report.shards)) for line in ids_of(desk.world, n + 1)]
    assert sorted(planned) == [f"a{n}" for n in range(9)]
    check_files(desk.world)


def test_an_edited_prompt_asks_for_replan_and_changes_nothing(desk: Desk) -> None:
    table = desk.table("artist_id,artist_name\na,Ana\nb,Bo\n")
    desk.plan(table)
    desk.write_job(user="Name: {artist_name}")
    sentence = desk.refused(ConfigError, table)
    assert sentence == (
        "2 unsent lines in 1 shard were planned with another prompt; "
        "`batcher plan --replan` cuts them again (what was submitted stays as it is)"
    )
    desk.refused(ConfigError, table, dry_run=True)
    desk.plan(table, replan=True)
    assert [line["body"]["messages"][1]["content"] for line in lines_of(desk.world, 2)] == ["Name: Ana", "Name: Bo"]
    assert desk.world.rows("SELECT shard, state FROM shards ORDER BY shard") == [(1, "stale"), (2, "planned")]
    assert desk.world.rows("SELECT DISTINCT shard, version FROM artists") == [(2, 2)]


def test_lines_that_were_tried_go_again_as_they_were_planned_whatever_the_prompt_is_now(desk: Desk) -> None:
    """Ask for no --replan where a retry shard waits for room: its lines were sent once."""
    table = desk.table("artist_id,artist_name\na,Ana\n")
    desk.plan(table)
    with desk.world.store.transaction("as if gathered") as tx:
        tx.con.execute("UPDATE shards SET retry = true, state = 'released'")
        tx.con.execute(
            "INSERT INTO attempts (artist_id, lane, shard, outcome, counted, happened_at, version) "
            "VALUES ('a', 'batch', 1, 'server', true, 0, 1)"
        )
    desk.write_job(user="Name: {artist_name}")
    before = shard_files(desk.world)
    assert desk.plan(table)[0].lines_planned == 0
    assert shard_files(desk.world) == before


@pytest.fixture
def partly(tmp_path: Path) -> World:
    """Six shards of ten lines: two in flight, one released, three planned."""
    world = World(tmp_path, SandboxSettings(), config_with(limits=TEN_LINES, poll=SLOW_POLLS))
    world.plan(write_table(tmp_path / "t.csv", 60, (1, 2)))
    ((tokens,),) = world.rows("SELECT max(tokens) FROM shards")
    assert isinstance(tokens, int)
    room = {"enqueued_tokens": int(tokens * 1.1 * 2.5), "threshold": 1.0, "tokens_per_shard": tokens}
    world.config = config_with(limits={**TEN_LINES, **room}, poll=SLOW_POLLS)
    world.release(3)
    world.act(once=True)
    assert [row[2] for row in shards(world)] == ["in_flight", "in_flight", "released", "planned", "planned", "planned"]
    return world


def sent(world: World) -> object:
    """Return all that the state holds of what was submitted."""
    return [world.rows(f"SELECT * FROM {name} ORDER BY ALL") for name in ("submissions", "batches", "attempts")] + [
        world.rows("SELECT * FROM shards WHERE shard <= 2 ORDER BY shard"),
        world.rows("SELECT * FROM artists WHERE shard <= 2 ORDER BY artist_id"),
    ]


def test_replan_touches_nothing_that_was_submitted(partly: World) -> None:
    before, files = sent(partly), shard_files(partly)
    table = partly.folder / "t.csv"
    table.write_text(table.read_text().replace("Dutch", "Danish"))
    result, _ = plan_job(
        partly.config, partly.job, partly.store, PlanOptions(table, replan=True), counter(), lambda *_: None
    )
    assert sent(partly) == before
    assert {name: data for name, data in shard_files(partly).items() if name in files} == files
    assert (result.outdated_shards, result.lines_planned, result.changed_rows) == (4, 40, 60)
    assert [row[2] for row in shards(partly)[2:]] == ["stale"] * 4 + ["planned"] * 4
    check_files(partly)
    partly.release()
    assert isinstance(partly.act(), Finish)
    assert partly.states() == {"done": 60}


def test_a_bio_that_exists_after_all_takes_its_line_out(partly: World) -> None:
    """Take no line out of a shard in flight; cut planned lines again, and keep released ones released."""
    before = sent(partly)
    ids = {n: [str(row[0]) for row in partly.rows(f"SELECT artist_id FROM artists WHERE shard = {n} ORDER BY seq")]
           for n in range(1, 7)}  # fmt: skip
    done = partly.folder / "done.csv"
    done.write_text("artist_id,bio\n" + "".join(f"{i},Was.\n" for i in (ids[1][0], ids[3][0], ids[5][0], "nobody")))
    options = PlanOptions(partly.folder / "t.csv", done=done)
    result, report = plan_job(partly.config, partly.job, partly.store, options, counter(), lambda *_: None)
    assert (result.done_unknown, result.lines_planned, result.outdated_shards) == (1, 9, 2)
    assert sent(partly) == before
    assert report.states == {"in_batch": 20, "done_before": 2, "ready": 38}
    assert [row[2] for row in shards(partly)] == ["in_flight", "in_flight", "stale", "planned", "stale", "planned",
                                                 "planned"]  # fmt: skip
    partly.act(once=True)  # what was released is gathered without another word
    assert partly.rows("SELECT lines FROM shards WHERE retry") == [(9,)]
    partly.release()
    partly.act()
    assert partly.states() == {"done": 58, "done_before": 2}


def test_a_done_table_beside_another_input_leaves_no_line_behind(desk: Desk) -> None:
    """Cut all lines of a stale shard again, even those that this table does not hold."""
    desk.plan(desk.table("artist_id,artist_name\na,Ana\nb,Bo\n"))
    done = desk.table("artist_id,bio\na,Was.\n", "done.csv")
    _, report = desk.plan(desk.table("artist_id,artist_name\nc,Cy\n", "other.csv"), done=done)
    assert report.states == {"done_before": 1, "ready": 2}
    assert sorted(ids_of(desk.world, 2)) == ["b", "c"]
    assert desk.world.rows("SELECT count(*) FROM artists WHERE state = 'ready' AND shard IS NULL") == [(0,)]


def test_a_line_cut_again_is_kept_as_it_is_rendered(desk: Desk) -> None:
    """Keep the row that the line was made from: a retry renders it again."""
    head = "artist_id,artist_name,fact\n"
    desk.plan(desk.table(head + "a,Ana,old\nb,Bo,old\n"))
    desk.plan(desk.table(head + "a,Ana,old\nb,Bo,new\n"), done=desk.table("artist_id,bio\na,Was.\n", "done.csv"))
    ((data,),) = desk.world.rows("SELECT data FROM artists WHERE artist_id = 'b'")
    artist = desk.world.job.restore_artist(str(data))
    text = lines_of(desk.world, 2)[0]["body"]["messages"][1]["content"]
    assert f"Fact: {artist.fact}" in text


def test_waiting_lines_go_again_as_they_were_planned_and_replan_is_not_asked_for_them(tmp_path: Path) -> None:
    world = World(tmp_path, SandboxSettings(), config_with(limits=TEN_LINES, poll=SLOW_POLLS))
    world.sandbox.update_faults({"line_failures": {"rate_limit": 1.0}})
    table = write_table(tmp_path / "t.csv", 10, (1,))
    world.plan(table)
    world.release()
    for _ in range(60):
        world.act(once=True)
        if world.states().get("waiting"):
            break
        world.clock.sleep(3_600)
    assert world.states() == {"waiting": 10}
    world.config = world.config.model_copy(update={"model": world.config.model.model_copy(
        update={"max_output_tokens": 700})})  # fmt: skip
    world.plan(table)  # no ConfigError: nothing of it is unsent
    assert world.states() == {"waiting": 10}
    done = tmp_path / "done.csv"
    done.write_text("artist_id,bio\na00000,Was.\n")
    world.plan(table, done=done)
    assert world.states() == {"waiting": 9, "done_before": 1}


def test_a_plan_says_where_a_model_that_thinks_has_too_little_room(tmp_path: Path) -> None:
    def warnings(**model: object) -> Sequence[str]:
        desk = Desk(tmp_path / str(len(list(tmp_path.iterdir()))), config_with(limits=TEN_LINES, model=model))
        _, report = desk.plan(desk.table("artist_id,artist_name\na,Ana\n"))
        return summarise_plan(report, desk.world.config, resolve_prices, desk.world.clock()).warnings

    assert warnings(max_output_tokens=600) == [
        "gpt-6-luna thinks before it answers (reasoning_effort medium): all 600 tokens of max_output_tokens may be "
        "thinking, paid for without an answer; allow 4,000, or a lower effort."
    ]
    assert warnings(max_output_tokens=None) == []
    assert warnings(max_output_tokens=600, parameters={"reasoning_effort": "none"}) == []
    assert warnings(max_output_tokens=50, name="gpt-4.1-mini") == []


@pytest.mark.parametrize(
    ("lines", "settings", "told"),
    [
        (40, {}, "4 shards go in 1 wave."),
        (4, {"brake": {"first_wave": 0.1}}, "1 wave, after a first wave of one shard, of which answers"),
        (40, {"brake": {"first_wave": 0.5}}, "1 wave, after a first wave of 20 lines (or one shard), of which answers"),
        (2_000, {"brake": {"first_wave": 0.1}, "pilot": {"lines": 200}},
         "after a pilot of 200 lines (by `batcher run`) and a first wave of 200 lines (or one shard), of which answers "
         "are judged first."),
        (2_000, {"pilot": {"lines": 200}}, "1 wave, after a pilot of 200 lines (by `batcher run`), of which answers"),
    ],
)  # fmt: skip
def test_a_plan_says_what_goes_before_the_waves(
    tmp_path: Path, lines: int, settings: dict[str, dict[str, object]], told: str
) -> None:
    off: dict[str, dict[str, object]] = {"brake": {"first_wave": 1}, "pilot": {"lines": 0}}
    desk = Desk(tmp_path, config_with(limits=TEN_LINES, **{**off, **settings}))
    result, report = desk.plan(write_table(tmp_path / "t.csv", lines, (1,)))
    summary = summarise_plan(report, desk.world.config, resolve_prices, desk.world.clock())
    console = CleanConsole(file=io.StringIO(), width=400)
    console.print(draw_plan(result, report, summary))
    assert told in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("direct", "words", "price"),
    [
        ({}, r" and cost about \$0\.\d+ instead of \$0\.\d+\.\n", "standard"),
        (
            {"service_tier": "flex"},
            r", where flex processing has room, and cost about \$0\.\d+, as batches do\.\n",
            "flex",
        ),
        (
            {"service_tier": "flex", "flex_fallback": True},
            r" has room, and cost about \$0\.\d+, as batches do, and up to \$0\.\d+ where flex refuses lines\.\n",
            "flex",
        ),
    ],
)
def test_a_plan_names_the_price_of_the_direct_lane(
    tmp_path: Path, direct: dict[str, object], words: str, price: str
) -> None:
    desk = Desk(tmp_path, config_with(limits=TEN_LINES, direct=direct, deadline={"hours": 0.02}))
    result, report = desk.plan(write_table(tmp_path / "t.csv", 40, (1,)))

    def draw(price_of: PriceOf) -> str:
        console = CleanConsole(file=io.StringIO(), width=400)
        summary = summarise_plan(report, desk.world.config, price_of, desk.world.clock())
        assert any(line.endswith(f"lines, at the {price} price") for line in summary.expectation.advice)
        console.print(draw_plan(result, report, summary))
        return str(console.file.getvalue())  # type: ignore[attr-defined]

    assert re.search(words, draw(resolve_prices))
    assert f"workers, at the {price} price.\n" in draw(lambda _model: None)


def test_too_little_room_is_told_of_every_version_that_lines_wait_for(tmp_path: Path) -> None:
    def warnings(effort: str, prompt: str) -> Sequence[str]:
        model = {"max_output_tokens": 600, "parameters": {"reasoning_effort": effort}}
        desk.world.config = config_with(limits=TEN_LINES, model=model)
        desk.write_job(prompt)
        _, report = desk.plan(desk.table(f"artist_id,artist_name\n{prompt},Ana\n"))
        found = summarise_plan(report, desk.world.config, resolve_prices, desk.world.clock()).warnings
        with desk.world.store.transaction("as if rate limited") as tx:
            tx.con.execute("UPDATE artists SET state = 'waiting', shard = NULL, wait_until = 0")
        return found

    desk = Desk(tmp_path)
    told = warnings("high", "One: {artist_name}")
    assert len(told) == 1 and "(reasoning_effort high): all 600 tokens" in told[0]
    assert warnings("high", "Two: {artist_name}") == told  # once for both
    assert warnings("none", "Three: {artist_name}") == told


NAMES = [
    "{{7*7}}",
    "{artist_name}",
    "{0.__class__}",
    "%s %(x)s",
    "'; DROP TABLE artists; --",
    '"quoted" \\ back',
    "${HOME} $(id)",
    "[bold]markup[/bold]",
    "\u202eright-to-left",
    "日本 é",
]


def test_names_travel_as_data_to_the_shard_and_back_to_the_bios(desk: Desk) -> None:
    table = desk.folder / "t.jsonl"
    table.write_bytes(b"\n".join(orjson.dumps({"artist_id": name, "artist_name": name}) for name in NAMES))
    desk.plan(table)
    texts = [line["body"]["messages"][1]["content"] for line in lines_of(desk.world, 1)]
    assert texts == [f"Artist: {name}\nFact: none" for name in NAMES]
    desk.world.release()
    desk.world.act()
    assert desk.world.states() == {"done": len(NAMES)}
    out = desk.folder / "it's [the] bios.parquet"
    collect_bios(desk.world.store, desk.world.job, out, None, False)
    with duckdb.connect() as con:
        rows = con.execute("SELECT artist_id, artist_name FROM read_parquet(?)", [str(out)]).fetchall()
    assert rows == [(name, name) for name in NAMES]


def test_what_was_spooled_comes_back_in_any_order_and_leaves_nothing(tmp_path: Path) -> None:
    pieces = [bytes([n % 256]) * (n * 37 % 5_000) for n in range(60)] + [b"x" * (3 * READ_BYTES), b""]
    with closing(Spool(tmp_path)) as spool:
        kept = [(spool.append_piece(piece), piece) for piece in pieces]
        assert list(tmp_path.iterdir()) == []
        spool.flush()
        for order in (kept, kept[::-1], kept[::7] + kept):
            assert [spool.read_piece(at, len(piece)) for at, piece in order] == [piece for _, piece in order]
    assert list(tmp_path.iterdir()) == []
