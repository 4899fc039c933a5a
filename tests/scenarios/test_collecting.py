"""Collecting: the columns of the file, what is new, and which files are never written."""

import resource
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from batcher.collect import placing
from batcher.collect.collect import CollectResult, check_replacing, check_targets, collect_bios
from batcher.errors import InputError, StateError
from batcher.state import bios
from batcher.state.bios import FILES_KEPT, FileContent, FileRecord
from batcher.state.db.store import Store
from tests.support.planner_kit import Desk

HEAD = "artist_id,artist_name\n"
FIELDS = "bio: str\n    born: int | None\n    share: float\n    sure: bool\n    tags: list[str]"
ANA: dict[str, object] = {"bio": "Ana was.", "born": 1899, "share": 0.5, "sure": True, "tags": ["x"]}
BO: dict[str, object] = {"bio": "Bo was.", "born": None, "share": 1, "sure": False, "tags": []}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Two artists with a bio, one without."""
    made = Desk(tmp_path, bio=FIELDS)
    made.plan(made.table(HEAD + "a,Ana\nb,Bo\nc,Cy\n"), done=done(made, "d.jsonl", a=ANA, b=BO))
    return made


def done(desk: Desk, name: str, **made: object) -> Path:
    """Write a table of bios that exist."""
    rows = (orjson.dumps({"artist_id": key, **bio}) for key, bio in made.items())  # type: ignore[dict-item]
    return desk.table(b"\n".join(rows), name)


def more(desk: Desk, **made: object) -> None:
    """Give more artists a bio."""
    desk.plan(desk.folder / "t.csv", done=done(desk, "more.jsonl", **made))


def stored(desk: Desk, artist_id: str, **changes: object) -> None:
    """Change a bio into one that an earlier job.py, or an odd model, has left."""
    with desk.world.store.transaction("as if") as tx:
        ((data,),) = tx.con.execute("SELECT data FROM bios WHERE artist_id = ?", [artist_id]).fetchall()
        text = orjson.dumps({**orjson.loads(data), **changes}).decode().replace('"BIG"', "9" * 30)
        tx.con.execute("UPDATE bios SET data = ? WHERE artist_id = ?", [text, artist_id])


def collected(
    desk: Desk, name: str, only_new: bool = False, failed: Path | None = None, overwrite: bool = False
) -> CollectResult:
    return collect_bios(desk.world.store, desk.world.job, desk.folder / name, failed, only_new, overwrite)


def ids(path: Path) -> list[str]:
    """Return the artists of a JSONL file, in its order."""
    return [orjson.loads(line)["artist_id"] for line in path.read_bytes().splitlines()]


def columns(path: Path) -> dict[str, tuple[str, list[object]]]:
    """Return the job's own columns of a Parquet file: type and values."""
    with duckdb.connect() as con:
        found = con.execute("SELECT bio, born, share, sure, tags FROM read_parquet(?)", [str(path)])
        described = [(str(column[0]), str(column[1])) for column in found.description or []]
        values = list(zip(*found.fetchall(), strict=True))
    return {name: (kind, list(value)) for (name, kind), value in zip(described, values, strict=True)}


def test_every_field_is_a_column_of_its_type(desk: Desk) -> None:
    result = collected(desk, "bios.parquet")
    assert (result.bios, result.open, result.notes) == (2, 1, [])
    assert columns(desk.folder / "bios.parquet") == {
        "bio": ("VARCHAR", ["Ana was.", "Bo was."]),
        "born": ("BIGINT", [1899, None]),
        "share": ("DOUBLE", [0.5, 1.0]),
        "sure": ("BOOLEAN", [True, False]),
        "tags": ("JSON", ['["x"]', "[]"]),
    }


