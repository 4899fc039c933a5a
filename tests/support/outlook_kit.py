"""What the tests of the outlook share: a released job, and functions that read its status and its expectation."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from rich.console import Console

from batcher.catalog.prices import PriceOf, resolve_prices
from batcher.config.sections import Config
from batcher.sandbox import Faults, SandboxSettings, apply_changes
from batcher.state.reports.expectation import Expectation, build_expectation
from batcher.state.reports.outlook import Outlook, load_outlook
from batcher.state.reports.status import Status, read_status
from batcher.views.status import draw_status
from tests.support.world import World, config_with, write_table

LINES = 240
MODEL = "gpt-6-luna"


def settings_with(limits: Mapping[str, object] | None = None, **sections: Mapping[str, object]) -> Config:
    return config_with(limits={"lines_per_shard": 60, **(limits or {})}, poll={"interval_s": 1_800}, **sections)


def world(folder: Path, lines: int = LINES, config: Config | None = None, **faults: object) -> World:
    settings = apply_changes(SandboxSettings(), {"faults": apply_changes(Faults(), faults)})
    made = World(folder, settings, config or settings_with())
    made.plan(write_table(folder / "artists.csv", lines, (1, 2)))
    made.release()
    return made


def outlook(job: World) -> Outlook:
    with job.store.read_transaction() as tx:
        return load_outlook(tx, job.config)


def expectation(job: World) -> Expectation:
    return build_expectation(outlook(job), job.config, resolve_prices, job.clock.now)


def status(job: World, price_of: PriceOf = resolve_prices) -> Status:
    with job.store.read_transaction() as tx:
        return read_status(tx, job.config, price_of)


def status_text(job: World, price_of: PriceOf = resolve_prices) -> str:
    told = StringIO()
    Console(width=200, file=told).print(draw_status(status(job, price_of)))
    return told.getvalue()


def known(dollars: float | None) -> float:
    assert dollars is not None
    return dollars
