"""A job with some of everything that a report shows, and its page."""

from functools import partial
from pathlib import Path

from batcher.config.sections import Config
from batcher.sandbox import Faults, SandboxSettings
from batcher.state.reports.report import ReportData, read_report
from batcher.state.snapshot import load_saved_prices
from batcher.views.report.page import build_page
from tests.support.world import World, config_with, kept_open, write_table

FAILURES = {
    "rate_limit": 0.03, "server": 0.05, "invalid_json": 0.04, "length": 0.02, "content_policy": 0.02, "refusal": 0.01,
}  # fmt: skip
SERVICE = "gpt-6-luna at https://sandbox.example/v1"


def make_world(folder: Path, lines: int = 0, table: Path | None = None, **sections: dict[str, object]) -> World:
    """Return a world whose lines are planned and released: some fail, and there is room for few shards at once.

    table: that of another job than one of `lines` artists.
    """
    settings: dict[str, dict[str, object]] = {
        "limits": {"lines_per_shard": 20, "enqueued_tokens": 60_000},
        "poll": {"interval_s": 600},
        "budget": {"max_usd": 2.0},
    }
    config: Config = config_with(**{**settings, **sections})
    faults = Faults(line_failures=FAILURES, poison=("a00003",))
    sandbox = SandboxSettings(
        seed=5,
        enqueued_tokens=45_000,
        validating_s=(60, 300),
        service_s=(900, 5400),
        finalizing_s=(120, 400),
        faults=faults,
    )
    world = World(folder, sandbox, config)
    world.plan(table or write_table(folder / "artists.csv", lines))
    world.release()
    return world


def finish_job(world: World) -> World:
    """Follow a job to its end, and return it."""
    with kept_open(world.store):
        world.act()
    return world


def read_data(world: World) -> ReportData:
    """Return what the report of a world shows."""
    with world.store.read_transaction() as tx:
        return read_report(tx, world.config, partial(load_saved_prices, tx))


def write_page(world: World, path: Path, refresh_s: int = 0) -> ReportData:
    """Write the page of a world to a file, and return what is in it."""
    data = read_data(world)
    path.write_text(build_page(data, "bios", SERVICE, refresh_s), encoding="utf-8")
    return data