@pytest.mark.parametrize(
    ("field", "value", "texts", "what"),
    [
        ("born", "c. 1900", ["1899", "c. 1900"], '"c. 1900", which is not a whole number of at most 64 bits'),
        ("born", "1900", ["1899", "1900"], '"1900", which is not a whole number of at most 64 bits'),
        ("born", 1900.7, ["1899", "1900.7"], "1900.7, which is not a whole number of at most 64 bits"),
        ("born", 2**63, ["1899", str(2**63)], f"{2**63}, which is not a whole number of at most 64 bits"),
        ("born", "BIG", ["1899", "9" * 30], f"{'9' * 30}, which is not a whole number of at most 64 bits"),
        ("born", [1, 2], ["1899", "[1,2]"], "[1,2], which is not a whole number of at most 64 bits"),
        ("share", "half", ["0.5", "half"], '"half", which is not a number'),
        ("sure", "yes", ["true", "yes"], '"yes", which is not true or false'),
        ("sure", 1, ["true", "1"], "1, which is not true or false"),
    ],
)
def test_a_value_that_does_not_fit_is_kept_and_told_and_blocks_nothing(
    desk: Desk, field: str, value: object, texts: list[str], what: str
) -> None:
    stored(desk, "b", **{field: value})
    result = collected(desk, "bios.parquet")
    found = columns(desk.folder / "bios.parquet")
    assert result.bios == 2
    assert result.notes == [f"column {field} is written as text: artist b has {what}"]
    assert found[field] == ("VARCHAR", texts)
    assert found["bio"] == ("VARCHAR", ["Ana was.", "Bo was."])


@pytest.mark.parametrize("field", ["born", "share", "sure", "tags", "bio"])
def test_a_field_that_a_bio_lacks_is_empty(desk: Desk, field: str) -> None:
    """Collect a bio that was made when Bio had a field less."""
    stored(desk, "b", **{field: None})
    assert collected(desk, "bios.jsonl").notes == []


def test_a_bio_of_text_where_the_job_wants_a_number_now(desk: Desk) -> None:
    """Collect bios of which none has the type that a field has now."""
    desk.write_job(bio="bio: int\n    tags: list[str]")
    result = collected(desk, "bios.jsonl")
    assert [orjson.loads(line)["bio"] for line in (desk.folder / "bios.jsonl").read_bytes().splitlines()] == [
        "Ana was.", "Bo was.",
    ]  # fmt: skip
    assert [note.partition(":")[0] for note in result.notes] == ["column bio is written as text"]


def test_choices_are_written_without_quotes(desk: Desk) -> None:
    choice = 'bio: str\n    kind: __import__("enum").StrEnum("Kind", ["a", "b"])\n    either: str | int'
    desk.write_job(bio=choice)
    for artist_id, either in (("a", "text"), ("b", 7)):
        stored(desk, artist_id, kind=artist_id, either=either)
    collected(desk, "bios.csv")
    rows = (desk.folder / "bios.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[3:6] for row in rows] == [
        ["bio", "kind", "either"], ["Ana was.", "a", "text"], ["Bo was.", "b", "7"],
    ]  # fmt: skip


@pytest.mark.parametrize("first_only_new", [False, True])
def test_only_new_is_what_no_collect_has_written(desk: Desk, first_only_new: bool) -> None:
    assert collected(desk, "first.jsonl", first_only_new).bios == 2
    more(desk, c={**ANA, "bio": "Cy was."})
    result = collected(desk, "new.jsonl", only_new=True)
    assert (result.bios, result.kept, result.notes) == (1, False, [])
    assert ids(desk.folder / "new.jsonl") == ["c"]
    assert collected(desk, "all.jsonl").bios == 3  # without the option, all of them, at any time


def test_a_file_is_not_replaced_by_one_with_nothing_new(desk: Desk) -> None:
    """Keep the file: what --only-new wrote is in no other."""
    out, failed = desk.folder / "new.jsonl", desk.folder / "failed.jsonl"
    collected(desk, "new.jsonl", only_new=True)
    before = out.read_bytes()
    result = collected(desk, "new.jsonl", only_new=True, failed=failed)
    assert (result.bios, result.kept, result.notes) == (0, True, [f"nothing new; {out} is left as it is"])
    assert (result.open, result.failed) == (1, 0)
    assert out.read_bytes() == before
    assert failed.exists()
    assert collected(desk, "other.jsonl", only_new=True).kept is False  # a reader of the file finds an empty one
    assert (desk.folder / "other.jsonl").read_bytes() == b""
    more(desk, c={**ANA, "bio": "Cy was."})
    sentence = "new.jsonl exists, and --only-new would replace the bios in it; name another file, or replace it with"
    assert refused(lambda: collected(desk, "new.jsonl", only_new=True), desk.folder) == f"{sentence} --overwrite"
    assert ids(out) == ["a", "b"]
    assert collected(desk, "new.jsonl", only_new=True, overwrite=True).bios == 1
    assert ids(out) == ["c"]


