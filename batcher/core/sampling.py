"""Drawing the lines of a pilot: strata, systematic sampling with a seed, and what the sample says of the rest. Pure.

A stratum is a priority and a class of how much is known of its artists, by the length of their facts. The classes are
narrow at both ends of a priority: the artists of whom least and most is known are where answers go wrong, and a sample
of the whole would hardly meet them.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from hashlib import sha256
from math import floor, sqrt
from statistics import variance
from typing import NamedTuple

CLASS_BOUNDS = (1 / 64, 1 / 8, 1 / 2, 7 / 8, 63 / 64)
"""Where the classes end, as shares of the ranks within a priority, the least known artists first."""

LEAST_DRAWN = 2
"""Lines that are drawn of each stratum at least: from one alone nothing is known of how much they differ."""


class SampleCandidate(NamedTuple):
    """A line that may be drawn: the number of its artist, the length of the facts, and whether there are none."""

    seq: int
    priority: int
    length: int
    is_bare: bool
    """Of the artist nothing but id, name and priority is known."""


class DrawnLine(NamedTuple):
    """A line of a sample. weight: how many lines it stands for, the size of its stratum by the lines drawn of it."""

    seq: int
    stratum: int
    weight: float


def draw_sample(candidates: Iterable[SampleCandidate], lines: int, seed: int) -> list[DrawnLine]:
    """Return a sample of about `lines` lines, in the order of strata; all lines where there are no more than that.

    Of each stratum at least LEAST_DRAWN lines are drawn, where it has them. Where `lines` does not suffice for that,
    the classes are given up, and then the priorities. The same seed and lines give the same sample.
    """
    population = sorted(candidates, key=lambda c: (c.priority, c.length, c.seq))
    strata = _build_strata(population, lines)
    counts = allocate_lines([len(stratum) for stratum in strata], lines)
    drawn: list[DrawnLine] = []
    for number, (stratum, count) in enumerate(zip(strata, counts, strict=True), 1):
        chance = _derive_chance(seed, number)
        weight = len(stratum) / max(count, 1)
        drawn += [DrawnLine(stratum[at].seq, number, weight) for at in spread_positions(len(stratum), count, chance)]
    return drawn


def _derive_chance(seed: int, stratum: int) -> float:
    """Return a number from 0 to below 1 that is as good as random, and the same on every machine."""
    return int.from_bytes(sha256(f"{seed} {stratum}".encode()).digest()[:6]) / 2**48


def _build_strata(population: Sequence[SampleCandidate], lines: int) -> list[list[SampleCandidate]]:
    """Return the finest strata of which LEAST_DRAWN lines each may be drawn."""
    ranks = _rank_within_priority(population)

    def by_class(candidate: SampleCandidate, rank: float) -> Hashable:
        known = 0 if candidate.is_bare else 1 + bisect_right(CLASS_BOUNDS, rank)
        return candidate.priority, known

    def by_priority(candidate: SampleCandidate, _rank: float) -> Hashable:
        return candidate.priority

    ways: tuple[Callable[[SampleCandidate, float], Hashable], ...] = (by_class, by_priority)
    for way in ways:
        groups: dict[Hashable, list[SampleCandidate]] = defaultdict(list)
        for candidate, rank in zip(population, ranks, strict=True):
            groups[way(candidate, rank)].append(candidate)
        strata = list(groups.values())
        if sum(min(LEAST_DRAWN, len(stratum)) for stratum in strata) <= lines:
            return strata
    return [list(population)] if population else []


def _rank_within_priority(population: Sequence[SampleCandidate]) -> list[float]:
    """Return the rank of each candidate among those of its priority, from 0 up to below 1.

    Artists of whom equally much is known have the same rank: that of the first of them.
    """
    sizes: dict[int, int] = defaultdict(int)
    for candidate in population:
        sizes[candidate.priority] += 1
    ranks: list[float] = []
    begun, first, last = 0, 0, (0, 0)
    for at, candidate in enumerate(population):
        if not at or candidate.priority != last[0]:
            begun = at
        if not at or (candidate.priority, candidate.length) != last:
            first, last = at, (candidate.priority, candidate.length)
        ranks.append((first - begun) / sizes[candidate.priority])
    return ranks


def allocate_lines(sizes: Sequence[int], lines: int) -> list[int]:
    """Return how many lines to draw of each stratum: LEAST_DRAWN of each, the rest in proportion to what is left."""
    lines = min(lines, sum(sizes))
    counts = [min(LEAST_DRAWN, size) for size in sizes]
    if sum(counts) > lines:
        counts = [0] * len(sizes)
    left = [size - count for size, count in zip(sizes, counts, strict=True)]
    rest, whole = lines - sum(counts), sum(left)
    if not rest:
        return counts
    shares = [rest * part / whole for part in left]
    more = [floor(share) for share in shares]
    by_remainder = sorted(range(len(sizes)), key=lambda n: (more[n] - shares[n], n))
    for n in by_remainder[: rest - sum(more)]:
        more[n] += 1
    return [count + extra for count, extra in zip(counts, more, strict=True)]


def spread_positions(size: int, count: int, chance: float) -> list[int]:
    """Return `count` positions below `size` at equal distances, the first at `chance` (0 to below 1) of a distance."""
    return [min(size - 1, floor((chance + n) * size / count)) for n in range(count)]


class MeasuredLine(NamedTuple):
    """A line of a sample that has ended, and what was measured of it, such as its dollars."""

    stratum: int
    value: float


class Stratum(NamedTuple):
    """How many lines a stratum had when a sample was drawn, and how many of them were drawn."""

    size: int
    drawn: int


class Estimate(NamedTuple):
    """An amount, and its standard error."""

    amount: float
    error: float


def estimate_rest(measured: Iterable[MeasuredLine], strata: Mapping[int, Stratum]) -> Estimate:
    """Return the sum of a value over the lines that were not drawn, from those that were and have ended.

    A stratum of which one line or none has ended borrows the variance, or the mean as well, of the whole sample.
    """
    values: dict[int, list[float]] = defaultdict(list)
    for line in measured:
        values[line.stratum].append(line.value)
    of_all = [value for part in values.values() for value in part]
    amount = error2 = 0.0
    for number, (size, drawn) in strata.items():
        part, rest = values[number] or of_all, size - drawn
        if not part:
            return Estimate(0.0, 0.0)
        known = part if len(part) > 1 else of_all
        spread = variance(known) if len(known) > 1 else 0.0
        amount += rest * sum(part) / len(part)
        # The mean is uncertain, and so is each of the lines that it is applied to.
        error2 += rest * rest * spread / len(part) + rest * spread
    return Estimate(amount, sqrt(error2))
