"""`plan` with bad tables, bad jobs and bad luck: each ends in one sentence, and nothing was changed."""

from contextlib import closing
from typing import Any

import duckdb
import orjson
import pytest

from batcher.collect.collect import collect_bios
from batcher.core.model import Endpoint, ShardLimits
from batcher.core.rendering import LineRenderer
from batcher.disk.shard_files import ShardWriter, Spool
from batcher.errors import ConfigError, InputError, JobError, StateError
from batcher.plan.retry_shards import cut_retry_shard
from batcher.plan.shard_cutting import ShardCutting
from batcher.state.plan import OrderedLine
from tests.support.place import Place
from tests.support.planner_kit import Desk, check_files, ids_of, lines_of, shard_files, snapshot
from tests.support.world import ROOT, bios_job, config_with

# --- bios that exist -------------------------------------------------------------------------------------------------


def test_earlier_bios_are_taken_over_and_neither_asked_for_nor_counted(desk: Desk) -> None:
    table = desk.table("artist_id,artist_name\na,Ana\nb,Bo\n")
    done = desk.table('{"artist_id": "a", "bio": "Ana was.", "more": 1}\n{"artist_id": "z", "bio": "Z."}\n', "d.jsonl")
    result, report = desk.plan(table, done=done)
    assert (result.done_unknown, result.lines_planned, report.states) == (1, 1, {"done_before": 1, "ready": 1})
    assert ids_of(desk.world, 1) == ["b"]
    assert desk.world.rows("SELECT artist_id, data, lane FROM bios") == [("a", '{"bio":"Ana was."}', "earlier")]
    out = desk.folder / "bios.jsonl"
    assert collect_bios(desk.world.store, desk.world.job, out, None, False).bios == 1
    assert orjson.loads(out.read_bytes())["bio"] == "Ana was."


FIELDS = "bio: str\n    sparse: bool\n    born: int | None\n    share: float\n    tags: list[str]\n    kind: str | int"
WHOLE = {"bio": "Ana was.", "sparse": True, "born": 1899, "share": 0.5, "tags": ["a", "b"], "kind": "7"}


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_bios_that_batcher_wrote_are_taken_over_with_all_their_fields(desk: Desk, ending: str) -> None:
    """Start a job from what another has collected, in any format, and collect the same file again."""
    desk.write_job(bio=FIELDS)
    table = desk.table("artist_id,artist_name\na,Ana\nb,Bo\n")
    done = desk.table(orjson.dumps({"artist_id": "a", **WHOLE, "more": 1}), "done.jsonl")
    desk.plan(table, done=done)
    collected = desk.folder / f"bios{ending}"
    collect_bios(desk.world.store, desk.world.job, collected, None, False)
    other = Desk(desk.folder, home="other", bio=FIELDS)
    other.plan(table, done=collected)
    ((data, lane),) = other.world.rows("SELECT data, lane FROM bios")
    assert (orjson.loads(str(data)), lane) == (WHOLE, "earlier")
    recollected = desk.folder / f"again{ending}"
    collect_bios(other.world.store, other.world.job, recollected, None, False)
    assert recollected.read_bytes() == collected.read_bytes()


def test_a_field_of_an_earlier_bio_that_does_not_fit_is_kept_as_it_is(desk: Desk) -> None:
    desk.write_job(bio=FIELDS)
    text = "artist_id,bio,sparse,born,tags\na,Ana was.,True,c. 1899,none\nb,Bo was.,,,\n"
    desk.plan(desk.table("artist_id,artist_name\na,Ana\nb,Bo\n"), done=desk.table(text, "done.csv"))
    assert [orjson.loads(str(row[0])) for row in desk.world.rows("SELECT data FROM bios ORDER BY artist_id")] == [
        {"bio": "Ana was.", "sparse": True, "born": "c. 1899", "tags": "none"},
        {"bio": "Bo was."},
    ]


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


