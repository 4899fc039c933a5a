"""What commands cost, counted: statements, rows, bytes and calls. Nothing here looks at a clock; `make bench` does.

What grows faster than the job makes a job of a million lines impossible, and a test of a hundred lines never shows it
but by its counts.
"""

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batcher.disk.shard_files import file_sha256
from batcher.service.openai_service import OpenAIService
from batcher.state.db.transaction import Transaction
from batcher.state.reports.status import read_status
from batcher.state.snapshot import load_saved_prices
from tests.support.world import ROOT, World, config_with, write_table

pytestmark = pytest.mark.slow("jobs of several sizes, from plan to collect")

HEAVY = (
    "openai",
    "httpx2",
    "asyncio",
    "genai_prices",
    "toktok",
    "batcher.service.openai_service",
    "batcher.lanes.batch.runner",
    "batcher.plan.planner",
    "batcher.core.actions",
    "batcher.contracts.base",
    "batcher.api.opened_job",
)
MOST_OF_A_LOOK = 26
"""Statements of a status: each takes a millisecond, and all of it is to take 300."""
PER_SHARD = 10
HOUR = 3600.0


class Counts:
    """What was done since the last call of `taken`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements = self.rows = self.hashed = self.calls = 0
        self.asked: list[str] = []
        run, append = Transaction.fetch_all, Transaction.insert_rows
        listing, retrieve = OpenAIService.list_batches, OpenAIService.retrieve_batch

        def counted_run(tx: Transaction, name: str, **params: object) -> Any:
            self.asked.append(name)
            return self._gave(run(tx, name, **params))

        def counted_append(tx: Transaction, table: str, rows: Sequence[Any], columns: Any = None) -> None:
            self._gave(rows)
            append(tx, table, rows, columns)

        def counted_listing(service: OpenAIService, back_to: float) -> Any:
            self.calls += 1
            return listing(service, back_to)

        def counted_retrieve(service: OpenAIService, batch_id: str) -> Any:
            self.calls += 1
            return retrieve(service, batch_id)

        def counted_hashing(path: Path) -> str:
            self.hashed += path.stat().st_size
            return file_sha256(path)

        monkeypatch.setattr(Transaction, "fetch_all", counted_run)
        monkeypatch.setattr(Transaction, "insert_rows", counted_append)
        monkeypatch.setattr(OpenAIService, "list_batches", counted_listing)
        monkeypatch.setattr(OpenAIService, "retrieve_batch", counted_retrieve)
        monkeypatch.setattr("batcher.disk.shard_files.file_sha256", counted_hashing)

    def _gave(self, rows: Any) -> Any:
        self.statements += 1
        self.rows += len(rows)
        return rows

    def taken(self) -> dict[str, int]:
        """Return the counts, and start them from zero."""
        names = ("statements", "rows", "hashed", "calls")
        found = {name: getattr(self, name) for name in names}
        for name in names:
            setattr(self, name, 0)
        self.asked.clear()
        return found


def phases(folder: Path, counts: Counts, shards: int) -> dict[str, dict[str, int]]:
    """Return what each part of a job of this many shards costs."""
    brake = {"first_wave": 1}  # the brake looks at the answers; all shards are sent at once
    config = config_with(limits={"lines_per_shard": PER_SHARD}, poll={"interval_s": 60}, brake=brake)
    world = World(folder, config=config)
    table = write_table(folder / "artists.csv", shards * PER_SHARD, priorities=(1,))
    found = {}
    counts.taken()
    world.plan(table)
    found["plan"] = counts.taken()
    world.release()
    counts.taken()
    world.act(once=True)
    found["send"] = counts.taken()
    bytes_of_files = sum(path.stat().st_size for path in (world.store.folder / "shards").iterdir())
    assert found["send"]["hashed"] == bytes_of_files  # each byte once more before it goes up, and never again
    world.act(once=True)  # every batch has a new status
    counts.taken()
    world.act(once=True)
    found["poll"] = counts.taken()
    found["status"] = look(world, counts)
    world.clock.sleep(30 * HOUR)
    world.sandbox.run_due_events()
    world.act(once=True)
    found["take in"] = counts.taken()
    assert world.states() == {"done": shards * PER_SHARD}
    found["status of what is done"] = look(world, counts)
    return found


def look(world: World, counts: Counts) -> dict[str, int]:
    """Return what a status costs. It runs no statement twice."""
    with world.store.read_transaction() as tx:
        counts.taken()
        read_status(tx, world.config, partial(load_saved_prices, tx))
    assert len(set(counts.asked)) == len(counts.asked)
    return counts.taken()


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, int]]]:
    """Run the same job with 4, 8 and 16 shards."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        counts = Counts(monkeypatch)
        return [phases(tmp_path_factory.mktemp("costs"), counts, shards) for shards in (4, 8, 16)]


def growth(costs: list[dict[str, dict[str, int]]], phase: str, what: str) -> tuple[int, int]:
    """Return how much more 8 shards cost than 4, and half of what 16 cost more than 8: equal for a linear cost."""
    few, some, many = (cost[phase][what] for cost in costs)
    return some - few, (many - some + 1) // 2


@pytest.mark.parametrize("phase", ["plan", "send", "take in"])
@pytest.mark.parametrize("what", ["statements", "rows"])
def test_work_grows_with_the_lines_and_not_faster(
    costs: list[dict[str, dict[str, int]]], phase: str, what: str
) -> None:
    first, second = growth(costs, phase, what)
    assert second <= first + first // 10


def test_a_plan_runs_as_many_statements_whatever_its_shards(costs: list[dict[str, dict[str, int]]]) -> None:
    assert growth(costs, "plan", "statements") == (0, 0)


@pytest.mark.parametrize("phase", ["status", "status of what is done"])
def test_a_look_runs_as_many_statements_whatever_the_job(costs: list[dict[str, dict[str, int]]], phase: str) -> None:
    assert growth(costs, phase, "statements") == (0, 0)
    assert costs[0][phase]["statements"] <= MOST_OF_A_LOOK


def test_a_round_works_by_batch_and_never_by_line(costs: list[dict[str, dict[str, int]]]) -> None:
    """A batch of ten lines costs one statement, and the rows of it and of its shard."""
    assert growth(costs, "poll", "statements") == (4, 4)
    assert growth(costs, "poll", "rows")[0] < 4 * PER_SHARD


def test_a_round_makes_one_call_for_all_batches(costs: list[dict[str, dict[str, int]]]) -> None:
    assert [cost["poll"]["calls"] for cost in costs] == [1, 1, 1]


def imported(statement: str) -> set[str]:
    """Return which of the heavy modules a fresh process has after a statement."""
    command = f"import sys; {statement}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(HEAVY) & set(told.stdout.split())


def test_the_package_of_prices_is_whole_for_a_job_that_uses_it_too() -> None:
    pricing = "from batcher.catalog.prices import resolve_prices; resolve_prices('gpt-6-luna')"
    imported(f"{pricing}; from genai_prices import calc_price")


def test_the_package_itself_imports_nothing() -> None:
    """Each start of the command line imports it."""
    command = "import sys, typing; before = {*sys.modules}; import batcher; print(*({*sys.modules} - before))"
    told = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["batcher"]
    assert "batcher.api.opened_job" in imported("import batcher; batcher.open")


def test_a_look_imports_nothing_that_acts() -> None:
    """Each of these takes longer to import than a look takes."""
    assert imported("import batcher.cli.app, batcher.commands.results.status") == set()
    assert imported("import batcher.cli.app, batcher.commands.sending.run") >= {
        "batcher.service.openai_service",
        "batcher.lanes.batch.runner",
    }
