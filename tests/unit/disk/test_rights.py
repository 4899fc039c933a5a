"""The rights of files: the state folder is its owner's alone, whoever made it, and nothing else is touched."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from batcher.disk.locks import lane_lock
from batcher.disk.private_files import make_private_folder, open_private_file
from batcher.disk.result_archive import archive_result_file
from batcher.disk.shard_files import ShardWriter
from batcher.state.db.store import Store
from tests.support.state_kit import Naps, enter
from tests.support.world import Clock


def rights(folder: Path) -> dict[str, int]:
    """Return the rights of a folder and of all in it."""
    found = {str(path.relative_to(folder)): path for path in (folder, *folder.rglob("*"))}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}


@pytest.fixture(params=[0o000, 0o022, 0o377])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_what_is_in_the_state_folder_is_its_owners_alone(tmp_path: Path, naps: Naps, umask: int) -> None:
    store = Store(tmp_path / "state", Clock(), naps)
    within: list[dict[str, int]] = []
    after: list[dict[str, int]] = []
    with mock.patch("batcher.crashpoints.mark_reached", lambda name: within.append(rights(store.folder))):
        with store.plan_transaction() as tx:
            tx.fetch_all("insert_run", run_id="r", now=tx.now)
            writer = ShardWriter(store.folder, 1, 1)
            writer.write_lines(b"{}", 1, 1, 1)
            writer.close()
        after.append(rights(store.folder))
        with store.transaction("few") as tx:
            tx.write_fact("x", 1)
        after.append(rights(store.folder))
        with store.transaction("many") as tx:
            tx.con.execute("INSERT INTO facts SELECT 'fact ' || i, i, repeat('x', 40) FROM range(2000) r(i)")
        with lane_lock(store.folder, "batch", print, naps, 0.0):
            make_private_folder(store.folder / "results")
            with open_private_file(store.folder / "results" / "b_output.jsonl") as file:
                file.write(b"{}")
            archive_result_file(store.folder / "results" / "b_output.jsonl")
            after.append(rights(store.folder))
    assert "state.duckdb.wal" in after[1] and "state.duckdb.before" in within[-1]
    assert {"shards/shard-00001.jsonl", "batch.lock", "results/b_output.jsonl.gz"} < set(after[2])
    assert all(found["."] == 0o700 for found in within)
    ours = [{name: mode for name, mode in found.items() if name not in DUCKDBS} for found in within]
    wrong = {
        f"{name} {mode:o}"
        for found in (*ours, *after)
        for name, mode in found.items()
        if mode != (0o600 if "." in name.strip(".") else 0o700)
    }
    assert wrong == set()


DUCKDBS = {"state.duckdb", "state.duckdb.wal"}
"""The files that DuckDB makes by the umask. They are restricted once it has let go of them."""


def test_what_is_written_elsewhere_keeps_the_rights_of_the_umask(planned: Store, tmp_path: Path, umask: int) -> None:
    with planned.transaction("collect") as tx:
        tx.con.execute(f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'")
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o666 & ~umask


def test_a_folder_of_an_earlier_version_is_restricted_by_whoever_acts_next(planned: Store) -> None:
    """What is not Batcher's in it is left as it is, and so is what a link leads to."""
    elsewhere = planned.folder.parent / "elsewhere"
    elsewhere.write_text("x")
    for name in (
        "shards/shard-00001.jsonl",
        "results/b_output.jsonl.gz",
        "batch.lock",
        "state.duckdb.before.unusable",
        "notes.txt",
    ):
        path = planned.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (planned.folder / "results" / "link").symlink_to(elsewhere)
    (planned.folder / "direct.lock").symlink_to(elsewhere)
    for path in (planned.folder, *planned.folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = rights(planned.folder)
    later = planned.with_folder(planned.folder)
    enter(later.read_transaction())
    assert rights(planned.folder) == before
    enter(later.transaction("write"))
    changed = {name for name, mode in rights(planned.folder).items() if mode != before[name]}
    assert changed == set(before) - {"notes.txt", "results/link", "direct.lock"}
    assert set(rights(planned.folder).values()) == {0o700, 0o600, 0o644}


def test_a_folder_that_is_everybodys_stays_so(planned: Store) -> None:
    planned.folder.chmod(0o1777)
    enter(planned.with_folder(planned.folder).transaction("write"))
    assert stat.S_IMODE(planned.folder.stat().st_mode) == 0o1777
