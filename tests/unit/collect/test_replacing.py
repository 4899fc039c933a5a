"""What `collect` asks of a file that it replaces."""

from pathlib import Path

import pytest

from batcher.collect import collect, replacing
from batcher.collect.collect import collect_bios
from batcher.disk.shard_files import file_sha256
from tests.support.planner_kit import Desk


@pytest.mark.parametrize("overwrite", [False, True])
def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool) -> None:
    """Read what is replaced and what is written once: both may hold gigabytes."""
    desk = Desk(tmp_path)
    done = desk.table("artist_id,bio\na,Ana was.\n", "done.csv")
    desk.plan(desk.table("artist_id,artist_name\na,Ana\nb,Bo\n"), done=done)
    out, failed = tmp_path / "bios.csv", tmp_path / "failed.csv"
    collect_bios(desk.world.store, desk.world.job, out, failed, False)
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return file_sha256(path)

    for module in (collect, replacing):
        monkeypatch.setattr(module, "file_sha256", counted)
    collect_bios(desk.world.store, desk.world.job, out, failed, False, overwrite)
    assert sorted(read) == [".bios.csv.batcher.part", ".failed.csv.batcher.part", "bios.csv", "failed.csv"]


def test_no_file_beside_the_target_is_touched(tmp_path: Path) -> None:
    """A file of the user's that ends in .part stays, and nothing is written through a link to another one."""
    desk = Desk(tmp_path)
    done = desk.table("artist_id,bio\na,Ana was.\n", "done.csv")
    desk.plan(desk.table("artist_id,artist_name\na,Ana\nb,Bo\n"), done=done)
    own, letter = tmp_path / ".bios.csv.part", tmp_path / "letter.txt"
    own.write_text("half a download")
    letter.write_text("Dear Ana")
    (tmp_path / ".bios.csv.batcher.part").symlink_to(letter)
    collect_bios(desk.world.store, desk.world.job, tmp_path / "bios.csv", None, False)
    assert (own.read_text(), letter.read_text()) == ("half a download", "Dear Ana")
    assert "Ana was." in (tmp_path / "bios.csv").read_text()
