"""`batcher init`: a folder that can be planned as it stands, and nothing of the user's is overwritten."""

import stat
from importlib import resources
from pathlib import Path

import duckdb
import orjson
import pytest

from batcher.collect.collect import collect_bios
from batcher.commands.planning.init import scaffold_job
from batcher.config.loading import load_config
from batcher.core.actions import Finish
from batcher.core.model import Endpoint
from batcher.errors import StateError
from batcher.job.loading import load_job
from batcher.plan.options import PlanOptions
from batcher.plan.planner import plan_job
from batcher.state.db.store import Store
from tests.support.world import Clock, World, counter

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
    told = scaffold_job(folder)
    assert files_of(folder) == FILES
    assert sorted(told[:-1]) == [f"{folder / name} written" for name in FILES]
    assert "batcher plan" in told[-1]
    config = load_config(folder / "batcher.toml")
    clock = Clock()
    result, report = plan_job(
        config,
        load_job(config.job.path),
        Store(config.state.dir, clock, clock.sleep),
        PlanOptions(config.job.input, dry_run=True),
        counter(),
        lambda *_: None,
    )
    assert (result.rows_read, result.lines_planned, report.states) == (5, 5, {"ready": 5})
    assert [p.priority for p in report.priorities] == [1, 2, 3]
    assert files_of(folder) == FILES


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
def test_a_new_folder_runs_to_its_bios_on_the_sandbox(tmp_path: Path, endpoint: str) -> None:
    """The first thing that a user tries: every artist, also the one of whom nothing is known, gets a bio at once."""
    scaffold_job(tmp_path)
    settings = load_config(tmp_path / "batcher.toml")
    model = settings.model.model_copy(update={"endpoint": Endpoint(endpoint)})
    poll = settings.poll.model_copy(update={"interval_s": 900.0})  # a look is work, and nothing here needs many
    world = World(tmp_path, config=settings.model_copy(update={"model": model, "poll": poll}))
    world.job = load_job(settings.job.path)
    world.plan(settings.job.input)
    world.release()
    assert isinstance(world.act(), Finish)
    assert world.states() == {"done": 5}
    assert world.rows("SELECT max(attempts) FROM bios") == [(1,)]
    collected = collect_bios(world.store, world.job, tmp_path / "bios.jsonl", None, False)
    assert (collected.bios, collected.notes) == (5, [])
    bios = [orjson.loads(line) for line in (tmp_path / "bios.jsonl").read_bytes().splitlines()]
    assert all(row["artist_name"] in row["bio"] for row in bios)
    assert "born 1760; known for woodblock prints" in bios[0]["bio"]


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("t.parquet", "SELECT 7 AS artist_id, 'Ana' AS artist_name, 2.00::DECIMAL(4, 2) AS priority"),
        ("t.parquet", "SELECT 7::DECIMAL(20, 0) AS artist_id, 'Ana' AS artist_name, 2.0 AS priority"),
        ("t.jsonl", "SELECT 7 AS artist_id, 'Ana' AS artist_name, '2.00' AS priority"),
        ("t.csv", "SELECT 7 AS artist_id, 'Ana' AS artist_name, '2.00' AS priority"),
    ],
)
@pytest.mark.parametrize("which", ["example", "bios"])
def test_both_jobs_take_ids_that_are_numbers(tmp_path: Path, name: str, query: str, which: str) -> None:
    scaffold_job(tmp_path)
    world = World(tmp_path)
    if which == "example":
        world.job = load_job(tmp_path / "jobs" / "example")
    duckdb.execute(f"COPY ({query}) TO '{tmp_path / name}'")
    world.plan(tmp_path / name)
    assert world.rows("SELECT artist_id, custom_id, priority FROM artists") == [("7", "7", 2)]


@pytest.mark.parametrize("which", ["example", "bios"])
def test_both_jobs_take_ids_that_are_uuids(tmp_path: Path, which: str) -> None:
    scaffold_job(tmp_path)
    world = World(tmp_path)
    if which == "example":
        world.job = load_job(tmp_path / "jobs" / "example")
    ident = "0f3b1e8e-6f0e-4a53-8f3a-0d3b1c9f9a10"
    duckdb.execute(f"COPY (SELECT '{ident}'::UUID AS artist_id, 'Ana' AS artist_name) TO '{tmp_path / 't.parquet'}'")
    world.plan(tmp_path / "t.parquet")
    assert world.rows("SELECT artist_id FROM artists") == [(ident,)]


def test_the_files_can_be_edited(tmp_path: Path) -> None:
    scaffold_job(tmp_path)
    assert all((tmp_path / name).stat().st_mode & stat.S_IWUSR for name in FILES)


def test_the_example_judges_its_answers(tmp_path: Path) -> None:
    scaffold_job(tmp_path)
    job = load_job(tmp_path / "jobs" / "example")
    artist = job.parse_artist_row({"artist_id": "a", "artist_name": "Ana Albers"}, "row 2")
    assert job.prompt_values(artist, "row 2") == {
        "artist_name": "Ana Albers",
        "facts": "- nothing is known but the name",
    }
    for bio, message in (
        ("Ana Albers was a weaver of whom hardly anything is known.", None),
        ("Ana Albers wove.", "the bio is shorter than a sentence"),
        ("She was a weaver of whom hardly anything is known.", "the bio does not name the artist"),
    ):
        _, failure = job.validate_answer(artist, f'{{"bio": "{bio}"}}')
        assert (failure and failure.message) == message


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("mine")
    told = scaffold_job(tmp_path)
    assert own.read_text() == "mine"
    assert f"{own} is there already, left as it is" in told
    assert files_of(tmp_path) == FILES
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    scaffold_job(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "sub", "Not a directory")):
        with pytest.raises(StateError) as raised:
            scaffold_job(folder)
        assert str(raised.value) == f"{folder} cannot be written: {why}; name another folder"
    assert files_of(tmp_path) == ["file"]


def test_what_ships_is_what_is_written() -> None:
    """No cache and no stray file goes into the package."""
    root = Path(str(resources.files("batcher").joinpath("data/example")))
    assert [name for name in files_of(root) if "__pycache__" not in name] == FILES
