"""What a pilot has shown: its answers counted, and whether the rest may be sent. Pure."""

from collections import Counter
from collections.abc import Sequence
from enum import Enum, auto
from math import ceil
from typing import NamedTuple

FEWEST_LINES = 2_000
"""Unsent lines from which on `run` sends a pilot first: of fewer, the sample would be a tenth and more."""
CUT_OFF = "length"
"""The code of an answer that was cut off at max_output_tokens."""
INVALID = "invalid_output"
"""The code of an answer that does not fit the output model."""
LEAST_JUDGED = 0.5
"""The share of a pilot's lines that must have a judged answer for it to say something of the rest."""
REASONS = 3
"""Reasons that the question names at most."""


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
    first_batch: str | None
    """The batch that gave the first answer; None: the direct lane did, or there is none."""
    first_call: int | None
    """The call of the direct lane that gave it; None: a batch did, or there is none."""
    executed: int
    input: int
    output: int
    usd: float
    unpriced: int
    """Executions whose price is not known."""
    bio: str | None
    """The accepted answer as JSON."""
    written: int = 0
    """Of the input, written to the prompt cache."""


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
    held: int
    """Lines that wait for the user."""


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
        held=sum(line.state == "held" for line in lines),
    )


def is_enough_accepted(tally: PilotTally, least_share: float) -> bool:
    """Return whether enough first answers were accepted for the rest to be sent without a question."""
    return tally.judged > 0 and tally.accepted >= ceil(least_share * tally.judged - 1e-9)


def is_enough_judged(tally: PilotTally) -> bool:
    """Return whether enough lines have a judged answer for their share of accepted ones to stand for the rest."""
    return tally.judged > 0 and tally.judged >= LEAST_JUDGED * tally.lines


class PilotStage(Enum):
    """How far a pilot is."""

    ASKED = auto()
    """Lines of it are to be sent, or under way, for the first time."""
    REPEATED = auto()
    """Enough of the judged first answers were accepted, or none was judged; lines of it are asked for again."""
    FAILED = auto()
    """Too few first answers were accepted, or judged at all: the user decides what is done next."""
    PASSED = auto()
    """It is over, and the rest may be sent."""


def find_pilot_stage(
    tally: PilotTally, open_shards: int, open_lines: int, least_share: float, is_resumed: bool
) -> PilotStage:
    """Return how far a pilot is.

    open_shards: shards of it that are planned or under way; open_lines: lines of it that are to be sent or under way;
    is_resumed: the user has decided to go on although too few first answers were accepted or judged.
    """
    if open_shards:
        return PilotStage.ASKED
    is_enough = is_resumed or is_enough_accepted(tally, least_share)
    if open_lines and (is_enough or not tally.judged):
        return PilotStage.REPEATED
    return PilotStage.PASSED if is_resumed or (is_enough and is_enough_judged(tally)) else PilotStage.FAILED


def describe_failed_pilot(tally: PilotTally, min_accepted: float) -> str:
    """Return the question where too few answers of a pilot were accepted: numbers, reasons, and what may be done."""
    if not tally.judged or (is_enough_accepted(tally, min_accepted) and not is_enough_judged(tally)):
        few = f"only {tally.judged:,}" if tally.judged else "none"
        verb = "have" if tally.judged > 1 else "has"
        lost = tally.held + tally.dead
        back = f"`batcher retry` brings back the {lost:,} that {'are' if lost > 1 else 'is'} held or given up, "
        return (
            f"{few} of the {tally.lines:,} lines of the pilot {verb} an answer that was judged, too few to say what "
            "the rest would be; `batcher run` does not send it. `batcher status` says what became of them. "
            f"{back if lost else ''}`batcher resume` goes on without; then `batcher run` goes on"
        )
    reasons = [f"{each.lines:,} x {describe_refusal(each.code, each.reason)}" for each in tally.refused[:REASONS]]
    more = len(tally.refused) - REASONS
    named = "; ".join([*reasons, *([f"{more:,} more reasons"] if more > 0 else [])])
    return (
        f"{tally.accepted:,} of {tally.judged:,} answers of the pilot were accepted, [pilot] min_accepted asks for "
        f"{min_accepted:.0%}{f' (refused: {named})' if named else ''}; `batcher run` does not send the rest. "
        "`batcher answers --refused` shows what came. Change the job and `batcher plan --replan`, or loosen accept and "
        "`batcher judge` at no cost, or `batcher resume`; then `batcher run` goes on"
    )


def describe_refusal(code: str, reason: str) -> str:
    """Return why an answer was refused: the code, with its reason where there is one."""
    return f"{code}: {reason}" if reason else code


def describe_open_pilot(tally: PilotTally) -> str:
    """Return how far a pilot is whose lines are to be sent or under way."""
    judged = f"{tally.judged:,} of its {tally.lines:,} lines have a judged answer, {tally.accepted:,} were accepted"
    return f"A pilot is under way: {judged}; `batcher pilot` or `batcher run` follows it"
