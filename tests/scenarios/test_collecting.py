"""Collecting: the columns of the file, what is new, and which files are never written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from batcher.collect.collect import CollectResult, check_targets, collect_bios
from batcher.errors import InputError, StateError
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


def done(desk: Desk, name: str, **bios: object) -> Path:
    """Write a table of bios that exist."""
    rows = (orjson.dumps({"artist_id": key, **bio}) for key, bio in bios.items())  # type: ignore[dict-item]
    return desk.table(b"\n".join(rows), name)


def more(desk: Desk, **bios: object) -> None:
    """Give more artists a bio."""
    desk.plan(desk.folder / "t.csv", done=done(desk, "more.jsonl", **bios))


def stored(desk: Desk, artist_id: str, **changes: object) -> None:
    """Change a bio into one that an earlier job.py, or an odd model, has left."""
    with desk.world.store.transaction("as if") as tx:
        ((data,),) = tx.con.execute("SELECT data FROM bios WHERE artist_id = ?", [artist_id]).fetchall()
        text = orjson.dumps({**orjson.loads(data), **changes}).decode().replace('"BIG"', "9" * 30)
        tx.con.execute("UPDATE bios SET data = ? WHERE artist_id = ?", [text, artist_id])


def collected(desk: Desk, name: str, only_new: bool = False, failed: Path | None = None) -> CollectResult:
    return collect_bios(desk.world.store, desk.world.job, desk.folder / name, failed, only_new)


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
    assert collected(desk, "new.jsonl", only_new=True).bios == 1
    assert ids(out) == ["c"]


@pytest.mark.parametrize("only_new", [False, True])
def test_a_death_between_the_file_and_the_commit_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, only_new: bool
) -> None:
    def die(*_: object) -> None:
        raise StateError("dead")

    with monkeypatch.context() as patch:
        patch.setattr("batcher.state.db.store._commit_or_raise", die)
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
        with pytest.raises(StateError, match=r"bios\.jsonl cannot be written: No space left on device"):
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
    assert collected(desk, "second.csv").bios == 2
