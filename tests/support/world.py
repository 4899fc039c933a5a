"""A whole job in one process: the real store, the real client, the sandbox behind it, and one clock for all.

Sleeping moves the clock, so that a week takes moments and no test waits.
"""

import atexit
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import duckdb
import httpx2
import openai

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.config.sections import Config
from batcher.config.services import find_service_profile
from batcher.core.actions import Finish, Wait
from batcher.core.events import Event
from batcher.job.job import Job
from batcher.job.loading import load_job
from batcher.lanes.batch.runner import BatchRunner
from batcher.lanes.context import LaneContext
from batcher.plan.options import PlanOptions
from batcher.plan.planner import plan_job
from batcher.sandbox import Sandbox, SandboxSettings
from batcher.sandbox.web.transport import SandboxTransport
from batcher.service.openai_service import OpenAIService
from batcher.state.db.engine import Engine
from batcher.state.db.store import Store
from batcher.state.plan import count_artists_by_state

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-test-of-a-world"
START = 1_795_000_000.0  # November 2026
NO_BRAKE: Mapping[str, object] = {"max_unusable": 1, "first_wave": 1}
"""Settings of `[brake]` that keep nothing back."""


class Clock:
    """A clock that moves only by sleeping."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def config_with(**sections: Mapping[str, object]) -> Config:
    """Return the default settings with these keys of these sections changed, ten minutes between two polls, 600
    tokens of output, whatever the table of models says, and no brake: most tests are about something else.

    At the default interval a simulated hour takes a real second.
    """
    model = {"max_output_tokens": 600, **sections.get("model", {})}
    return Config(**{"poll": {"interval_s": 600}, "brake": NO_BRAKE, **sections, "model": model})


@cache
def counter() -> TokenCounter:
    """Return the counter of tokens, one for all plans of this process: it takes half a second to start."""
    counter = TokenCounter()
    atexit.register(counter.__exit__)
    return counter


@cache
def bios_job() -> Job:
    """Return the job that comes with the project."""
    return load_job(ROOT / "jobs" / "bios")


def write_table(path: Path, count: int, priorities: Sequence[int] = (1, 2, 3)) -> Path:
    """Write a CSV of `count` artists with the priorities in turn, and return its path."""
    cycle = len(priorities)
    rows = [f"a{n:05d},Artist Number {n},{priorities[n % cycle]},Dutch,{1600 + n % 300}" for n in range(count)]
    path.write_text("artist_id,artist_name,priority,nationality,born\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


@contextmanager
def kept_open(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """Keep one connection to the state open; meanwhile every transaction of any store is a cursor of it.

    Starting DuckDB takes 16 ms and attaching a file some more, which adds up where a test opens a state hundreds of
    times. The file, the transactions and the SQL are the real ones.
    """
    with (
        duckdb.connect(str(store.path)) as anchor,
        mock.patch.object(Engine, "attach_file", lambda *_: anchor.cursor()),
        mock.patch.object(Engine, "_ensure_started"),
        mock.patch.object(Engine, "detach_file"),
        mock.patch.object(Engine, "fold_log"),
    ):
        yield anchor


class World:
    """One job against one sandbox."""

    def __init__(self, folder: Path, settings: SandboxSettings | None = None, config: Config | None = None) -> None:
        self.folder = folder
        self.clock = Clock()
        self.sandbox = Sandbox(settings or SandboxSettings(), folder / "sandbox", self.clock)
        self.config = config or config_with()
        self.random = random.Random(7)
        self.events: list[Event] = []
        self.store = Store(folder / "state", self.clock, self.clock.sleep)
        self.job = bios_job()

    def service(self) -> OpenAIService:
        """Return our service over the real client and the sandbox's transport."""
        http = httpx2.Client(transport=SandboxTransport(self.sandbox))
        client = openai.OpenAI(api_key=KEY, base_url="http://sandbox/v1", http_client=http, max_retries=0)
        profile = find_service_profile(self.config)
        rules = self.config.retry.to_rules()
        return OpenAIService(client, rules, self.clock.sleep, self.random.random, profile=profile)

    def tools(self) -> LaneContext:
        """Return the context of an acting process."""
        return LaneContext(
            store=self.store,
            service=self.service(),
            job=self.job,
            config=self.config,
            rules=self.config.retry.to_rules(),
            prices=resolve_prices,
            jitter=self.random.random,
            clock=self.clock,
            sleep=self.clock.sleep,
            notify=self.record_event,
        )

    def plan(self, table: Path, **options: object) -> None:
        """Plan a table."""
        plan_job(self.config, self.job, self.store, PlanOptions(table, **options), counter(), lambda *_: None)  # type: ignore[arg-type]

    def release(self, most: int = 1_000_000) -> int:
        """Release planned shards, and return how many."""
        with self.store.transaction("release") as tx:
            return len(tx.fetch_all("release_shards", most=most))

    def act(self, once: bool = False) -> Finish | Wait:
        """Run the batch lane as one acting process would, from its start."""
        runner = BatchRunner(self.tools())
        runner.prepare_run()
        return runner.run_until_idle(once)

    def states(self) -> dict[str, int]:
        """Return the number of artists by state."""
        with self.store.read_transaction() as tx:
            return dict(count_artists_by_state(tx))

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Run any query on the state, and return its rows."""
        with self.store.read_transaction() as tx:
            return tx.con.execute(sql).fetchall()

    def record_event(self, event: Event) -> None:
        """Keep an event that the lane has reported."""
        self.events.append(event)

    def kinds(self) -> Sequence[type[Event]]:
        """Return the types of the events so far, in order."""
        return [type(event) for event in self.events]
