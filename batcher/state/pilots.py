"""Pilots: samples that are sent before the rest, their lines, and what came of these.

A plan draws one in its transaction, in this order: `load_sample_candidates` reads the staged lines, `record_pilot`
stages the sample, by which the plan cuts it into shards of its own, and records the pilot.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from batcher.core.pilots import PilotLine, PilotStage, PilotTally, find_pilot_stage, tally_pilot
from batcher.core.sampling import DrawnLine, SampleCandidate
from batcher.state import facts
from batcher.state.db.transaction import Transaction


class PilotRow(NamedTuple):
    """A pilot. wished: the lines that were asked for."""

    pilot: int
    version: int
    prompt: int
    wished: int
    seed: int
    lines: int
    resumed_at: float | None
    """When (epoch seconds) the user decided to go on although too few answers were accepted."""


class PromptPilot(NamedTuple):
    """The newest pilot of a prompt, and how many lines of the prompt are in shards that were never sent, retries
    apart."""

    pilot: PilotRow
    unsent: int


class PilotProgress(NamedTuple):
    """A pilot, how far it is, and its lines by strata with their first answers."""

    pilot: PilotRow
    stage: PilotStage
    tally: PilotTally
    lines: Sequence[PilotLine]


def load_sample_candidates(tx: Transaction) -> Iterator[SampleCandidate]:
    """Return the lines that this plan puts into shards."""
    return map(SampleCandidate._make, tx.fetch_all("sample_candidates"))


def record_pilot(tx: Transaction, version: int, wished: int, seed: int, drawn: Sequence[DrawnLine]) -> int:
    """Stage the sample that this plan sends first, and record it as a pilot; return its number."""
    tx.insert_rows("sample", drawn)
    pilot = facts.read_newest_pilot(tx) + 1  # also where that one is forgotten: a number is given once
    tx.fetch_all("insert_pilot", pilot=pilot, version=version, wished=wished, seed=seed, now=tx.now)
    tx.fetch_all("insert_pilot_lines", pilot=pilot)
    facts.record_pilot_made(tx, pilot)
    return pilot


def release_replanned_lines(tx: Transaction) -> None:
    """Take the lines that a plan puts elsewhere out of their pilots, where they have no judged answer.

    Those are the lines that the plan is about to cut, and those whose bio it was given. A pilot without lines is
    forgotten.
    """
    if facts.read_newest_pilot(tx):
        tx.fetch_all("delete_replanned_lines")
        drop_empty_pilots(tx)


def drop_empty_pilots(tx: Transaction) -> None:
    """Forget the pilots that have no line left: there is nothing to wait for, and nothing to ask."""
    empty = [int(row[0]) for row in tx.fetch_all("delete_empty_pilots")]
    if empty:
        tx.fetch_all("forget_pilot_shards", pilots=empty)


def release_pilot(tx: Transaction, pilot: int) -> int:
    """Release the planned shards of a pilot; return how many there were."""
    return len(tx.fetch_all("release_pilot", pilot=pilot))


def load_newest_pilot(tx: Transaction, prompt: int | None = None) -> PilotRow | None:
    """Return the newest pilot of a prompt (None: of any); None where there is none."""
    rows = tx.fetch_all("newest_pilot", prompt=prompt) if facts.read_newest_pilot(tx) else []
    return PilotRow(*rows[0]) if rows else None


def load_pilot_progress(tx: Transaction, pilot: PilotRow, least_share: float) -> PilotProgress:
    """Return how far a pilot is. least_share: the share of its first answers that has to be accepted."""
    rows = tx.fetch_all("pilot_lines", pilot=pilot.pilot, prompt=pilot.prompt)
    lines = [PilotLine(*row) for row in rows]
    tally = tally_pilot(lines)
    open_shards = int(tx.fetch_one("count_open_pilot_shards", pilot=pilot.pilot)[0])
    open_lines = int(tx.fetch_one("count_open_pilot_lines", pilot=pilot.pilot, prompt=pilot.prompt)[0])
    stage = find_pilot_stage(tally, open_shards, open_lines, least_share, pilot.resumed_at is not None)
    return PilotProgress(pilot, stage, tally, lines)


def count_judged_answers(tx: Transaction, prompt: int) -> int:
    """Return how many answers to a prompt were judged, in either lane."""
    return int(tx.fetch_one("count_judged_answers", prompt=prompt)[0])


def count_released_shards(tx: Transaction) -> int:
    """Return how many shards are released and not sent, beside those of retries and pilots."""
    return int(tx.fetch_one("count_released_shards")[0])


def count_unsent_lines(tx: Transaction, version: int) -> int:
    """Return how many lines of a version are in shards that were never sent."""
    return int(tx.fetch_one("count_unsent_lines", version=version)[0])


def count_untried_lines(tx: Transaction, version: int) -> int:
    """Return how many lines of a version are ready, in no shard, and were never sent with it."""
    return int(tx.fetch_one("count_untried_lines", version=version)[0])


def load_newest_pilots(tx: Transaction) -> list[PromptPilot]:
    """Return the newest pilot of each prompt, the newest of them first."""
    rows = tx.fetch_all("pilots_of_prompts") if facts.read_newest_pilot(tx) else []
    return [PromptPilot(PilotRow(*row[:-1]), int(row[-1])) for row in rows]


def resume_failed_pilots(tx: Transaction, least_share: float) -> list[int]:
    """Record that the user goes on although too few answers were accepted, of the newest pilot of each prompt.

    A pilot whose prompt has no unsent lines keeps nothing back, and stays as it is. Return the prompts of the others
    that have failed. least_share: as for `load_pilot_progress`.
    """
    asked = [pilot for pilot, unsent in load_newest_pilots(tx) if unsent]
    failed = [p for p in asked if load_pilot_progress(tx, p, least_share).stage is PilotStage.FAILED]
    for pilot in failed:
        tx.fetch_all("resume_pilot", pilot=pilot.pilot, now=tx.now)
    return sorted(pilot.prompt for pilot in failed)
