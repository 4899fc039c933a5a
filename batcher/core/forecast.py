"""When it will end: the queue is played through many times with service times drawn from what was measured. Pure.

Before a batch has ended the assumptions are OpenAI's word (a batch ends within 24 hours), a good day (1 hour) and a
guess between them. Afterwards a log-normal law is fitted to the batches that have ended and to those that have not:
a batch that still runs says that its time is longer than its age, and leaving it out would make every forecast of a
young job too early. What was never seen may still come: in each play a share of the batches, the smaller the more have
ended, is of a kind that takes anything between the slowest so far and the window.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import NamedTuple

from batcher.core.cutting import SHARDS_IN_HEADROOM, count_waves

BEST_BATCH_S = 3600.0
EXPECTED_BATCH_S = 4 * 3600.0
WORST_BATCH_S = 24 * 3600.0
"""The window of a batch (OpenAI, guides/batch, 2026-07)."""

PRIOR_SPREAD, PRIOR_WEIGHT = 0.35, 4.0
"""The spread (of the logarithm) that so many imaginary batches add: a few equal times are no proof that all will be."""
FITTING_ROUNDS = 40
PLAYS, FEWEST_PLAYS = 40, 5
LEAST_LEFT = 0.05
"""A batch that has outlived every law is not about to end: so much of its age is left at least."""
MOST_STARTS = 8_000
"""Batches played in all: fewer plays for jobs of many shards."""
BEST_SHARE, WORST_SHARE = 0.05, 0.9
"""The shares of the plays that end before the best and the worst case."""
MOST_AGAIN = 0.75
"""The largest share of lines that goes again: a job of which everything fails would never end."""

_NORMAL = NormalDist()


class BatchInFlight(NamedTuple):
    """A batch in flight: what it holds of the limit, its lines, and its age in seconds."""

    reserved: int
    lines: int
    age_s: float


class RemainingWork(NamedTuple):
    """What is still to be done."""

    ceiling: int
    """Tokens that may be reserved at once."""
    shards: Sequence[tuple[int, int]] = ()
    """(reserved tokens, lines) of what is not sent, in the order of sending."""
    flights: Sequence[BatchInFlight] = ()
    loose: tuple[int, int] = (0, 0)
    """(reserved tokens, lines) that wait to go again."""
    again: float = 0.0
    """The share of executed lines that goes again."""
    free_in_s: float = 0.0
    """Seconds until something may be sent: a pause, an outage."""


class Forecast(NamedTuple):
    """Seconds from now to the end, and what they rest on."""

    waves: int
    """How often the headroom must be filled to send what is not sent."""
    best_s: float
    expected_s: float
    worst_s: float
    measured: int
    """Ended batches that the forecast rests on; 0: on assumptions."""


class LogNormalLaw(NamedTuple):
    """A log-normal law of service times: mean and spread of the logarithm of the seconds."""

    mean: float
    spread: float

    def quantile(self, share: float) -> float:
        """The seconds within which this share of the batches ends."""
        return math.exp(self.mean + self.spread * _NORMAL.inv_cdf(min(max(share, 1e-6), 1 - 1e-6)))

    def share_before(self, age_s: float) -> float:
        """The share of the batches that end before this age."""
        return _NORMAL.cdf((math.log(max(age_s, 1e-3)) - self.mean) / self.spread)

    def quantile_between(self, least_s: float, most_s: float, share: float) -> float:
        """The seconds within which this share ends of the batches that end between these times."""
        past = self.share_before(least_s)
        return self.quantile(past + share * max(0.0, self.share_before(most_s) - past))


class _SlowTail(NamedTuple):
    """Batches of a kind that was not seen yet: as many between one and two hours as between two and four."""

    share: float
    """Of all batches."""
    least_s: float
    most_s: float

    def quantile(self, share: float) -> float:
        """The seconds within which this share of the slow ones ends."""
        return self.least_s * math.exp(share * math.log(self.most_s / self.least_s))

    def share_before(self, age_s: float) -> float:
        """The share of the slow ones that ends before this age."""
        reached = math.log(max(age_s, self.least_s) / self.least_s) / math.log(self.most_s / self.least_s)
        return min(reached, 1.0)


def compute_forecast(load: RemainingWork, ended_s: Sequence[float] = ()) -> Forecast:
    """The forecast. ended_s: the service times (seconds) of batches that ran to their end."""
    count = count_waves([reserved for reserved, _ in load.shards], max(load.ceiling, 1))
    if not ended_s:
        times = [
            _simulate_completion(load, _FixedTimes(assumed))
            for assumed in (BEST_BATCH_S, EXPECTED_BATCH_S, WORST_BATCH_S)
        ]
        return Forecast(count, times[0], times[1], times[2], 0)
    ends = sorted(_simulate_completion(load, law) for law in _sample_laws(load, ended_s))
    best, expected, worst = (ends[int(share * (len(ends) - 1) + 0.5)] for share in (BEST_SHARE, 0.5, WORST_SHARE))
    return Forecast(count, best, expected, worst, len(ended_s))


def _sample_laws(load: RemainingWork, ended_s: Sequence[float]) -> "list[_SampledTimes]":
    """A law for each play."""
    law = fit_log_normal(ended_s, [flight.age_s for flight in load.flights])
    starts = len(load.shards) + len(load.flights) + 1
    plays = max(FEWEST_PLAYS, min(PLAYS, MOST_STARTS // starts))
    return [_SampledTimes(law, len(ended_s), play, max(ended_s)) for play in range(plays)]


def fit_log_normal(ended_s: Sequence[float], running_s: Iterable[float]) -> LogNormalLaw:
    """The log-normal law of batches that ended after these seconds, and of others that run for these already.

    Right-censored maximum likelihood by expectation-maximisation, with PRIOR_WEIGHT imaginary batches of PRIOR_SPREAD.
    """
    ended = [math.log(max(seconds, 1.0)) for seconds in ended_s]
    shortest = min(ended)
    # A batch that is younger than all that ended says nothing.
    running = [x for x in (math.log(max(seconds, 1.0)) for seconds in running_s) if x > shortest]
    mean = sum(ended) / len(ended)
    spread = max(PRIOR_SPREAD, math.sqrt(sum((x - mean) ** 2 for x in ended) / len(ended)))
    for _ in range(FITTING_ROUNDS):
        hidden = [_censored_moments(mean, spread, age) for age in running]
        count = len(ended) + len(hidden)
        mean = (sum(ended) + sum(first for first, _ in hidden)) / count
        squares = sum(x * x for x in ended) + sum(second for _, second in hidden)
        spread = math.sqrt(
            (max(0.0, squares - count * mean * mean) + PRIOR_WEIGHT * PRIOR_SPREAD**2) / (count + PRIOR_WEIGHT)
        )
    return LogNormalLaw(mean, spread)


def _censored_moments(mean: float, spread: float, age: float) -> tuple[float, float]:
    """The expected logarithm, and its expected square, of a batch that reached this age."""
    z = (age - mean) / spread
    beyond = 1 - _NORMAL.cdf(z)
    hazard = _NORMAL.pdf(z) / beyond if beyond > 1e-9 else z + 1 / max(z, 1.0)
    first = mean + spread * hazard
    return first, mean * mean + spread * spread + spread * hazard * (mean + age)


class _FixedTimes:
    """Every batch takes the same time, and as many of its lines fail as on average, rounded down (so that it ends)."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def sample_seconds(self) -> float:
        return self._seconds

    def median_seconds(self) -> float:
        return self._seconds

    def remaining_seconds(self, age_s: float) -> float:
        return max(0.0, self._seconds - age_s)

    def sample_count(self, mean: float) -> int:
        return int(mean)