MEND = "; fix the table, or leave such rows out with --skip-bad-rows"


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
            "t.csv, row 4: artist_id 'a' is already in row 2; row 5: artist_id 'b' is already in row 3" + MEND,
        ),
        (
            "t.csv",
            "artist_id,artist_name\na,A\0na\n",
            "t.csv, row 2, column artist_name: holds a NUL character, which no request can carry; remove it" + MEND,
        ),
        (
            "t.jsonl",
            '{"artist_id": "a", "artist_name": "A\\ud800"}\n',
            "t.jsonl, row 1: column artist_name holds half of a surrogate pair, which is no text" + MEND,
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


def test_a_parquet_without_a_needed_column_is_told_with_all_its_columns(desk: Desk) -> None:
    with duckdb.connect() as con:
        con.execute(f"COPY (SELECT 'a' AS artist_id, 'Ana' AS name, 1 AS n) TO '{desk.folder}/t.parquet'")
    assert desk.refused(InputError, desk.folder / "t.parquet") == (
        "t.parquet has no column artist_name; its columns are artist_id, name, n: rename one, or give it an alias in "
        "job.py"
    )


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
    assert sentence.startswith("t.csv, row 2, column nationality is longer than 20,000 characters (it is '7 7")
    assert len(sentence) < 300


def test_a_line_over_the_whole_limit_is_named(desk: Desk) -> None:
    desk.world.config = config_with(limits={"enqueued_tokens": 600, "threshold": 0.5})
    sentence = desk.refused(InputError, desk.table("artist_id,artist_name,fact\na,Ana," + "word " * 400 + "\n"))
    assert sentence.startswith("t.csv, row 2 (Ana): one line of ")
    assert "over the enqueued-token limit x threshold of 300" in sentence


def test_a_limit_without_room_for_any_line_is_no_fault_of_the_table(desk: Desk) -> None:
    desk.world.config = config_with(limits={"enqueued_tokens": 10})
    sentence = desk.refused(ConfigError, desk.table("artist_id,artist_name\na,A\nb,B\n"))
    assert sentence.startswith("the enqueued-token limit x threshold is 8 tokens, and the prompt alone takes ")
    assert "raise enqueued_tokens or threshold under [limits]" in sentence


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
    assert collect_bios(desk.world.store, desk.world.job, desk.folder / "b.jsonl", failed, False).skipped == 6
    assert failed.read_text().count("\n") == 6


def test_a_row_that_was_mended_is_skipped_no_more(desk: Desk) -> None:
    desk.plan(desk.table(BAD_ROWS, "t.jsonl"), skip_bad_rows=True)
    _, report = desk.plan(desk.table(BAD_ROWS, "t.jsonl"), skip_bad_rows=True)
    assert report.states == {"ready": 2, "skipped": 6}
    mended = BAD_ROWS.replace('{"artist_id": "b"}', '{"artist_id": "b", "artist_name": "Bo"}')
    result, report = desk.plan(desk.table(mended, "t.jsonl"), skip_bad_rows=True)
    assert report.states == {"ready": 3, "skipped": 5}
    assert sum(report.states.values()) == result.rows_read


def test_bad_rows_of_two_tables_of_one_name_keep_apart(desk: Desk) -> None:
    bad = {"one": '{"artist_id": "b"}\n[]\n', "two": '{"artist_id": "c"}\n{"artist_id": "c", "artist_name": "Cy"}\n'}
    tables = {}
    for name, text in bad.items():
        (desk.folder / name).mkdir()
        tables[name] = desk.table(text, f"{name}/t.jsonl")
        desk.plan(tables[name], skip_bad_rows=True)
    assert desk.world.rows("SELECT artist_id FROM artists WHERE state = 'skipped' ORDER BY seq") == [
        ("(one/t.jsonl row 1)",), ("(one/t.jsonl row 2)",), ("(two/t.jsonl row 1)",),
    ]  # fmt: skip
    desk.table(bad["one"].replace("[]", '{"artist_id": "d", "artist_name": "Di"}'), "one/t.jsonl")
    _, report = desk.plan(tables["one"], skip_bad_rows=True)
    assert report.states == {"ready": 2, "skipped": 2}


def test_a_table_without_a_needed_column_is_no_matter_of_rows(desk: Desk) -> None:
    sentence = desk.refused(InputError, desk.table("artist_id,name\na,Ana\n"), skip_bad_rows=True)
    assert "has no column artist_name" in sentence


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"values": "{'artist_name': self.nothing}"}, "t.csv, row 2: job.py, line 11: AttributeError: 'Artist' object "
         "has no attribute 'nothing'; fix job.py"),
        ({"values": "{'artist_name': {}['x']}"}, "t.csv, row 2: job.py, line 11: KeyError: 'x'; fix job.py"),
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


def failing_on(monkeypatch: pytest.MonkeyPatch, error: BaseException, after: int) -> None:
    """Make the cutting fail once `after` shard files are in place."""
    original = ShardWriter.close
    closed = 0

    def close(self: ShardWriter) -> Any:
        nonlocal closed
        if closed == after:
            raise error
        closed += 1
        return original(self)

    monkeypatch.setattr(ShardWriter, "close", close)


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
        "shard-00004.part cannot be written: No space left on device; make room or fix the rights of the state "
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
        patch.setattr("batcher.state.db.store._commit_or_raise", refuse)
        assert desk.refused(StateError, table) == "the disk is full"
    desk.plan(table)
    check_files(desk.world)


