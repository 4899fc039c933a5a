"""`plan` on the real store: what it counts, orders and cuts, what it leaves alone; one that fails changes nothing."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from batcher import shardfiles
from batcher.collecting import collect
from batcher.config import Config
from batcher.cutting import ShardCutting
from batcher.decide import Finish
from batcher.errors import BatcherError, ConfigError, InputError, JobError, StateError
from batcher.job import load_job
from batcher.model import Endpoint, ShardLimits
from batcher.planner import PlanOptions, PlanReport, PlanResult, plan
from batcher.planning import Renderer
from batcher.sandbox import SandboxSettings
from batcher.store.planned import OrderedLine
from tests.world import World, bios_job, config_with, write_table

TABLES = ("meta", "runs", "versions", "artists", "shards", "submissions", "batches", "attempts", "bios", "events")
SLOW_POLLS: Mapping[str, object] = {"interval_s": 4 * 3_600}
TEN_LINES: Mapping[str, object] = {"lines_per_shard": 10}

JOB = """\
from pydantic import BaseModel


class Artist(BaseModel):
    artist_id: {id_type} = ""
    artist_name: str
    priority: {priority_type} = None
    fact: str | None = None

    def prompt_values(self):
        return {values}


class Bio(BaseModel):
    bio: str


def accept(artist, bio):
    return None
"""


class Desk:
    """A world with a table and a job of the test's own."""

    def __init__(self, folder: Path, config: Config | None = None, **job: str) -> None:
        self.world = World(folder, SandboxSettings(), config or config_with(limits=TEN_LINES, poll=SLOW_POLLS))
        self.folder = folder
        self.jobs = folder / "jobs"
        self.write_job(**job)

    def write_job(self, user: str = "Artist: {artist_name}\nFact: {fact}", **parts: str) -> None:
        values = '{"artist_name": self.artist_name, "fact": self.fact or "none"}'
        source = {"id_type": "str", "priority_type": "int | None", "values": values, **parts}
        text = JOB
        for name, part in source.items():
            text = text.replace("{" + name + "}", part)
        self.jobs.mkdir(parents=True, exist_ok=True)
        (self.jobs / "job.py").write_text(text, encoding="utf-8")
        (self.jobs / "system.md").write_text("Be brief.", encoding="utf-8")
        (self.jobs / "user.md").write_text(user, encoding="utf-8")
        self.world.job = load_job(self.jobs)

    def table(self, text: str | bytes, name: str = "t.csv") -> Path:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def plan(self, table: Path, **options: Any) -> tuple[PlanResult, PlanReport]:
        world = self.world
        return plan(world.config, world.job, world.store, PlanOptions(table, **options), lambda *_: None)

    def refused(self, kind: type[BatcherError], table: Path, **options: Any) -> str:
        """The sentence of a plan that fails; and it changes nothing."""
        before = snapshot(self.world)
        with pytest.raises(kind) as raised:
            self.plan(table, **options)
        assert snapshot(self.world) == before
        return str(raised.value).replace(f"{self.folder}/", "")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def snapshot(world: World) -> object:
    """The content of every table of the state and of every file beside it; None where there is no folder."""
    if not world.store.folder.exists():
        return None
    files = {
        str(path.relative_to(world.store.folder)): path.read_bytes()
        for path in world.store.folder.rglob("*")
        if path.is_file() and path != world.store.path
    }
    if not world.store.path.exists():
        return files
    with duckdb.connect(str(world.store.path), read_only=True) as con:
        return files, {name: con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in TABLES}


def shard_files(world: World) -> dict[str, bytes]:
    folder = world.store.folder / "shards"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.exists() else {}


def lines_of(world: World, shard: int) -> list[Any]:
    data = shard_files(world)[f"shard-{shard:05d}.jsonl"]
    return [orjson.loads(line) for line in data.splitlines()]


def ids_of(world: World, shard: int) -> list[str]:
    return [line["custom_id"] for line in lines_of(world, shard)]


def shards(world: World) -> list[tuple[object, ...]]:
    return world.rows("SELECT shard, priority, state, lines FROM shards ORDER BY shard")


