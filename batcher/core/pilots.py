"""What a pilot has shown: its answers counted, and whether the rest may be sent. Pure."""

from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

CUT_OFF = "length"
"""The code of an answer that was cut off at max_output_tokens."""
INVALID = "invalid_output"
"""The code of an answer that does not fit the output model."""


class PilotLine(NamedTuple):
    """A line of a pilot, with its first judged answer to the pilot's prompt and what all its executions have used."""

    artist_id: str
    stratum: int
    weight: float
    artist_name: str
    state: str
    failure: str | None
    code: str | None
    """Of the line as it stands now."""
    tokens: int
    """Counted before it was sent."""
    first_outcome: str | None
    """"bio" or "unusable"; None: no answer of it was judged."""
    first_code: str | None
    first_message: str | None
    executed: int
    input: int
    output: int
    usd: float
    unpriced: int
    """Executions whose price is not known."""
    bio: str | None
    """The accepted answer as JSON."""


class RefusedFor(NamedTuple):
    """A reason for which first answers were refused, and how many were."""

    code: str
    reason: str
    lines: int


class PilotTally(NamedTuple):
    """The first answers of a pilot, counted. The rest of its lines has none that was judged."""

    lines: int
    judged: int
    accepted: int
    refused: Sequence[RefusedFor]
    """The most frequent reason first; cut off and invalid answers are among them."""
    cut_off: int
    invalid: int
    dead: int
    """Lines that were given up, after all their tries."""
    bios: int
    """Lines that have a bio by now, retries included."""


def tally_pilot(lines: Sequence[PilotLine]) -> PilotTally:
    """Count the lines of a pilot."""
    refused = [line for line in lines if line.first_outcome == "unusable"]
    reasons = Counter((line.first_code or "", line.first_message or "") for line in refused)
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    accepted = sum(line.first_outcome == "bio" for line in lines)
    return PilotTally(
        lines=len(lines),
        judged=accepted + len(refused),
        accepted=accepted,
        refused=[RefusedFor(code, reason, count) for (code, reason), count in ordered],
        cut_off=sum(line.first_code == CUT_OFF for line in refused),
        invalid=sum(line.first_code == INVALID for line in refused),
        dead=sum(line.state == "dead" for line in lines),
        bios=sum(line.bio is not None for line in lines),
    )


def is_enough_accepted(tally: PilotTally, least_share: float) -> bool:
    """Return whether enough first answers were accepted for the rest to be sent without a question."""
    return tally.judged > 0 and tally.accepted >= ceil(least_share * tally.judged - 1e-9)