def test_a_file_that_is_not_finished_goes_away(desk: Desk) -> None:
    renderer = LineRenderer(desk.world.job.build_version("gpt-6-luna", Endpoint.CHAT, 600))
    limits, own = ShardLimits(9, 9_999, 9), renderer.encode_own_part("a", "Ana")
    with closing(Spool(desk.folder)) as spool, pytest.raises(ZeroDivisionError):
        line: OrderedLine = (1, 1, spool.append_piece(own), 9, renderer.line_size(own))
        with ShardCutting(renderer, limits, desk.folder, 1) as cutting:
            # Each is a shard of its own: the first is in place when the second is begun.
            cutting.cut_spooled_lines(spool, [line, line])
            raise ZeroDivisionError
    assert [path.name for path in (desk.folder / "shards").iterdir()] == ["shard-00001.jsonl"]


def test_a_retry_shard_that_fails_leaves_no_file(desk: Desk) -> None:
    desk.plan(desk.table("artist_id,artist_name\na,Ana\nb,Bo\n"))
    with desk.world.store.transaction("as if its shard was split") as tx:
        tx.con.execute("UPDATE artists SET shard = NULL")
    before = snapshot(desk.world)
    desk.write_job(values='{"artist_name": self.artist_name.replace("Bo", "Bob"), "fact": self.fact or "none"}')
    with pytest.raises(JobError, match="renders artist b otherwise than it was planned"):
        cut_retry_shard(desk.world.store, desk.world.job, desk.world.config, 3, 1)
    assert snapshot(desk.world) == before


def test_files_that_a_killed_plan_left_go_with_the_next_one(desk: Desk) -> None:
    """Remove files that a killed plan left under their final names: the next plan may cut fewer shards."""
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
    """Tell ids apart that differ in their last character alone: they are compared in full."""
    long = "x" * 300
    desk.plan(desk.table(f"artist_id,artist_name\n{long}a,Ana\n{long}b,Bo\n"))
    assert len({line["custom_id"] for line in lines_of(desk.world, 1)}) == 2


# --- by the real command ---------------------------------------------------------------------------------------------


def test_what_a_job_prints_does_not_spoil_the_answer_for_machines(place: Place) -> None:
    job = (place.folder / "jobs" / "bios" / "job.py").read_text(encoding="utf-8")
    line = "        values = self.__dict__\n"
    assert line in job
    talking = job.replace(line, f"{line}        print('asked')\n", 1)
    place.write("jobs/bios/job.py", f"print('loaded')\n{talking}")
    ended = place.run("plan", "--json")
    assert (ended.returncode, orjson.loads(ended.stdout)["lines_planned"]) == (0, 2)
    assert ended.stderr.split() == ["loaded", *["asked"] * 3]  # the first row is read twice, to compare


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (",Ana,1,,", "column artist_id is empty"),
        ("a1,,1,,", "column artist_name is empty"),
        ("a1,Ana,1,,soon", "column born must be a whole number (it is 'soon')"),
        (f"a1,Ana,1,{'x' * 20_001},", f"column nationality is longer than 20,000 characters (it is '{'x' * 56}...)"),
    ],
)
def test_what_is_wrong_with_a_cell_is_said_once(place: Place, row: str, sentence: str) -> None:
    place.write("jobs/bios/artists.csv", f"artist_id,artist_name,priority,nationality,born\n{row}\n")
    assert place.refused("plan") == f"jobs/bios/artists.csv, row 2, {sentence}{MEND}"


def test_a_job_that_could_not_judge_its_answers_is_not_planned(place: Place) -> None:
    path = place.folder / "jobs" / "bios" / "job.py"
    path.write_text(path.read_text(encoding="utf-8").replace("def accept(artist: Artist, bio: Bio)", "def accept(a)"))
    assert place.refused("plan").startswith("jobs/bios/job.py: accept(a) -> str | None does not take an artist and a b")
    place.write("jobs/bios/job.py", (ROOT / "jobs" / "bios" / "job.py").read_bytes())
    place.write("jobs/bios/system.md", "\n")
    assert place.refused("plan").startswith("jobs/bios/system.md is empty; ")


def test_the_table_is_not_written_over(place: Place) -> None:
    assert place.run("plan").returncode == 0
    sentence = place.refused("collect", "--out", "jobs/bios/artists.csv")
    assert sentence == "--out names jobs/bios/artists.csv, a table that the job reads; name another file"
