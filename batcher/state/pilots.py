"""Pilots: samples that are sent before the rest, their lines, and what came of these.

A plan draws one in its transaction, in this order: `load_sample_candidates` reads the staged lines, `record_pilot`
stages the sample, by which the plan cuts it into shards of its own, and records the pilot.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from batcher.core.pilots import PilotLine
from batcher.core.sampling import DrawnLine, SampleCandidate
from batcher.state.db.transaction import Transaction


class PilotRow(NamedTuple):
    """A pilot. wished: the lines that were asked for; times are epoch seconds."""

    pilot: int
    version: int
    wished: int
    seed: int
    lines: int
    made_at: float
    resumed_at: float | None
    """When the user decided to go on although too few answers were accepted."""


def load_sample_candidates(tx: Transaction) -> Iterator[SampleCandidate]:
    """Return the lines that this plan puts into shards."""
    return map(SampleCandidate._make, tx.fetch_all("sample_candidates"))


def record_pilot(tx: Transaction, version: int, wished: int, seed: int, drawn: Sequence[DrawnLine]) -> int:
    """Stage the sample that this plan sends first, and record it as a pilot; return its number."""
    tx.insert_rows("sample", drawn)
    pilot = int(tx.fetch_one("highest_pilot")[0]) + 1
    tx.fetch_all("insert_pilot", pilot=pilot, version=version, wished=wished, seed=seed, now=tx.now)
    tx.fetch_all("insert_pilot_lines", pilot=pilot)
    return pilot


def drop_unsent_pilots(tx: Transaction) -> None:
    """Forget the pilots of which nothing was sent and whose shards are all stale: their lines are planned as others."""
    unsent = [int(row[0]) for row in tx.fetch_all("unsent_pilots")]
    if unsent:
        tx.fetch_all("delete_pilots", pilots=unsent)
        tx.fetch_all("delete_pilot_lines", pilots=unsent)
        tx.fetch_all("forget_pilot_shards", pilots=unsent)


def release_pilot(tx: Transaction, pilot: int) -> int:
    """Release the planned shards of a pilot; return how many there were."""
    return len(tx.fetch_all("release_pilot", pilot=pilot))


def load_newest_pilot(tx: Transaction, prompt: int) -> PilotRow | None:
    """Return the newest pilot of a prompt; None where it has none."""
    rows = tx.fetch_all("newest_pilot", prompt=prompt)
    return PilotRow(*rows[0]) if rows else None


def read_newest_prompt(tx: Transaction) -> int | None:
    """Return the prompt of the newest pilot of any; None where there is none."""
    rows = tx.fetch_all("newest_pilot_prompt")
    return int(rows[0][0]) if rows else None


def count_open_lines(tx: Transaction, pilot: int, prompt: int) -> int:
    """Return how many lines of a pilot are still to be sent with its prompt, or are under way."""
    return int(tx.fetch_one("count_open_pilot_lines", pilot=pilot, prompt=prompt)[0])


def load_pilot_lines(tx: Transaction, pilot: int, prompt: int) -> list[PilotLine]:
    """Return the lines of a pilot by strata, with their first answer to its prompt and what they have cost."""
    return [PilotLine(*row) for row in tx.fetch_all("pilot_lines", pilot=pilot, prompt=prompt)]


def count_judged_answers(tx: Transaction, prompt: int) -> int:
    """Return how many answers to a prompt were judged, in either lane."""
    return int(tx.fetch_one("count_judged_answers", prompt=prompt)[0])


def resume_pilot(tx: Transaction, pilot: int) -> None:
    """Record that the user goes on although too few answers of this pilot were accepted."""
    tx.fetch_all("resume_pilot", pilot=pilot, now=tx.now)