def check_files(world: World) -> None:
    """Sizes, counts and digests that are recorded are those of the files; no file is there that the state lacks."""
    files = shard_files(world)
    recorded = world.rows("SELECT shard, lines, bytes, sha256 FROM shards ORDER BY shard")
    assert [f"shard-{row[0]:05d}.jsonl" for row in recorded] == list(files)
    for (_, lines, size, digest), data in zip(recorded, files.values(), strict=True):
        assert (lines, size, digest) == (data.count(b"\n"), len(data), hashlib.sha256(data).hexdigest())
    in_shards = "SELECT sum(lines), sum(tokens), sum(bytes) FROM shards WHERE state <> 'stale'"
    in_lines = "SELECT count(*), sum(tokens), sum(bytes) FROM artists WHERE shard IS NOT NULL"
    assert world.rows(in_shards) == world.rows(in_lines)


# --- counting, ordering, cutting -------------------------------------------------------------------------------------


def test_counts_and_order(desk: Desk) -> None:
    """The most urgent first, ties in input order, and no shard of two priorities."""
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


# --- planning again --------------------------------------------------------------------------------------------------


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
        "the prompt, schema or model is not that of 2 unsent lines in 1 shards; `batcher plan --replan` cuts them "
        "again (what was submitted stays as it is)"
    )
    desk.refused(ConfigError, table, dry_run=True)
    desk.plan(table, replan=True)
    assert [line["body"]["messages"][1]["content"] for line in lines_of(desk.world, 2)] == ["Name: Ana", "Name: Bo"]
    assert desk.world.rows("SELECT shard, state FROM shards ORDER BY shard") == [(1, "stale"), (2, "planned")]
    assert desk.world.rows("SELECT DISTINCT shard, version FROM artists") == [(2, 2)]


def test_lines_that_were_tried_go_again_as_they_were_planned_whatever_the_prompt_is_now(desk: Desk) -> None:
    """A shard of lines that failed waits for room: it was sent once, and is no reason to ask for --replan."""
    table = desk.table("artist_id,artist_name\na,Ana\n")
    desk.plan(table)
    with desk.world.store.transaction("as if gathered") as tx:
        tx.con.execute("UPDATE shards SET retry = true, state = 'released'")
    desk.write_job(user="Name: {artist_name}")
    before = shard_files(desk.world)
    assert desk.plan(table)[0].lines_planned == 0
    assert shard_files(desk.world) == before


# --- beside what was submitted ---------------------------------------------------------------------------------------


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
    """All that the state holds of what was submitted."""
    return [world.rows(f"SELECT * FROM {name} ORDER BY ALL") for name in ("submissions", "batches", "attempts")] + [
        world.rows("SELECT * FROM shards WHERE shard <= 2 ORDER BY shard"),
        world.rows("SELECT * FROM artists WHERE shard <= 2 ORDER BY artist_id"),
    ]


def test_replan_touches_nothing_that_was_submitted(partly: World) -> None:
    before, files = sent(partly), shard_files(partly)
    table = partly.folder / "t.csv"
    table.write_text(table.read_text().replace("Dutch", "Danish"))
    result, _ = plan(partly.config, partly.job, partly.store, PlanOptions(table, replan=True), lambda *_: None)
    assert sent(partly) == before
    assert {name: data for name, data in shard_files(partly).items() if name in files} == files
    assert (result.outdated_shards, result.lines_planned, result.changed_rows) == (4, 40, 60)
    assert [row[2] for row in shards(partly)[2:]] == ["stale"] * 4 + ["planned"] * 4
    check_files(partly)
    partly.release()
    assert isinstance(partly.act(), Finish)
    assert partly.states() == {"done": 60}


def test_a_bio_that_exists_after_all_takes_its_line_out(partly: World) -> None:
    """Of a shard in flight nothing is taken; planned lines are cut again, released ones stay released."""
    before = sent(partly)
    ids = {n: [str(row[0]) for row in partly.rows(f"SELECT artist_id FROM artists WHERE shard = {n} ORDER BY seq")]
           for n in range(1, 7)}  # fmt: skip
    done = partly.folder / "done.csv"
    done.write_text("artist_id,bio\n" + "".join(f"{i},Was.\n" for i in (ids[1][0], ids[3][0], ids[5][0], "nobody")))
    options = PlanOptions(partly.folder / "t.csv", done=done)
    result, report = plan(partly.config, partly.job, partly.store, options, lambda *_: None)
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
    """Lines of a shard that is cut again go with it even if the table of today does not hold them."""
    desk.plan(desk.table("artist_id,artist_name\na,Ana\nb,Bo\n"))
    done = desk.table("artist_id,bio\na,Was.\n", "done.csv")
    _, report = desk.plan(desk.table("artist_id,artist_name\nc,Cy\n", "other.csv"), done=done)
    assert report.states == {"done_before": 1, "ready": 2}
    assert sorted(ids_of(desk.world, 2)) == ["b", "c"]
    assert desk.world.rows("SELECT count(*) FROM artists WHERE state = 'ready' AND shard IS NULL") == [(0,)]


