"""Cutting retry shards: loose lines are rendered again from their rows and must match what was planned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batcher.config import Config
from batcher.core.cutting import Cutter
from batcher.core.model import ShardLimits
from batcher.core.rendering import Renderer
from batcher.disk.shard_files import ShardWriter
from batcher.errors import JobError
from batcher.job.job import Job, aside
from batcher.state import intents
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction
from batcher.state.plan import PlannedLine, place_lines, stage_planned, write_shards
from batcher.state.snapshot import latest_wait_now, limits_now, room_now
from batcher.state.versions import load_version


def gather(store: Store, job: Job, config: Config, priority: int) -> tuple[int, int] | None:
    """Cuts one released retry shard from the due loose lines of a priority; its number and how many lines it holds.

    None where no line is due. Raises JobError when today's job.py renders a line otherwise than it was planned.
    """
    with aside(), store.transaction("gather") as tx:
        limits = limits_now(config, room_now(tx, config))
        rows = intents.loose_rows(tx, priority, limits.lines, latest_wait_now(tx, config))
        if not rows:
            return None
        return _write(store.folder, job, tx, rows, limits, retry=True)


def recut(store: Store, job: Job, config: Config) -> None:
    """Cuts the lines again that a direct lane left in shards which were not released: into planned shards.

    Raises JobError as `gather` does.
    """
    while True:
        with aside(), store.transaction("recut") as tx:
            limits = limits_now(config, room_now(tx, config))
            rows = tx.run("parked_lines", most=limits.lines)
            if not rows:
                return
            _write(store.folder, job, tx, rows, limits, retry=False)


def rendered_again(
    job: Job, renderer: Renderer, artist_id: str, line_id: str, data: str, expected: int | None
) -> bytes:
    """A line's own part, from its row. Raises JobError where it has another hash than `expected` (None: any)."""
    values = job.prompt_values(job.restore(data), f"artist {artist_id}")
    own = renderer.own(line_id, renderer.user_text(values))
    if expected is not None and renderer.hash(own) != expected:
        raise JobError(
            f"job.py renders artist {artist_id} otherwise than it was planned; undo the change of prompt_values"
        )
    return own


def _write(
    folder: Path, job: Job, tx: Transaction, rows: Sequence[tuple[Any, ...]], limits: ShardLimits, retry: bool
) -> tuple[int, int]:
    """The new shard, and how many of the lines it holds. retry: it is released; else it is planned only."""
    shard = int(tx.one("highest_shard")[0]) + 1
    version_number, priority = int(rows[0][6]), int(rows[0][2])
    version, _ = load_version(tx, version_number)
    renderer, cutter = Renderer(version), Cutter(limits)
    writer = ShardWriter(folder, shard, priority)
    planned: list[PlannedLine] = []
    for artist_id, line_id, _, data, tokens, expected, _ in rows:
        own = rendered_again(job, renderer, artist_id, line_id, data, expected)
        size = renderer.size(own)
        if cutter.starts_new(priority, size, tokens) and planned:
            break
        line = renderer.line(own)
        writer.hash(line)
        writer.write(line, 1, tokens)
        planned.append(PlannedLine(artist_id, shard, tokens, size, renderer.hash(own)))
    stage_planned(tx, planned)
    write_shards(tx, [writer.close()], version_number, "released" if retry else "planned", retry=retry)
    place_lines(tx, version_number)
    tx.event("gather", f"{len(planned)} lines", shard=shard)
    return shard, len(planned)