class _SampledTimes:
    """Times drawn from a law that is itself only known from so many batches; the same ones for the same play.

    None is beyond the window: the service ends every batch then, whatever the law says of one that ended early and
    many that run.
    """

    def __init__(self, law: LogNormalLaw, known_from: int, play: int, slowest_s: float) -> None:
        self._state = (play + 1) * 0x9E3779B97F4A7C15
        mean = law.mean + law.spread / math.sqrt(known_from) * self._sample_normal()
        self._law = LogNormalLaw(
            mean, law.spread * math.exp(self._sample_normal() / math.sqrt(2 * (known_from + PRIOR_WEIGHT)))
        )
        # What so many batches without one leave possible: in most plays next to none, in some a good part (Jeffreys).
        odds = self._sample_normal() ** 2
        least = max(slowest_s, 1.0)
        self._slow = _SlowTail(odds / (odds + 2 * known_from + 1), least, max(WORST_BATCH_S, 2 * least))

    def _sample_normal(self) -> float:
        return _NORMAL.inv_cdf(max(self._sample_uniform(), 1e-6))

    def _sample_uniform(self) -> float:
        """The next of an even sequence in [0, 1): splitmix64, so that a forecast needs no chance."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return ((z ^ (z >> 31)) >> 11) / (1 << 53)

    def sample_seconds(self) -> float:
        if self._sample_uniform() < self._slow.share:
            return self._slow.quantile(self._sample_uniform())
        return self._law.quantile_between(0.0, self._slow.most_s, self._sample_uniform())

    def median_seconds(self) -> float:
        """The median time."""
        return self._law.quantile_between(0.0, self._slow.most_s, 0.5)

    def remaining_seconds(self, age_s: float) -> float:
        """The older a batch is, the more likely it is one of the slow ones."""
        past = self._slow.share_before(age_s)
        slow = self._slow.share * (1 - past)
        usual = (1 - self._slow.share) * (1 - self._law.share_before(age_s))
        if self._sample_uniform() * (slow + usual) < slow:
            return self._slow.quantile(past + self._sample_uniform() * (1 - past)) - age_s
        end = self._law.quantile_between(age_s, self._slow.most_s, self._sample_uniform())
        return max(LEAST_LEFT * age_s, end - age_s)

    def sample_count(self, mean: float) -> int:
        """How many of many rare things happen: a Poisson number, above 30 its normal neighbour."""
        share = self._sample_uniform()
        if mean > 30:
            return max(0, round(mean + math.sqrt(mean) * _NORMAL.inv_cdf(max(share, 1e-6))))
        count, chance = 0, math.exp(-mean)
        reached = chance
        while share > reached and count < 100:
            count += 1
            chance *= mean / count
            reached += chance
        return count


@dataclass(slots=True)
class _Simulation:
    """One way in which it may go."""

    load: RemainingWork
    law: _FixedTimes | _SampledTimes
    free: int
    now: float = 0.0
    next: int = 0
    lines: int = 0
    """Lines that wait to go again."""
    tokens: int = 0
    """And their reserved tokens."""
    ends: list[tuple[float, int, int]] = field(default_factory=list)
    """(when, reserved tokens, lines) of what runs."""
    shard_ends: list[float] = field(default_factory=list)
    """When the shards end that were sent so far, in their order."""

    def start_batch(self, reserved: int, lines: int) -> float:
        """Sends a batch now; when it ends."""
        end = self.now + self.law.sample_seconds()
        self.free -= reserved
        heapq.heappush(self.ends, (end, reserved, lines))
        return end

    def fill_headroom(self) -> None:
        """Sends what fits: the shards in their order, and then what goes again."""
        shards = self.load.shards
        while self.next < len(shards) and (shards[self.next][0] <= self.free or not self.ends):
            self.shard_ends.append(self.start_batch(*shards[self.next]))
            self.next += 1
        piece = max(1, self.load.ceiling // SHARDS_IN_HEADROOM)
        while self.next == len(shards) and self.lines:
            part = min(self.lines, max(1, self.lines * piece // max(self.tokens, 1)))
            tokens = self.tokens * part // self.lines
            if tokens > self.free and self.ends:
                break
            self.start_batch(tokens, part)
            self.lines, self.tokens = self.lines - part, self.tokens - tokens

    def end_next_batch(self) -> None:
        """Goes on to the end of the next batch."""
        when, reserved, lines = heapq.heappop(self.ends)
        self.now = max(self.now, when)
        self.free += reserved
        failed = min(lines, self.law.sample_count(min(self.load.again, MOST_AGAIN) * lines))
        self.lines += failed
        self.tokens += failed * reserved // lines if lines else 0


def _start_simulation(load: RemainingWork, law: _FixedTimes | _SampledTimes) -> _Simulation:
    """A play up to the moment at which all that fits is sent."""
    play = _Simulation(load, law, load.ceiling, tokens=load.loose[0], lines=load.loose[1])
    for flight in load.flights:
        play.free -= flight.reserved
        heapq.heappush(play.ends, (law.remaining_seconds(flight.age_s), flight.reserved, flight.lines))
    while play.ends and play.ends[0][0] <= load.free_in_s:
        play.end_next_batch()
    if load.shards or play.lines:
        play.now = max(play.now, load.free_in_s)
    play.fill_headroom()
    return play


def _simulate_completion(load: RemainingWork, law: _FixedTimes | _SampledTimes) -> float:
    """Seconds to the end, played once."""
    play = _start_simulation(load, law)
    while play.ends:
        play.end_next_batch()
        play.fill_headroom()
    return play.now


def count_fitting_lines(load: RemainingWork, ended_s: Sequence[float], within_s: float) -> int:
    """How many of the unsent lines, the most urgent first, are expected to end within so many seconds.

    A shard's end does not hang on those behind it, so one play tells of every number of shards. What goes again takes
    its share of the room meanwhile, and one more batch at the end.
    """
    laws = _sample_laws(load, ended_s) if ended_s else [_FixedTimes(EXPECTED_BATCH_S)]
    again = min(load.again, MOST_AGAIN)
    once = load._replace(ceiling=int(load.ceiling * (1 - again)), again=0.0, loose=(0, 0))
    tail = again * sum(lines for _, lines in load.shards) >= 1
    counts = sorted(_count_fitting_shards(once, law, within_s - law.median_seconds() * tail) for law in laws)
    return sum(lines for _, lines in load.shards[: counts[len(counts) // 2]])


def _count_fitting_shards(load: RemainingWork, law: _FixedTimes | _SampledTimes, within_s: float) -> int:
    """How many shards, the first ones, end within so many seconds, played once."""
    play = _start_simulation(load, law)
    while play.ends and play.now <= within_s:
        play.end_next_batch()
        play.fill_headroom()
    return next((n for n, end in enumerate(play.shard_ends) if end > within_s), len(play.shard_ends))