@pytest.mark.parametrize("only_new", [False, True])
def test_a_death_between_the_file_and_the_commit_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, only_new: bool
) -> None:
    def die(*_: object) -> None:
        raise StateError("dead")

    with monkeypatch.context() as patch:
        patch.setattr("batcher.state.bios.mark_collected", die)
        with pytest.raises(StateError, match="dead"):
            collected(desk, "lost.jsonl", only_new)
    assert ids(desk.folder / "lost.jsonl") == ["a", "b"]
    assert collected(desk, "new.jsonl", only_new=True).bios == 2
    assert ids(desk.folder / "new.jsonl") == ["a", "b"]
    assert collected(desk, "none.jsonl", only_new=True).bios == 0


def test_a_file_that_cannot_be_moved_into_place_was_not_collected(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(StateError, match=r"bios\.jsonl: the disk is full; nothing was lost, make room"):
            collected(desk, "bios.jsonl")
    assert not list(desk.folder.glob(".*.part"))
    assert collected(desk, "bios.jsonl", only_new=True).bios == 2


def refused(call: Callable[[], Any], folder: Path) -> str:
    with pytest.raises(InputError) as raised:
        call()
    return str(raised.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("name", ["t.csv", "sub/../t.csv", "link.csv", "hard.csv"])
def test_a_protected_table_is_not_written(tmp_path: Path, name: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(HEAD)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.csv").symlink_to(table)
    (tmp_path / "hard.csv").hardlink_to(table)
    target, fine = tmp_path / name, tmp_path / "fine.csv"
    rest = f"names {name}, a table that the job reads; name another file"
    assert refused(lambda: check_targets(target, None, [table]), tmp_path) == f"--out {rest}"
    assert refused(lambda: check_targets(fine, target, [tmp_path / "none.csv", table]), tmp_path) == f"--failed {rest}"
    check_targets(fine, None, [table])
    check_targets(target, fine)


def test_a_link_that_leads_nowhere_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    check_targets(tmp_path / "loop.csv", None, [tmp_path / "t.csv"])


def test_two_targets_are_two_files(tmp_path: Path) -> None:
    one = tmp_path / "b.csv"
    sentence = "--out and --failed both name b.csv; give them different files"
    assert refused(lambda: check_targets(one, tmp_path / "." / "b.csv"), tmp_path) == sentence
    assert refused(lambda: check_targets(None, one), tmp_path) == "--failed needs --out; name a file for the bios too"
    check_targets(None, None)


@pytest.mark.parametrize("option", ["--out", "--failed"])
def test_no_table_that_was_ever_planned_is_written(desk: Desk, option: str) -> None:
    """Protect the tables of all plans. The state keeps their paths relative to its own folder."""
    desk.plan(desk.table(HEAD + "d,Di\n", "second.csv"))
    for name in ("t.csv", "second.csv", "d.jsonl"):
        before = (desk.folder / name).read_bytes()
        out, failed = (name, None) if option == "--out" else ("bios.jsonl", desk.folder / name)
        result = refused(lambda out=out, failed=failed: collected(desk, out, failed=failed), desk.folder)  # type: ignore[misc]
        assert result == f"{option} names {name}, a table that the job reads; name another file"
        assert (desk.folder / name).read_bytes() == before
    assert not (desk.folder / "bios.jsonl").exists()


def test_a_rehearsed_plan_protects_nothing(desk: Desk) -> None:
    desk.plan(desk.table(HEAD + "d,Di\n", "second.csv"), dry_run=True)
    assert collected(desk, "second.csv", overwrite=True).bios == 2


@pytest.mark.parametrize("only_new", [False, True])
@pytest.mark.parametrize("point", ["batcher.collect.collect.move_into_place", "batcher.state.bios.mark_collected"])
def test_the_same_command_goes_on_after_a_death(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, point: str, only_new: bool
) -> None:
    """Know the file again, whether the death came before or after it was moved into place."""

    def die(*_: object) -> None:
        raise StateError("dead")

    if not only_new:
        collected(desk, "bios.jsonl")
        more(desk, c={**ANA, "bio": "Cy was."})
    with monkeypatch.context() as patch:
        patch.setattr(point, die)
        with pytest.raises(StateError, match="dead"):
            collected(desk, "bios.jsonl", only_new)
    everyone = ["a", "b"] if only_new else ["a", "b", "c"]
    assert collected(desk, "bios.jsonl", only_new).bios == len(everyone)
    assert ids(desk.folder / "bios.jsonl") == everyone
    assert collected(desk, "rest.jsonl", only_new=True).bios == 0


def test_a_collect_beside_another_takes_no_bio_from_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mark only what one's own file holds: the other may die before its file is in place."""
    moved = placing.move_into_place

    def move_while_another_dies(source: Path, target: Path) -> None:
        moved(source, target)
        desk.world.clock.now += 1
        more(desk, c={**ANA, "bio": "Cy was."})
        with desk.world.store.transaction("another") as tx:
            bios.mark_written(tx)

    with monkeypatch.context() as patch:
        patch.setattr("batcher.collect.collect.move_into_place", move_while_another_dies)
        assert collected(desk, "first.jsonl", only_new=True).bios == 2
    assert collected(desk, "next.jsonl", only_new=True).bios == 3


def write_foreign_file(desk: Desk, path: Path) -> None:
    path.write_text("the user's own")


def edit_own_file(desk: Desk, path: Path) -> None:
    collected(desk, path.name)
    path.write_bytes(path.read_bytes().replace(b"Ana", b"Eva"))


def copy_file_of_another_state(desk: Desk, path: Path) -> None:
    other = Desk(desk.folder, bio=FIELDS, home="other")
    other.plan(desk.folder / "t.csv", done=desk.folder / "d.jsonl")
    collect_bios(other.world.store, other.world.job, desk.folder / "b.csv", None, False)
    (desk.folder / "b.csv").rename(path)


def link_to_nothing(desk: Desk, path: Path) -> None:
    path.symlink_to(desk.folder / "nothing")


@pytest.mark.parametrize("target", ["--out", "--failed"])
@pytest.mark.parametrize("make", [write_foreign_file, edit_own_file, copy_file_of_another_state, link_to_nothing])
def test_a_file_that_is_not_ours_is_replaced_only_when_asked(
    desk: Desk, make: Callable[[Desk, Path], None], target: str
) -> None:
    out, failed = desk.folder / "bios.csv", desk.folder / "failed.csv"
    path, name = (out, None) if target == "--out" else (failed, failed)
    make(desk, path)
    before = path.read_bytes() if path.exists() else None
    what = f"{path.name} exists, and is not as this job's `collect` wrote it; name another file, or replace it with"
    assert refused(lambda: collected(desk, out.name, failed=name), desk.folder) == f"{what} --overwrite"
    assert refused(lambda: check_replacing(desk.world.store, out, name), desk.folder) == f"{what} --overwrite"
    assert (path.read_bytes() if path.exists() else None) == before
    assert out.exists() == (path == out and before is not None)
    assert not list(desk.folder.glob(".*.part"))
    collected(desk, out.name, failed=name, overwrite=True)
    collected(desk, out.name, failed=name)  # now it is ours
    check_replacing(desk.world.store, out, name)


def test_a_file_with_more_bios_is_replaced_only_when_asked(desk: Desk) -> None:
    collected(desk, "bios.csv")
    before = (desk.folder / "bios.csv").read_bytes()
    with desk.world.store.transaction("as if") as tx:
        tx.con.execute("DELETE FROM bios WHERE artist_id = 'b'")
    what = "bios.csv holds 2 bios, and 1 would be written; name another file, or replace it with --overwrite"
    assert refused(lambda: collected(desk, "bios.csv"), desk.folder) == what
    assert (desk.folder / "bios.csv").read_bytes() == before
    assert collected(desk, "bios.csv", overwrite=True).bios == 1


def test_bios_and_failures_do_not_replace_each_other_unasked(desk: Desk) -> None:
    bios, failed = desk.folder / "bios.csv", desk.folder / "failed.csv"
    hold(desk, "c")
    collected(desk, "bios.csv", failed=failed)
    before = bios.read_bytes(), failed.read_bytes()
    for out, other, what in (
        ("other.csv", bios, "bios.csv holds bios, not artists without a bio"),
        ("failed.csv", None, "failed.csv holds artists without a bio, not bios"),
    ):
        sentence = f"{what}; name another file, or replace it with --overwrite"
        assert refused(partial(collected, desk, out, failed=other), desk.folder) == sentence
        assert refused(partial(check_replacing, desk.world.store, desk.folder / out, other), desk.folder) == sentence
    assert (bios.read_bytes(), failed.read_bytes()) == before
    collected(desk, "failed.csv", failed=bios, overwrite=True)


def test_fewer_failures_replace_more(desk: Desk) -> None:
    """A list of failures is to grow shorter."""
    failed = desk.folder / "failed.csv"
    hold(desk, "c")
    assert collected(desk, "bios.csv", failed=failed).failed == 1
    more(desk, c={**ANA, "bio": "Cy was."})
    with desk.world.store.transaction("as if") as tx:
        tx.con.execute("UPDATE artists SET state = 'done' WHERE artist_id = 'c'")
    assert collected(desk, "bios.csv", failed=failed).failed == 0


def test_an_empty_file_is_nobodys(desk: Desk) -> None:
    (desk.folder / "bios.csv").touch()
    check_replacing(desk.world.store, desk.folder / "bios.csv", None)
    assert collected(desk, "bios.csv").bios == 2


def test_before_there_is_a_plan_no_file_is_ours(tmp_path: Path) -> None:
    store = Store(tmp_path / "state", lambda: 0.0, lambda _s: None)
    out = tmp_path / "bios.csv"
    check_replacing(store, out, None)
    out.write_text("the user's own")
    assert refused(lambda: check_replacing(store, out, None), tmp_path).startswith("bios.csv exists, and is not as")


def test_a_job_that_is_moved_knows_its_files_and_forgets_the_oldest(desk: Desk) -> None:
    with desk.world.store.transaction("as if") as tx:
        content = FileContent(1, "", 1)
        bios.record_written_files(tx, {f"{n}.csv": FileRecord([content], True) for n in range(FILES_KEPT)})
    collected(desk, "bios.csv")
    with desk.world.store.read_transaction() as tx:
        assert list(bios.load_written_files(tx)) == [*(f"{n}.csv" for n in range(1, FILES_KEPT)), "bios.csv"]


def hold(desk: Desk, artist_id: str) -> None:
    with desk.world.store.transaction("as if") as tx:
        tx.con.execute(
            "UPDATE artists SET state = 'held', failure = 'missing', code = 'absent', message = 'perhaps paid', "
            "wait_until = NULL WHERE artist_id = ?",
            [artist_id],
        )


def test_held_lines_are_among_the_failures_with_their_reason(desk: Desk) -> None:
    hold(desk, "c")
    result = collected(desk, "bios.csv", failed=desk.folder / "failed.jsonl")
    (row,) = (orjson.loads(line) for line in (desk.folder / "failed.jsonl").read_bytes().splitlines())
    assert (result.failed, result.held) == (1, 1)
    assert (row["artist_id"], row["state"]) == ("c", "held")
    assert (row["class"], row["code"], row["message"]) == ("missing", "absent", "perhaps paid")


@pytest.mark.parametrize("name", ["bios.jsonl", "bios.csv", "bios.parquet"])
def test_a_disk_that_takes_no_more_is_told_as_everywhere(desk: Desk, name: str) -> None:
    """A real refusal of the system: no file may be longer than some bytes."""
    collected(desk, "first.csv")
    before = (desk.folder / "first.csv").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        with pytest.raises(StateError) as raised:
            collected(desk, name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(raised.value) == (
        f"{desk.folder / name}: the file is larger than this user may write; nothing was lost, raise the limit and "
        "run again"
    )
    assert not list(desk.folder.glob(".*.part"))
    assert not (desk.folder / name).exists()
    assert (desk.folder / "first.csv").read_bytes() == before
    assert collected(desk, name).bios == 2


def test_a_full_disk_is_told_as_everywhere(desk: Desk, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)]
    mounted = subprocess.run(options, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system of one's own can be mounted here: {mounted.stderr.strip()}")
    try:
        (disk / "ballast").write_bytes(b"x" * 4096)
        with pytest.raises(StateError, match=r"disk/bios\.csv: the disk is full; nothing was lost, make room and run"):
            collected(desk, "disk/bios.csv")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
