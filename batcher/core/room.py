"""The account's room for enqueued tokens, the budget, and what finished batches show about both."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Room(NamedTuple):
    """The account's room for one model: the enqueued-token limit in force and what we hold of it."""

    limit: int
    threshold: float
    factor: float
    """Reserved tokens of one counted token: learned ratio x (1 + margin)."""
    reserved: int = 0
    largest: int | None = None
    """Counted tokens of the largest shard that other users of the account seem to leave room for.

    None: any that fits the limit.
    """
    blocked_until: float = 0.0
    """No shard is sent before this time (epoch seconds): the service refused one, for its limit or for its rate.

    The end of a batch of ours ends the wait for room early.
    """

    @property
    def ceiling(self) -> int:
        """The most tokens that may be reserved at once: limit x threshold."""
        return int(self.limit * self.threshold)

    @property
    def headroom(self) -> int:
        """Tokens that may still be reserved; negative when the limit has shrunk below what is in flight."""
        return self.ceiling - self.reserved

    def reserved_tokens(self, tokens: int) -> int:
        """Return the reserved tokens of `tokens` counted ones: x learned ratio x (1 + margin), rounded up.

        The product is rounded to thousandths first: as floats 110 x 1.1 is 121.00000000000001, which would be rounded
        up to 122, and a shard that was cut to fill 121 would never fit.
        """
        return math.ceil(round(tokens * self.factor, 3))


class Charge(NamedTuple):
    """The most dollars that lines of one job version cost."""

    usd_per_token: float
    """For one counted input token."""
    usd_per_line: float
    """For the `max_output_tokens` of one line, at the output price of its model."""
    long_from: float = math.inf
    """Counted tokens of a line above which the service may price it as a long request."""
    long_input: float = 1.0
    """How many times as much the input of a long request costs."""
    long_output: float = 1.0

    def most_usd(self, tokens: int, lines: int, longest: int) -> float:
        """Return the most dollars of `lines` lines. tokens: counted ones of all of them; longest: those of the longest.

        Where one of them may be a long request, all are priced as such: which they are is not known here.
        """
        may_be_long = longest > self.long_from
        return tokens * self.usd_per_token * (self.long_input if may_be_long else 1) + lines * self.usd_per_line * (
            self.long_output if may_be_long else 1
        )


class Budget(NamedTuple):
    """Dollars: the user's bound (0: none), what is spent, what is in flight, and what lines cost."""

    max_usd: float = 0.0
    spent_usd: float = 0.0
    in_flight_usd: float = 0.0
    frees: bool = True
    """Whether anything runs whose end may free some of what is in flight. What was lost or given up never ends."""
    charges: Mapping[int, Charge] = MappingProxyType({})
    """What lines cost, by job version. The price of a version that is absent is not known."""


FEWEST_MEASURED = 200
"""Executed lines below which a measurement is not used yet."""

RATIO_BOUNDS = (0.5, 10.0)
"""Bounds of the measured ratio of the service's tokens to ours; a ratio beyond them is replaced by the bound.

The lower bound, because assuming room that does not exist is worse than leaving room unused: real counts under half of
ours are an error (usage that is reported in part). The upper bound is high, because hidden tokens (the service's own
instructions, tools) may be several times a short prompt, and reserving less than is counted would pass the limit; ten
times is an error, and would cut shards of single lines.
"""


class MeasuredUsage(NamedTuple):
    """What the settled batches of the newest version show; zeros before any has settled."""

    executed: int = 0
    """Lines whose usage the service reported."""
    counted: int = 0
    """Their counted tokens."""
    input: int = 0
    cached: int = 0
    output: int = 0
    again: int = 0
    """Lines that failed and were retried."""
    decided: int = 0
    """Lines that got a verdict, the retried ones included."""
    written: int = 0
    """Of the input, written to the prompt cache."""
    reasoning: int = 0
    """Of the output, thought before the answers."""
    paid_again: int = 0
    """Executed lines whose answer was paid for and could not be used."""

    @property
    def has_enough_lines(self) -> bool:
        """Whether enough lines were executed for the measurement to be used."""
        return self.executed >= FEWEST_MEASURED and self.counted > 0

    @property
    def token_ratio(self) -> float:
        """Input tokens that the service counts for one of ours; 1 before enough lines were executed."""
        low, high = RATIO_BOUNDS
        return min(max(self.input / self.counted, low), high) if self.has_enough_lines else 1.0

    @property
    def retry_share(self) -> float:
        """The share of lines that is retried."""
        return self.again / self.decided if self.decided else 0.0

    @property
    def paid_retry_share(self) -> float:
        """The share of paid answers that is bought a second time."""
        return self.paid_again / self.executed if self.executed else 0.0
