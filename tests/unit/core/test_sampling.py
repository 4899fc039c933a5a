"""Samples: how many lines of each stratum, which ones, and what they say of the rest."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.sampling import (
    MeasuredLine,
    SampleCandidate,
    Stratum,
    allocate_lines,
    draw_sample,
    estimate_rest,
    spread_positions,
)
from tests.support.examples import examples

ARTISTS = Path(__file__).resolve().parents[4] / "shared" / "artists" / "artists.parquet"
FACTS = (
    "nationality", "born", "died", "dates", "gender", "birth_place", "death_place", "roles", "media", "movements",
)  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "lines", "counts"),
    [
        ([], 5, []),
        ([10], 3, [3]),
        ([10, 10], 4, [2, 2]),
        ([100, 1], 5, [4, 1]),  # a stratum of one line gives that
        ([3, 997], 100, [2, 98]),
        ([3, 4], 200, [3, 4]),  # never more than there are
        ([3, 4], 7, [3, 4]),
        ([102, 52, 2], 20, [11, 7, 2]),  # 2 each, and 14 in the proportion of 100 to 50
        ([5, 5, 5], 5, [2, 2, 1]),  # too few for two of each: in proportion
    ],
)
def test_allocate_lines(sizes: Sequence[int], lines: int, counts: Sequence[int]) -> None:
    assert allocate_lines(sizes, lines) == counts


@pytest.mark.parametrize(
    ("size", "count", "chance", "positions"),
    [
        (10, 2, 0.0, [0, 5]),
        (10, 2, 0.99, [4, 9]),
        (3, 3, 0.5, [0, 1, 2]),
        (1, 1, 0.999, [0]),
        (5, 0, 0.5, []),
    ],
)
def test_spread_positions(size: int, count: int, chance: float, positions: Sequence[int]) -> None:
    assert spread_positions(size, count, chance) == positions


def _build_population(lengths: Sequence[tuple[int, int, bool]]) -> list[SampleCandidate]:
    return [SampleCandidate(seq, *rest) for seq, rest in enumerate(lengths, 1)]


POPULATIONS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 400), st.booleans()), max_size=300)


@examples(200)
@given(POPULATIONS, st.integers(0, 120), st.integers(0, 2**32))
def test_a_sample_is_of_its_population_and_stands_for_all_of_it(
    lengths: list[tuple[int, int, bool]], lines: int, seed: int
) -> None:
    population = _build_population(lengths)
    drawn = draw_sample(population, lines, seed)
    seqs = [line.seq for line in drawn]
    assert len(drawn) == min(lines, len(population))
    assert len(set(seqs)) == len(seqs)
    assert set(seqs) <= {candidate.seq for candidate in population}
    if drawn:
        assert sum(line.weight for line in drawn) == pytest.approx(len(population))
    assert draw_sample(reversed(population), lines, seed) == drawn


@examples(200)
@given(POPULATIONS, st.integers(60, 120), st.integers(0, 2**32))
def test_two_lines_of_each_stratum_are_drawn_where_it_has_two(
    lengths: list[tuple[int, int, bool]], lines: int, seed: int
) -> None:
    """At most 4 priorities of 7 classes: 60 lines are enough for two of each."""
    drawn = draw_sample(_build_population(lengths), lines, seed)
    counts = Counter(line.stratum for line in drawn)
    for line in drawn:
        size = line.weight * counts[line.stratum]
        assert counts[line.stratum] >= min(2, round(size))


def test_another_seed_draws_others() -> None:
    population = _build_population([(1, n, False) for n in range(1_000)])
    first, second = ({line.seq for line in draw_sample(population, 50, seed)} for seed in (1, 2))
    assert first != second


def test_with_few_lines_the_classes_and_then_the_priorities_are_given_up() -> None:
    population = _build_population([(1 + n % 3, n, False) for n in range(3_000)])
    assert [line.stratum for line in draw_sample(population, 6, 1)] == [1, 1, 2, 2, 3, 3]
    assert [line.stratum for line in draw_sample(population, 5, 1)] == [1] * 5


def test_artists_without_facts_are_a_stratum_of_their_own() -> None:
    population = _build_population([(1, 100 + n, n % 50 == 7) for n in range(1_000)])
    drawn = draw_sample(population, 30, 1)
    bare = [line for line in drawn if population[line.seq - 1].is_bare]
    assert len(bare) >= 2
    assert {line.stratum for line in bare}.isdisjoint(line.stratum for line in drawn if line not in bare)


def test_the_rest_is_estimated_by_strata() -> None:
    strata = {1: Stratum(10, 2), 2: Stratum(100, 2)}
    measured = [MeasuredLine(1, 5.0), MeasuredLine(1, 5.0), MeasuredLine(2, 1.0), MeasuredLine(2, 3.0)]
    estimate = estimate_rest(measured, strata)
    assert estimate.amount == pytest.approx(8 * 5.0 + 98 * 2.0)
    assert estimate.error == pytest.approx((98 * 98 * 2.0 / 2 + 98 * 2.0) ** 0.5)


def test_a_stratum_without_answers_is_as_the_others() -> None:
    strata = {1: Stratum(10, 2), 2: Stratum(100, 2)}
    estimate = estimate_rest([MeasuredLine(1, 4.0), MeasuredLine(1, 6.0)], strata)
    assert estimate.amount == pytest.approx((8 + 98) * 5.0)
    assert estimate_rest([], strata) == (0.0, 0.0)


@pytest.mark.shared
def test_a_pilot_of_the_real_artists_meets_those_of_whom_only_the_name_is_known() -> None:
    """The facts count as in `plan`: what the row holds beside id, name and priority."""
    if not ARTISTS.exists():
        pytest.skip("the reference data is not beside the repository")
    length = " + ".join(f"coalesce(length({fact}::VARCHAR) + length('{fact}') + 5, 0)" for fact in FACTS)
    found = duckdb.connect().execute(
        f"SELECT rank, priority, {length}, coalesce({', '.join(f'{fact}::VARCHAR' for fact in FACTS)}) IS NULL "
        f"FROM '{ARTISTS}' ORDER BY rank"
    )
    rows = found.fetchall()
    assert len(rows) == 42_888
    name_only = {rank for rank, _, _, is_name_only in rows if is_name_only}
    # The bios job keeps the kind of an artist in every row, so that none of them is bare.
    everyone = [SampleCandidate(rank, priority, length, False) for rank, priority, length, _ in rows]
    stratum_of = {line.seq: line.stratum for line in draw_sample(everyone, len(everyone), 1)}
    sample = draw_sample(everyone, 200, 1)
    strata = {stratum_of[rank] for rank in name_only}
    met = {line.stratum for line in sample} & strata
    drawn = [line.seq for line in sample if line.seq in name_only]
    print(f"{len(name_only)} name-only artists in {len(strata)} strata: {len(met)} have lines in a pilot of 200, ")
    print(f"which draws {len(drawn)} such artists of {len({stratum_of[rank] for rank in drawn})} strata")
    assert len(met) >= 2 / 3 * len(strata)
    assert len({stratum_of[rank] for rank in drawn}) >= 2 / 3 * len(strata)