def test_a_line_cut_again_is_kept_as_it_is_rendered(desk: Desk) -> None:
    """The row in the state is the one that the line was made from: a later try renders it again."""
    head = "artist_id,artist_name,fact\n"
    desk.plan(desk.table(head + "a,Ana,old\nb,Bo,old\n"))
    desk.plan(desk.table(head + "a,Ana,old\nb,Bo,new\n"), done=desk.table("artist_id,bio\na,Was.\n", "done.csv"))
    ((data,),) = desk.world.rows("SELECT data FROM artists WHERE artist_id = 'b'")
    artist = desk.world.job.restore(str(data))
    text = lines_of(desk.world, 2)[0]["body"]["messages"][1]["content"]
    assert f"Fact: {artist.fact}" in text


def test_waiting_lines_go_again_as_they_were_planned_and_replan_is_not_asked_for_them(tmp_path: Path) -> None:
    world = World(tmp_path, SandboxSettings(), config_with(limits=TEN_LINES, poll=SLOW_POLLS))
    world.sandbox.set_faults({"line_failures": {"rate_limit": 1.0}})
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


# --- bios that exist -------------------------------------------------------------------------------------------------


def test_earlier_bios_are_taken_over_and_neither_asked_for_nor_counted(desk: Desk) -> None:
    table = desk.table("artist_id,artist_name\na,Ana\nb,Bo\n")
    done = desk.table('{"artist_id": "a", "bio": "Ana was.", "more": 1}\n{"artist_id": "z", "bio": "Z."}\n', "d.jsonl")
    result, report = desk.plan(table, done=done)
    assert (result.done_unknown, result.lines_planned, report.states) == (1, 1, {"done_before": 1, "ready": 1})
    assert ids_of(desk.world, 1) == ["b"]
    assert desk.world.rows("SELECT artist_id, data, lane FROM bios") == [("a", '{"bio":"Ana was."}', "earlier")]
    out = desk.folder / "bios.jsonl"
    assert collect(desk.world.store, desk.world.job, out, None, False).bios == 1
    assert orjson.loads(out.read_bytes())["bio"] == "Ana was."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("artist_id,bio\n,Was.\n", "d.csv, row 2: column artist_id is missing or empty; a bio needs its artist"),
        ("id,bio\na,Was.\n", "d.csv, row 2: column artist_id is missing or empty; a bio needs its artist"),
        ("artist_id,bio\na, \n", "d.csv, row 2: column bio is missing or empty; leave out rows without a bio"),
        ("artist_id,bio\na,Was.\na,Is.\n", "d.csv, row 3: artist_id 'a' is already in row 2; keep one of them"),
        ("artist_id,bio\na\n", "d.csv, row 2: 1 values for 2 columns; quote commas in values"),
    ],
)
def test_a_bad_table_of_bios_is_named(desk: Desk, text: str, sentence: str) -> None:
    table = desk.table("artist_id,artist_name\na,Ana\n")
    assert desk.refused(InputError, table, done=desk.table(text, "d.csv")) == sentence


# --- bad rows --------------------------------------------------------------------------------------------------------

