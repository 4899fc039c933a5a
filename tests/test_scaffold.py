"""`batcher init`: a folder that can be planned as it stands, and nothing of the user's is overwritten."""

import stat
from importlib import resources
from pathlib import Path

import pytest

from batcher.config import load_config
from batcher.errors import StateError
from batcher.job import load_job
from batcher.planner import PlanOptions, plan
from batcher.scaffold import scaffold
from batcher.store import Store
from tests.world import Clock

FILES = [
    "batcher.toml",
    "jobs/example/artists.csv",
    "jobs/example/job.py",
    "jobs/example/system.md",
    "jobs/example/user.md",
]


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_new_folder_can_be_planned_as_it_stands(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "place"
    told = scaffold(folder)
    assert files_of(folder) == FILES
    assert sorted(told[:-1]) == [f"{folder / name} written" for name in FILES]
    assert "batcher plan" in told[-1]
    config = load_config(folder / "batcher.toml")
    clock = Clock()
    result, report = plan(
        config,
        load_job(config.job.path),
        Store(config.state.dir, clock, clock.sleep),
        PlanOptions(config.job.input, dry_run=True),
        lambda *_: None,
    )
    assert (result.rows_read, result.lines_planned, report.states) == (5, 5, {"ready": 5})
    assert [p.priority for p in report.priorities] == [1, 2, 3]
    assert files_of(folder) == FILES


def test_the_files_can_be_edited(tmp_path: Path) -> None:
    scaffold(tmp_path)
    assert all((tmp_path / name).stat().st_mode & stat.S_IWUSR for name in FILES)


def test_the_example_judges_its_answers(tmp_path: Path) -> None:
    scaffold(tmp_path)
    job = load_job(tmp_path / "jobs" / "example")
    artist = job.read_row({"artist_id": "a", "artist_name": "Ana Albers"}, "row 2")
    assert job.prompt_values(artist, "row 2") == {
        "artist_name": "Ana Albers",
        "facts": "- nothing is known but the name",
    }
    for bio, message in (
        ("Ana Albers was a weaver of whom hardly anything is known.", None),
        ("Ana Albers wove.", "the bio is shorter than a sentence"),
        ("She was a weaver of whom hardly anything is known.", "the bio does not name the artist"),
    ):
        _, failure = job.judge(artist, f'{{"bio": "{bio}"}}')
        assert (failure and failure.message) == message


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("mine")
    told = scaffold(tmp_path)
    assert own.read_text() == "mine"
    assert f"{own} is there already, left as it is" in told
    assert files_of(tmp_path) == FILES
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    scaffold(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "sub", "Not a directory")):
        with pytest.raises(StateError) as raised:
            scaffold(folder)
        assert str(raised.value) == f"{folder} cannot be written: {why}; name another folder"
    assert files_of(tmp_path) == ["file"]


def test_what_ships_is_what_is_written() -> None:
    """No cache and no stray file goes into the package."""
    root = Path(str(resources.files("batcher").joinpath("data/example")))
    assert [name for name in files_of(root) if "__pycache__" not in name] == FILES
