"""The forecast of the end: the queue is simulated many times, with service times drawn from what was measured. Pure.

Before a batch has ended the assumptions are OpenAI's promise (a batch ends within 24 hours), a good day (1 hour) and a
guess between them. Afterwards a log-normal law is fitted to the batches that have ended and to those that still run:
the time of a running batch is longer than its age, and without it every forecast of a young job would be too early.
Slow batches that were never seen may still come: in each simulation a share of the batches, the smaller the more have
ended, takes anything between the slowest time so far and the window.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import NamedTuple

from batcher.core.cutting import SHARDS_IN_HEADROOM, count_waves

BEST_BATCH_S = 3600.0
"""Seconds that a batch is assumed to take at best, before any has ended."""
EXPECTED_BATCH_S = 4 * 3600.0
"""Seconds that a batch is assumed to take most likely, before any has ended."""
WORST_BATCH_S = 24 * 3600.0
"""The window of a batch in seconds (OpenAI, guides/batch, 2026-07)."""

PRIOR_SPREAD = 0.35
"""The spread (of the logarithm of the seconds) of the imaginary batches that are added to a fit."""
PRIOR_WEIGHT = 4.0
"""The number of imaginary batches in a fit: a few equal times do not prove that all times are equal."""
FITTING_ROUNDS = 40
"""Rounds of expectation-maximisation in a fit."""
PLAYS = 40
"""Simulations of a forecast."""
FEWEST_PLAYS = 5
"""Simulations of a forecast at least, however many shards there are."""
LEAST_LEFT = 0.05
"""The share of its age that a running batch takes at least from now on: one that is older than every law expects is not
about to end."""
MOST_STARTS = 8_000
"""Batches started in all simulations of a forecast: jobs of many shards are simulated fewer times."""
BEST_SHARE = 0.05
"""The share of the simulations that end before the best case."""
WORST_SHARE = 0.9
"""The share of the simulations that end before the worst case."""
MAX_RETRY_SHARE = 0.75
"""The largest share of lines that is taken to be retried: a job of which every line fails would never end."""

_NORMAL = NormalDist()


class BatchInFlight(NamedTuple):
    """A batch in flight: its reserved tokens, its lines, and its age in seconds."""

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
    """(reserved tokens, lines) that wait to be retried."""
    retry_share: float = 0.0
    """The share of executed lines that is retried."""
    free_in_s: float = 0.0
    """Seconds until something may be sent: the end of a pause or of an outage."""
    first_wave: int | None = None
    """Lines that may be in flight until a batch has ended, and always one shard; None: any number."""


class Forecast(NamedTuple):
    """Seconds from now to the end, and what they rest on."""

    waves: int
    """How many times the headroom must be filled to send what is not sent."""
    best_s: float
    expected_s: float
    worst_s: float
    measured: int
    """Ended batches that the forecast rests on; 0: it rests on assumptions."""


class LogNormalLaw(NamedTuple):
    """A log-normal law of service times: mean and spread of the logarithm of the seconds."""

    mean: float
    spread: float

    def quantile(self, share: float) -> float:
        """Return the seconds within which this share of the batches ends."""
        return math.exp(self.mean + self.spread * _NORMAL.inv_cdf(min(max(share, 1e-6), 1 - 1e-6)))

    def share_before(self, age_s: float) -> float:
        """Return the share of the batches that end before this age (seconds)."""
        return _NORMAL.cdf((math.log(max(age_s, 1e-3)) - self.mean) / self.spread)

    def quantile_between(self, least_s: float, most_s: float, share: float) -> float:
        """Return the seconds within which this share ends of the batches that end between these times (seconds)."""
        past = self.share_before(least_s)
        return self.quantile(past + share * max(0.0, self.share_before(most_s) - past))


class _SlowTail(NamedTuple):
    """Slow batches, of which none was seen yet: as many take one to two hours as two to four."""

    share: float
    """The share of all batches that are slow."""
    least_s: float
    most_s: float

    def quantile(self, share: float) -> float:
        """Return the seconds within which this share of the slow batches ends."""
        return self.least_s * math.exp(share * math.log(self.most_s / self.least_s))

    def share_before(self, age_s: float) -> float:
        """Return the share of the slow batches that end before this age (seconds)."""
        reached = math.log(max(age_s, self.least_s) / self.least_s) / math.log(self.most_s / self.least_s)
        return min(reached, 1.0)


def compute_forecast(load: RemainingWork, ended_s: Sequence[float] = ()) -> Forecast:
    """Return the forecast. ended_s: the service times (seconds) of batches that ran to their end."""
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
    """Return the times of each simulation."""
    law = fit_log_normal(ended_s, [flight.age_s for flight in load.flights])
    starts = len(load.shards) + len(load.flights) + 1
    plays = max(FEWEST_PLAYS, min(PLAYS, MOST_STARTS // starts))
    return [_SampledTimes(law, len(ended_s), play, max(ended_s)) for play in range(plays)]


def fit_log_normal(ended_s: Sequence[float], running_s: Iterable[float]) -> LogNormalLaw:
    """Return the log-normal law of batches that ended after `ended_s` and of others that have run for `running_s`.

    Right-censored maximum likelihood by expectation-maximisation, with PRIOR_WEIGHT imaginary batches of PRIOR_SPREAD.
    """
    ended = [math.log(max(seconds, 1.0)) for seconds in ended_s]
    shortest = min(ended)
    # The age of a batch that is younger than the shortest time says nothing about its time.
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
    """Return the expected value and the expected square of the logarithm, of a batch that has reached this age."""
    z = (age - mean) / spread
    beyond = 1 - _NORMAL.cdf(z)
    hazard = _NORMAL.pdf(z) / beyond if beyond > 1e-9 else z + 1 / max(z, 1.0)
    first = mean + spread * hazard
    return first, mean * mean + spread * spread + spread * hazard * (mean + age)


class _FixedTimes:
    """Times that are all equal; of each batch the mean number of lines fails, rounded down, so that the job ends."""

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
    """Times drawn from a law that is itself known from `known_from` batches only; the same ones for the same play.

    None is beyond the window, as the service ends every batch then: a law of one batch that ended early and many that
    run would go far beyond it.
    """

    def __init__(self, law: LogNormalLaw, known_from: int, play: int, slowest_s: float) -> None:
        self._state = (play + 1) * 0x9E3779B97F4A7C15
        mean = law.mean + law.spread / math.sqrt(known_from) * self._sample_normal()
        self._law = LogNormalLaw(
            mean, law.spread * math.exp(self._sample_normal() / math.sqrt(2 * (known_from + PRIOR_WEIGHT)))
        )
        # The share of slow batches that is possible after `known_from` batches without one (Jeffreys prior): in most
        # simulations next to none, in some a good part.
        odds = self._sample_normal() ** 2
        least = max(slowest_s, 1.0)
        self._slow = _SlowTail(odds / (odds + 2 * known_from + 1), least, max(WORST_BATCH_S, 2 * least))

    def _sample_normal(self) -> float:
        return _NORMAL.inv_cdf(max(self._sample_uniform(), 1e-6))

    def _sample_uniform(self) -> float:
        """Return the next number in [0, 1) of splitmix64.

        `random.Random(play)` would be as pure and shorter, and was tried. Its draws are not spread as evenly over the
        simulations: with 11 of 20 series of seeds the worst case of a young job missed the slow batches that may still
        come. It would need more simulations, and these are what takes time in a forecast.
        """
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
        """Return the median time in seconds."""
        return self._law.quantile_between(0.0, self._slow.most_s, 0.5)

    def remaining_seconds(self, age_s: float) -> float:
        """Return the seconds until a batch of this age ends: the older, the more likely it is one of the slow ones."""
        past = self._slow.share_before(age_s)
        slow = self._slow.share * (1 - past)
        usual = (1 - self._slow.share) * (1 - self._law.share_before(age_s))
        if self._sample_uniform() * (slow + usual) < slow:
            return self._slow.quantile(past + self._sample_uniform() * (1 - past)) - age_s
        end = self._law.quantile_between(age_s, self._slow.most_s, self._sample_uniform())
        return max(LEAST_LEFT * age_s, end - age_s)

    def sample_count(self, mean: float) -> int:
        """Return a Poisson number: how many of many rare events happen. Above 30 a normal one, which is close to it."""
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
    """One simulation of the job, in seconds from now."""

    load: RemainingWork
    law: _FixedTimes | _SampledTimes
    free: int
    now: float = 0.0
    next: int = 0
    lines: int = 0
    """Lines that wait to be retried."""
    tokens: int = 0
    """The reserved tokens of the lines that wait to be retried."""
    ends: list[tuple[float, int, int]] = field(default_factory=list)
    """(end, reserved tokens, lines) of the batches that run."""
    shard_ends: list[float] = field(default_factory=list)
    """The ends of the shards that were sent so far, in their order."""
    flying: int = 0
    """Lines in flight."""
    has_ended: bool = False
    """Whether a batch has ended, so that there are answers to judge."""

    def start(self) -> None:
        """Put the running batches in flight, move on to the time at which sending starts, and fill the headroom."""
        for flight in self.load.flights:
            self.free -= flight.reserved
            self.flying += flight.lines
            heapq.heappush(self.ends, (self.law.remaining_seconds(flight.age_s), flight.reserved, flight.lines))
        while self.ends and self.ends[0][0] <= self.load.free_in_s:
            self.end_next_batch()
        if self.load.shards or self.lines:
            self.now = max(self.now, self.load.free_in_s)
        self.fill_headroom()

    def start_batch(self, reserved: int, lines: int) -> float:
        """Send a batch now; return when it ends."""
        end = self.now + self.law.sample_seconds()
        self.free -= reserved
        self.flying += lines
        heapq.heappush(self.ends, (end, reserved, lines))
        return end

    def may_send(self, reserved: int, lines: int) -> bool:
        """Return whether a shard fits into the headroom and into the first wave; one always does into nothing."""
        if not self.ends:
            return True
        most = self.load.first_wave
        return reserved <= self.free and (most is None or self.has_ended or self.flying + lines <= most)

    def fill_headroom(self) -> None:
        """Send what fits: the shards in their order, and then the lines to be retried."""
        shards = self.load.shards
        while self.next < len(shards) and self.may_send(*shards[self.next]):
            self.shard_ends.append(self.start_batch(*shards[self.next]))
            self.next += 1
        piece = max(1, self.load.ceiling // SHARDS_IN_HEADROOM)
        while self.next == len(shards) and self.lines:
            part = min(self.lines, max(1, self.lines * piece // max(self.tokens, 1)))
            tokens = self.tokens * part // self.lines
            if not self.may_send(tokens, part):
                break
            self.start_batch(tokens, part)
            self.lines, self.tokens = self.lines - part, self.tokens - tokens

    def end_next_batch(self) -> None:
        """Move on to the end of the next batch."""
        when, reserved, lines = heapq.heappop(self.ends)
        self.now = max(self.now, when)
        self.free += reserved
        self.flying -= lines
        self.has_ended = True
        failed = min(lines, self.law.sample_count(min(self.load.retry_share, MAX_RETRY_SHARE) * lines))
        self.lines += failed
        self.tokens += failed * reserved // lines if lines else 0


def _start_simulation(load: RemainingWork, law: _FixedTimes | _SampledTimes) -> _Simulation:
    """Return a simulation at the moment at which everything that fits has been sent."""
    simulation = _Simulation(load, law, load.ceiling, tokens=load.loose[0], lines=load.loose[1])
    simulation.start()
    return simulation


def _simulate_completion(load: RemainingWork, law: _FixedTimes | _SampledTimes) -> float:
    """Return the seconds to the end in one simulation."""
    simulation = _start_simulation(load, law)
    while simulation.ends:
        simulation.end_next_batch()
        simulation.fill_headroom()
    return simulation.now


def count_fitting_lines(load: RemainingWork, ended_s: Sequence[float], within_s: float) -> int:
    """Return how many of the unsent lines, the most urgent first, are expected to end within `within_s` seconds.

    The end of a shard does not depend on those behind it, so one simulation gives the answer for every number of
    shards. The lines to be retried take their share of the room meanwhile, and one more batch at the end.
    """
    laws = _sample_laws(load, ended_s) if ended_s else [_FixedTimes(EXPECTED_BATCH_S)]
    retry_share = min(load.retry_share, MAX_RETRY_SHARE)
    first_tries = load._replace(ceiling=int(load.ceiling * (1 - retry_share)), retry_share=0.0, loose=(0, 0))
    has_retries = retry_share * sum(lines for _, lines in load.shards) >= 1
    counts = sorted(
        _count_fitting_shards(first_tries, law, within_s - law.median_seconds() if has_retries else within_s)
        for law in laws
    )
    return sum(lines for _, lines in load.shards[: counts[len(counts) // 2]])


def _count_fitting_shards(load: RemainingWork, law: _FixedTimes | _SampledTimes, within_s: float) -> int:
    """Return how many shards, the first ones, end within `within_s` seconds in one simulation."""
    simulation = _start_simulation(load, law)
    while simulation.ends and simulation.now <= within_s:
        simulation.end_next_batch()
        simulation.fill_headroom()
    ends = simulation.shard_ends
    return next((n for n, end in enumerate(ends) if end > within_s), len(ends))