MEND = "; mend the table, or leave such rows out with --skip-bad-rows"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("t.csv", "artist_id,artist_name\n", "t.csv has no rows; there is nothing to plan"),
        ("t.jsonl", "\n", "t.jsonl has no rows; there is nothing to plan"),
        (
            "t.csv",
            "id,artist_name\na,Ana\n",
            None,
        ),
        (
            "t.csv",
            "artist_id,name\na,Ana\n",
            "t.csv has no column artist_name; its columns are artist_id, name: rename one, or give it an alias in "
            "job.py",
        ),
        ("t.jsonl", '{"artist_id": "a"}\n', "t.jsonl, row 1, column artist_name: Field required" + MEND),
        (
            "t.csv",
            "artist_id,artist_name\na,Ana\nb,Bo\na,Ann\nb,B\n",
            "t.csv, row 4: artist_id 'a' is already in row 2 (1 more bad rows)" + MEND,
        ),
        (
            "t.csv",
            "artist_id,artist_name\na,A\0na\n",
            "t.csv, row 2, column artist_name: holds a NUL character, which no request can carry; remove it" + MEND,
        ),
        (
            "t.jsonl",
            '{"artist_id": "a", "artist_name": "A\\ud800"}\n',
            "t.jsonl, row 1: column 37 holds half of a surrogate pair, which is no text; mend the value" + MEND,
        ),
        (
            "t.jsonl",
            '{"artist_id": "a", "artist_name": "A\\u0000"}\n',
            "t.jsonl, row 1, column artist_name: holds a NUL character, which no request can carry; remove it" + MEND,
        ),
        (
            "t.csv",
            "artist_id,artist_name,priority\na,Ana,0\n",
            "t.csv, row 2 (Ana): column priority: must be 1 (the most urgent) or more (it is 0)" + MEND,
        ),
        (
            "t.csv",
            "artist_id,artist_name,priority\na,Ana,99999999999\n",
            "t.csv, row 2 (Ana): column priority: must be 1 (the most urgent) or more (it is 99999999999)" + MEND,
        ),
        (
            "t.csv",
            "artist_id,artist_name,priority\na,Ana,soon\n",
            "t.csv, row 2, column priority: Input should be a valid integer, unable to parse string as an integer "
            "(it is 'soon')" + MEND,
        ),
        (
            "t.csv",
            "artist_id,artist_name\n,Ana\n",
            "t.csv, row 2 (Ana): column artist_id is empty" + MEND,
        ),
    ],
)
def test_bad_input_is_named_and_nothing_is_made(desk: Desk, name: str, text: str, sentence: str | None) -> None:
    """Nothing was planned before: not even the state's folder is left."""
    if sentence is None:
        desk.write_job(id_type="str  #")
        sentence = (
            "t.csv has no column artist_id; its columns are id, artist_name: rename one, or give it an alias in job.py"
        )
    assert desk.refused(InputError, desk.table(text, name)) == sentence
    assert not desk.world.store.folder.exists()
    desk.refused(InputError, desk.table(text, name), dry_run=True)


def test_a_fact_of_three_megabytes_is_too_long_for_the_model(desk: Desk) -> None:
    table = desk.table("artist_id,artist_name,fact\na,Ana," + "7 " * 1_500_000 + "\n")
    sentence = desk.refused(InputError, table)
    assert sentence.startswith("t.csv, row 2 (Ana): prompt and answer are ")
    assert "tokens, the context of gpt-6-luna is" in sentence
    assert len(sentence) < 300


def test_the_job_that_comes_with_the_project_names_the_column_of_such_a_fact(desk: Desk) -> None:
    desk.world.job = bios_job()
    table = desk.table("artist_id,artist_name,nationality\na,Ana," + "7 " * 1_500_000 + "\n")
    sentence = desk.refused(InputError, table)
    assert sentence.startswith("t.csv, row 2, column nationality: ")
    assert len(sentence) < 300


def test_a_line_over_the_whole_limit_is_named(desk: Desk) -> None:
    desk.world.config = config_with(limits={"enqueued_tokens": 600, "threshold": 0.5})
    sentence = desk.refused(InputError, desk.table("artist_id,artist_name,fact\na,Ana," + "word " * 400 + "\n"))
    assert sentence.startswith("t.csv, row 2 (Ana): one line of ")
    assert "over the enqueued-token limit x threshold of 300" in sentence


def test_an_unknown_model_asks_for_its_limit_before_anything_is_made(desk: Desk) -> None:
    desk.world.config = config_with(model={"name": "unheard-of"})
    assert "set enqueued_tokens under [limits]" in desk.refused(ConfigError, desk.table("artist_id,artist_name\na,A\n"))


BAD_ROWS = """\
{"artist_id": "a", "artist_name": "Ana"}
{"artist_id": "b"}
{"artist_id": "a", "artist_name": "Again"}
not json
{"artist_id": "c", "artist_name": "\\ud800"}
{"artist_id": "d", "artist_name": "Di", "priority": 0}
[]
{"artist_id": "e", "artist_name": "Ed"}
"""


