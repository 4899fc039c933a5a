"""Cutting retry shards: lines that are in no shard are rendered again from their rows, and must match their hashes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from batcher.config.sections import Config
from batcher.core.model import ShardLimits
from batcher.core.rendering import LineRenderer
from batcher.errors import JobError
from batcher.job.job import Job, job_output_to_stderr
from batcher.nouns import current_nouns
from batcher.plan.shard_cutting import ShardCutting
from batcher.state import plan as plan_state
from batcher.state import shards
from batcher.state.db.store import Store
from batcher.state.db.transaction import Transaction
from batcher.state.plan import PlannedLine, StoredLine
from batcher.state.snapshot import current_shard_limits, latest_valid_wait, load_braked, load_room
from batcher.state.versions import load_version


class ShardKind(NamedTuple):
    """What a shard is cut for. is_retry: it is released, and a retry; else it is only planned. pilot: whose it is."""

    is_retry: bool
    pilot: int | None = None


class RetryShard(NamedTuple):
    """A retry shard that was cut, and how many lines it holds."""

    shard: int
    lines: int


def cut_retry_shard(
    store: Store, job: Job, config: Config, priority: int, version: int, most: int | None = None
) -> RetryShard | None:
    """Cut one released shard from the due lines of a priority and job version that are in no shard.

    most: lines of it at most; None: as many as fit. None where no line is due, or the brake has tripped since that was
    decided. Raises JobError when today's job.py renders a line otherwise than it was planned.
    """
    with job_output_to_stderr(), store.transaction("gather") as tx:
        if version in load_braked(tx, config):
            return None
        limits = current_shard_limits(config, load_room(tx, config))
        size = limits.lines if most is None else min(most, limits.lines)
        lines = plan_state.load_due_lines(tx, priority, version, size, latest_valid_wait(tx, config))
        if not lines:
            return None
        return _write_shard(store.folder, job, tx, lines, limits, ShardKind(is_retry=True))


def recut_parked_lines(store: Store, job: Job, config: Config) -> None:
    """Cut the lines of unreleased shards from which others were taken into planned shards.

    Raises JobError as `cut_retry_shard` does.
    """
    while True:
        with job_output_to_stderr(), store.transaction("recut") as tx:
            limits = current_shard_limits(config, load_room(tx, config))
            lines, pilot = plan_state.load_parked_lines(tx, limits.lines)
            if not lines:
                return
            _write_shard(store.folder, job, tx, lines, limits, ShardKind(is_retry=False, pilot=pilot))


def rerender_line(
    job: Job, renderer: LineRenderer, artist_id: str, line_id: str, data: str, expected: int | None
) -> bytes:
    """Return a line's own part, from its row. Raises JobError where its hash is not `expected` (None: any)."""
    artist, where = job.restore_artist(data), f"{current_nouns().row} {artist_id}"
    if renderer.has_messages:
        text = job.render_messages(artist, renderer.version.endpoint, where)
    else:
        text = renderer.render_user_text(job.prompt_values(artist, where))
    own = renderer.encode_own_part(line_id, text)
    if expected is not None and renderer.hash_line(own) != expected:
        changed = "messages" if renderer.has_messages else "prompt_values"
        raise JobError(f"job.py renders {where} otherwise than it was planned; undo the change of {changed}")
    return own


def _write_shard(
    folder: Path, job: Job, tx: Transaction, lines: Sequence[StoredLine], limits: ShardLimits, kind: ShardKind
) -> RetryShard:
    """Cut a shard from the first lines that fit into it. They are of one version and priority."""
    shard = shards.next_shard_number(tx)
    version_number, priority = lines[0].version, lines[0].priority
    renderer = LineRenderer(load_version(tx, version_number).version)
    planned: list[PlannedLine] = []
    with ShardCutting(renderer, limits, folder, shard) as cutting:
        for line in lines:
            own = rerender_line(job, renderer, line.artist_id, line.custom_id, line.data, line.line_hash)
            size = renderer.line_size(own)
            if planned and not cutting.can_add_line(priority, size, line.tokens):
                break
            cutting.add_line(priority, own, size, line.tokens)
            planned.append(PlannedLine(line.artist_id, shard, line.tokens, size, renderer.hash_line(own)))
        written = cutting.finish_shards()
    plan_state.stage_planned_lines(tx, planned)
    state = "released" if kind.is_retry else "planned"
    plan_state.record_shards(tx, written, version_number, state, kind.is_retry, kind.pilot)
    plan_state.assign_lines(tx, version_number)
    tx.record_event("gather", f"lines: {len(planned):,}", shard=shard)
    return RetryShard(shard, len(planned))
