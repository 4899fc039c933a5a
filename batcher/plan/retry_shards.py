"""Cutting retry shards: loose lines are rendered again from their rows and must match what was planned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batcher.config import Config
from batcher.core.cutting import ShardCutter
from batcher.core.model import ShardLimits
from batcher.core.rendering import LineRenderer
from batcher.disk.shard_files import ShardWriter
from batcher.errors import JobError
from batcher.job.job import Job, job_output_to_stderr
from batcher.state import intents, shards
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction
from batcher.state.plan import PlannedLine, assign_lines, record_shards, stage_planned_lines
from batcher.state.snapshot import current_shard_limits, latest_valid_wait, load_room
from batcher.state.versions import load_version


def cut_retry_shard(store: Store, job: Job, config: Config, priority: int) -> tuple[int, int] | None:
    """Cuts one released retry shard from the due loose lines of a priority; its number and how many lines it holds.

    None where no line is due. Raises JobError when today's job.py renders a line otherwise than it was planned.
    """
    with job_output_to_stderr(), store.transaction("gather") as tx:
        limits = current_shard_limits(config, load_room(tx, config))
        rows = intents.load_due_lines(tx, priority, limits.lines, latest_valid_wait(tx, config))
        if not rows:
            return None
        return _write_shard(store.folder, job, tx, rows, limits, retry=True)


def recut_parked_lines(store: Store, job: Job, config: Config) -> None:
    """Cuts the lines again that a direct lane left in shards which were not released: into planned shards.

    Raises JobError as `gather` does.
    """
    while True:
        with job_output_to_stderr(), store.transaction("recut") as tx:
            limits = current_shard_limits(config, load_room(tx, config))
            rows = tx.fetch_all("parked_lines", most=limits.lines)
            if not rows:
                return
            _write_shard(store.folder, job, tx, rows, limits, retry=False)


def rerender_line(
    job: Job, renderer: LineRenderer, artist_id: str, line_id: str, data: str, expected: int | None
) -> bytes:
    """A line's own part, from its row. Raises JobError where it has another hash than `expected` (None: any)."""
    values = job.prompt_values(job.restore_artist(data), f"artist {artist_id}")
    own = renderer.encode_own_part(line_id, renderer.render_user_text(values))
    if expected is not None and renderer.hash_line(own) != expected:
        raise JobError(
            f"job.py renders artist {artist_id} otherwise than it was planned; undo the change of prompt_values"
        )
    return own


def _write_shard(
    folder: Path, job: Job, tx: Transaction, rows: Sequence[tuple[Any, ...]], limits: ShardLimits, retry: bool
) -> tuple[int, int]:
    """The new shard, and how many of the lines it holds. retry: it is released; else it is planned only."""
    shard = shards.next_shard_number(tx)
    version_number, priority = int(rows[0][6]), int(rows[0][2])
    version, _ = load_version(tx, version_number)
    renderer, cutter = LineRenderer(version), ShardCutter(limits)
    writer = ShardWriter(folder, shard, priority)
    planned: list[PlannedLine] = []
    for artist_id, line_id, _, data, tokens, expected, _ in rows:
        own = rerender_line(job, renderer, artist_id, line_id, data, expected)
        size = renderer.line_size(own)
        if cutter.add_line(priority, size, tokens) and planned:
            break
        line = renderer.render_line(own)
        writer.update_digest(line)
        writer.write_lines(line, 1, tokens)
        planned.append(PlannedLine(artist_id, shard, tokens, size, renderer.hash_line(own)))
    stage_planned_lines(tx, planned)
    record_shards(tx, [writer.close()], version_number, "released" if retry else "planned", retry=retry)
    assign_lines(tx, version_number)
    tx.record_event("gather", f"{len(planned)} lines", shard=shard)
    return shard, len(planned)