def test_bad_rows_left_out_are_listed_and_every_row_is_somewhere(desk: Desk) -> None:
    result, report = desk.plan(desk.table(BAD_ROWS, "t.jsonl"), skip_bad_rows=True)
    assert [row for row, _ in result.skipped] == [2, 3, 4, 5, 6, 7]
    assert result.skipped[1][1].endswith("t.jsonl, row 3: artist_id 'a' is already in row 1")
    assert report.states == {"ready": 2, "skipped": 6}
    assert sum(report.states.values()) == result.rows_read == 8
    listed = desk.world.rows("SELECT artist_id, failure, code FROM artists WHERE state = 'skipped' ORDER BY seq")
    assert listed[0] == ("(t.jsonl row 2)", "invalid", "bad_row")
    failed = desk.folder / "failed.jsonl"
    assert collect(desk.world.store, desk.world.job, desk.folder / "b.jsonl", failed, False).skipped == 6
    assert failed.read_text().count("\n") == 6


def test_a_row_that_was_mended_is_skipped_no_more(desk: Desk) -> None:
    desk.plan(desk.table(BAD_ROWS, "t.jsonl"), skip_bad_rows=True)
    _, again = desk.plan(desk.table(BAD_ROWS, "t.jsonl"), skip_bad_rows=True)
    assert again.states == {"ready": 2, "skipped": 6}
    mended = BAD_ROWS.replace('{"artist_id": "b"}', '{"artist_id": "b", "artist_name": "Bo"}')
    result, report = desk.plan(desk.table(mended, "t.jsonl"), skip_bad_rows=True)
    assert report.states == {"ready": 3, "skipped": 5}
    assert sum(report.states.values()) == result.rows_read


def test_a_table_without_a_needed_column_is_no_matter_of_rows(desk: Desk) -> None:
    sentence = desk.refused(InputError, desk.table("artist_id,name\na,Ana\n"), skip_bad_rows=True)
    assert "has no column artist_name" in sentence


# --- code of the job that fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"values": "{'artist_name': self.nothing}"}, "t.csv, row 2: job.py, line 11: AttributeError: 'Artist' object "
         "has no attribute 'nothing'; mend job.py"),
        ({"values": "{'artist_name': {}['x']}"}, "t.csv, row 2: job.py, line 11: KeyError: 'x'; mend job.py"),
        ({"values": "{'artist_name': self.artist_name}"}, "t.csv, row 2: user.md names {fact}, which prompt_values "
         "does not give; it gives artist_name"),
        ({"values": "{'artist_name': '\\ud800', 'fact': ''}"}, "t.csv, row 2: prompt_values gives half of a surrogate "
         "pair, which is no text"),
        ({"priority_type": "str | None"}, "t.csv, row 2: Artist.priority is str; declare it as int"),
        ({"values": "{'artist_name': self.artist_name, 'fact': str(id(self))}"}, "t.csv, row 2: the artist reads "
         "otherwise once it was stored and read again; the validators of Artist must leave alone what they made"),
    ],
)  # fmt: skip
def test_a_failing_job_is_named_with_the_row(desk: Desk, parts: dict[str, str], sentence: str) -> None:
    desk.write_job(**parts)
    assert desk.refused(JobError, desk.table("artist_id,artist_name,priority\na,Ana,1\n")) == sentence
    assert not desk.world.store.folder.exists()


# --- values are data -------------------------------------------------------------------------------------------------

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
    collect(desk.world.store, desk.world.job, out, None, False)
    with duckdb.connect() as con:
        rows = con.execute("SELECT artist_id, artist_name FROM read_parquet(?)", [str(out)]).fetchall()
    assert rows == [(name, name) for name in NAMES]


# --- dry run ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_the_same_numbers_and_writes_nothing(desk: Desk) -> None:
    table = desk.table("artist_id,artist_name\n" + "".join(f"a{n},Name {n}\n" for n in range(25)))
    dry = desk.plan(table, dry_run=True)
    assert not desk.world.store.folder.exists()
    assert desk.plan(table) == dry


def test_a_dry_run_beside_a_plan_changes_nothing(desk: Desk) -> None:
    desk.plan(desk.table("artist_id,artist_name\na,Ana\n"))
    before, raw = snapshot(desk.world), desk.world.store.path.read_bytes()
    table = desk.table("artist_id,artist_name\na,Anna\nb,Bo\n")
    dry = desk.plan(table, dry_run=True, replan=True)
    assert snapshot(desk.world) == before
    assert desk.world.store.path.read_bytes() == raw
    assert desk.plan(table, replan=True) == dry


