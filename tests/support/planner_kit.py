"""What the tests of `plan` share: a world with a table and a job of its own, and functions that inspect a plan."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from batcher.config.sections import Config
from batcher.errors import BatcherError
from batcher.job.loading import load_job
from batcher.plan.options import PlanOptions
from batcher.plan.planner import PlanReport, PlanResult, plan_job
from batcher.sandbox import SandboxSettings
from tests.support.world import World, config_with, counter

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
    {bio}


def accept(artist, bio):
    return None
"""


class Desk:
    """A world whose table and job belong to the test."""

    def __init__(self, folder: Path, config: Config | None = None, home: str = "", **job: str) -> None:
        self.world = World(folder / home, SandboxSettings(), config or config_with(limits=TEN_LINES, poll=SLOW_POLLS))
        self.folder = folder
        self.jobs = folder / "jobs"
        self.write_job(**job)

    def write_job(self, user: str = "Artist: {artist_name}\nFact: {fact}", **parts: str) -> None:
        values = '{"artist_name": self.artist_name, "fact": self.fact or "none"}'
        source = {"id_type": "str", "priority_type": "int | None", "values": values, "bio": "bio: str", **parts}
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
        chosen = PlanOptions(table, **options)
        return plan_job(world.config, world.job, world.store, chosen, counter(), lambda *_: None)

    def refused(self, kind: type[BatcherError], table: Path, **options: Any) -> str:
        """Return the error message of a plan that fails, and check that it changes nothing."""
        before = snapshot(self.world)
        with pytest.raises(kind) as raised:
            self.plan(table, **options)
        assert snapshot(self.world) == before
        return str(raised.value).replace(f"{self.folder}/", "")


def snapshot(world: World) -> object:
    """Return the content of every table of the state and of every other file of its folder, None without a folder."""
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
    """Check that the recorded sizes, counts and digests are those of the files, and that the state knows every file."""
    files = shard_files(world)
    recorded = world.rows("SELECT shard, lines, bytes, sha256 FROM shards ORDER BY shard")
    assert [f"shard-{row[0]:05d}.jsonl" for row in recorded] == list(files)
    for (_, lines, size, digest), data in zip(recorded, files.values(), strict=True):
        assert (lines, size, digest) == (data.count(b"\n"), len(data), hashlib.sha256(data).hexdigest())
    in_shards = "SELECT sum(lines), sum(tokens), sum(bytes) FROM shards WHERE state <> 'stale'"
    in_lines = "SELECT count(*), sum(tokens), sum(bytes) FROM artists WHERE shard IS NOT NULL"
    assert world.rows(in_shards) == world.rows(in_lines)
