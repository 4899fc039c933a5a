"""Jobs whose table has rows that ask the same, and what holds for them at every moment."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from batcher.catalog.prices import resolve_prices
from batcher.config.sections import Config
from batcher.job.job import Job
from batcher.plan.options import PlanOptions
from batcher.plan.planner import PlanReport, PlanResult, plan_job
from batcher.sandbox import SandboxSettings
from batcher.state.reports.status import Status, read_status
from tests.support.direct_kit import Desk, settings_of
from tests.support.world import bios_job, counter

KINDS = 4
"""What the rows of such a table ask: row n asks the same as row n + KINDS."""


def write_rows(
    path: Path, numbers: Iterable[int], kinds: int = KINDS, priorities: Mapping[int, int] | None = None
) -> Path:
    """Write a table with a row for each number; return its path. priorities: of rows that are not of priority 2."""
    rows = [f"a{n:03d},Artist {n % kinds},{(priorities or {}).get(n, 2)},Dutch,{1600 + n % kinds}" for n in numbers]
    path.write_text("artist_id,artist_name,priority,nationality,born\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def same_config(**sections: Any) -> Config:
    """Return settings by which what is the same is asked once."""
    job = {"dedupe": True, **sections.pop("job", {})}
    return settings_of(job=job, **sections)


def same_desk(
    folder: Path, rows: int = 12, priorities: Mapping[int, int] | None = None,
    refuses: Callable[[str], bool] | None = None, settings: SandboxSettings | None = None, **sections: Any,
) -> Desk:  # fmt: skip
    """Return a planned job. refuses: whether the check of the job refuses every answer for an artist."""
    made = Desk(folder, settings, same_config(**sections))
    if refuses is not None:
        made.job = judged_by(refuses)
    made.plan(write_rows(folder / "table.csv", range(rows), priorities=priorities))
    return made


def judged_by(refuses: Callable[[str], bool]) -> Job:
    """Return the job with an acceptance check that refuses these artists."""
    return replace(bios_job(), accept=lambda artist, _: "not for this one" if refuses(artist.artist_id) else None)


def plan_more(world: Desk, table: Path, **options: Any) -> tuple[PlanResult, PlanReport]:
    """Plan a table; return what `plan` reports."""
    return plan_job(world.config, world.job, world.store, PlanOptions(table, **options), counter(), lambda *_: None)


def asked(world: Desk) -> dict[str, int]:
    """Return how often each line was answered with something usable; the service has billed as many answers."""
    usable = "SELECT artist_id, count(*) FROM attempts WHERE outcome IN ('bio', 'repeated') GROUP BY 1 ORDER BY 1"
    rows = world.rows(usable)
    counts: dict[str, int] = dict(rows)  # type: ignore[arg-type]
    assert sum(world.sandbox.ledger.usable_counts().values()) == sum(counts.values())
    return counts


def told(world: Desk) -> Status:
    with world.store.read_transaction() as tx:
        return read_status(tx, world.config, resolve_prices)


def draw_plain(drawing: RenderableType, width: int) -> str:
    """Return what a drawing is on a terminal of this width, in plain text."""
    told = StringIO()
    Console(width=width, file=told).print(drawing)
    return told.getvalue()


def followers(world: Desk) -> dict[str, str]:
    """Return whom each artist follows."""
    return dict(world.rows("SELECT artist_id, follows FROM artists WHERE follows IS NOT NULL ORDER BY seq"))  # type: ignore[arg-type]


def check_followers(world: Desk) -> None:
    """Check what holds at every moment: a bio for each artist that is done or asked for again, nothing of a follower to
    be sent, none that waits for a line which is over, and nothing paid for one."""
    assert world.rows(
        "SELECT count(*) FROM artists AS a FULL JOIN bios AS b USING (artist_id) WHERE a.artist_id IS NULL "
        "OR (a.state IN ('done', 'done_before') OR a.redo_after IS NOT NULL) <> (b.artist_id IS NOT NULL)"
    ) == [(0,)]
    assert world.rows(
        "SELECT count(*) FROM artists WHERE follows IS NOT NULL AND state = 'ready' "
        "AND (version IS NOT NULL OR shard IS NOT NULL OR tokens > 0)"
    ) == [(0,)]
    assert (
        world.rows(
            "SELECT f.artist_id FROM artists AS f LEFT JOIN artists AS l ON l.artist_id = f.follows "
            "WHERE f.follows IS NOT NULL AND f.state = 'ready' "
            "AND coalesce(l.state NOT IN ('ready', 'waiting', 'in_batch', 'in_direct'), true)"
        )
        == []
    )
    assert world.rows(
        "SELECT count(*) FROM bios JOIN artists AS a USING (artist_id) WHERE a.follows IS NOT NULL AND cost_usd > 0"
    ) == [(0,)]