# --- plans that fail -------------------------------------------------------------------------------------------------


def failing_on(monkeypatch: pytest.MonkeyPatch, error: BaseException, after: int) -> None:
    """The cutting fails once so many shard files are in place."""
    original = shardfiles.ShardWriter.close
    closed = 0

    def close(self: shardfiles.ShardWriter) -> Any:
        nonlocal closed
        if closed == after:
            raise error
        closed += 1
        return original(self)

    monkeypatch.setattr(shardfiles.ShardWriter, "close", close)


NO_SPACE = OSError(28, "No space left on device", "shard-00004.part")


@pytest.mark.parametrize("planned_before", [False, True])
def test_a_full_disk_while_cutting_leaves_all_as_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, planned_before: bool
) -> None:
    head, rows = "artist_id,artist_name\n", [f"a{n},Name {n}\n" for n in range(45)]
    if planned_before:
        desk.plan(desk.table(head + rows[0]))
    table = desk.table(head + "".join(rows))
    with monkeypatch.context() as patch:
        failing_on(patch, NO_SPACE, after=3)
        sentence = desk.refused(StateError, table)
    assert sentence == (
        "shard-00004.part cannot be written: No space left on device; make room or mend the rights of the state "
        "folder, and plan again"
    )
    assert desk.world.store.folder.exists() is planned_before
    desk.plan(table)
    check_files(desk.world)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug")])
def test_a_plan_that_is_broken_off_leaves_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    table = desk.table("artist_id,artist_name\n" + "".join(f"a{n},Name {n}\n" for n in range(25)))
    failing_on(monkeypatch, error, after=1)
    with pytest.raises(type(error)):
        desk.plan(table)
    assert not desk.world.store.folder.exists()


def test_a_commit_that_fails_takes_the_shard_files_with_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.plan(desk.table("artist_id,artist_name\na,Ana\n"))
    table = desk.table("artist_id,artist_name\na,Ana\nb,Bo\n")

    def refuse(*_: object) -> None:
        raise StateError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("batcher.store.connection._commit", refuse)
        assert desk.refused(StateError, table) == "the disk is full"
    desk.plan(table)
    check_files(desk.world)


def test_a_file_that_is_not_finished_goes_away(desk: Desk) -> None:
    renderer = Renderer(desk.world.job.version("gpt-6-luna", Endpoint.CHAT, 600))
    line = OrderedLine("a", "a", 1, "Ana", 9)
    with pytest.raises(ZeroDivisionError), ShardCutting(renderer, ShardLimits(9, 9_999, 9), desk.folder, 1) as cutting:
        cutting.put([line, line])  # each is a shard of its own: the first is in place when the second is begun
        raise ZeroDivisionError
    assert [path.name for path in (desk.folder / "shards").iterdir()] == ["shard-00001.jsonl"]


def test_files_that_a_killed_plan_left_go_with_the_next_one(desk: Desk) -> None:
    """A killed plan leaves files under their final names; the state does not know them, and the next may cut fewer."""
    table = desk.table("artist_id,artist_name\na,Ana\n")
    desk.plan(table)
    folder = desk.world.store.folder / "shards"
    for name in ("shard-00002.jsonl", "shard-00009.jsonl", "shard-00010.part"):
        (folder / name).write_text("left\n")
    (folder / "notes.txt").write_text("the user's\n")
    desk.plan(desk.table("artist_id,artist_name\na,Ana\nb,Bo\n"))
    assert list(shard_files(desk.world)) == ["notes.txt", "shard-00001.jsonl", "shard-00002.jsonl"]
    assert ids_of(desk.world, 2) == ["b"]


def test_a_failing_plan_leaves_what_else_is_in_its_folder(desk: Desk) -> None:
    folder = desk.world.store.folder
    folder.mkdir()
    (folder / "mine.txt").write_text("x")
    desk.refused(InputError, desk.table("artist_id,artist_name\n"))
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_the_staging_tables_are_as_wide_as_their_rows(desk: Desk) -> None:
    """Ids are only compared within the state: a long and a strange one keep apart."""
    long = "x" * 300
    desk.plan(desk.table(f"artist_id,artist_name\n{long}a,Ana\n{long}b,Bo\n"))
    assert len({line["custom_id"] for line in lines_of(desk.world, 1)}) == 2
