"""The account's room for enqueued tokens, the budget, and what finished batches teach about both."""

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
    """The counted tokens of the largest shard that others seem to leave room for; None: any that fits the limit."""
    blocked_until: float = 0.0
    """The service refused for its limit: nothing is sent before this time, or before a batch of ours ends."""

    @property
    def ceiling(self) -> int:
        """The most tokens that may be reserved at once: limit x threshold."""
        return int(self.limit * self.threshold)

    @property
    def headroom(self) -> int:
        """Tokens that may still be reserved. Negative when the limit has shrunk under what is in flight."""
        return self.ceiling - self.reserved

    def reserved_tokens(self, tokens: int) -> int:
        """Reserved tokens of `tokens` counted ones: x learned ratio x (1 + margin), rounded up.

        A thousandth is no token: 110 x 1.1 is 121.00000000000001, and a shard cut to fill 121 would never fit.
        """
        return math.ceil(round(tokens * self.factor, 3))


class Charge(NamedTuple):
    """What the lines of one job version cost at most, in dollars."""

    usd_per_token: float
    """Of one counted input token."""
    usd_per_line: float
    """Its max_output_tokens at the output price of its model."""


class Budget(NamedTuple):
    """Dollars: the user's bound (0: none), what is spent, what is in flight, and what lines cost."""

    max_usd: float = 0.0
    spent_usd: float = 0.0
    in_flight_usd: float = 0.0
    frees: bool = True
    """Whether anything runs whose end may free some of what is in flight; what was lost or given up never ends."""
    charges: Mapping[int, Charge] = MappingProxyType({})
    """By job version; the price of one that is not there is not known."""


FEWEST_MEASURED = 200
"""Executed lines below this teach nothing yet."""

RATIO_BOUNDS = (0.5, 10.0)
"""A measured ratio beyond these is taken at the bound. Below, because room that is not there is worse than room that is
not used: real counts of under half of ours are somebody's fault (usage told in part). Above, because hidden tokens
(instructions of the service's own, tools) may be several times a short prompt, and reserving less than is counted would
pass the limit; ten times is a fault, and would cut shards of single lines."""


class MeasuredUsage(NamedTuple):
    """What the settled batches of the newest version teach; zeros before any has settled."""

    executed: int = 0
    """Lines whose usage was told."""
    counted: int = 0
    """Their counted tokens."""
    input: int = 0
    cached: int = 0
    output: int = 0
    again: int = 0
    """Lines that went again..."""
    decided: int = 0
    """...of so many."""
    paid_again: int = 0
    """Executed lines whose answer was paid for and could not be used."""

    @property
    def has_enough_lines(self) -> bool:
        """Whether it is believed."""
        return self.executed >= FEWEST_MEASURED and self.counted > 0

    @property
    def token_ratio(self) -> float:
        """Input tokens that the service counts for one of ours; 1 before enough is measured."""
        low, high = RATIO_BOUNDS
        return min(max(self.input / self.counted, low), high) if self.has_enough_lines else 1.0

    @property
    def retry_share(self) -> float:
        """The share of lines that goes again."""
        return self.again / self.decided if self.decided else 0.0

    @property
    def paid_retry_share(self) -> float:
        """The share of paid answers for which another is bought."""
        return self.paid_again / self.executed if self.executed else 0.0
