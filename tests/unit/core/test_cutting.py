"""Shards, waves and chunks: lines are cut within the limits, in order, and none is lost."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.cutting import (
    MAX_BYTES,
    MAX_LINES,
    SHARDS_IN_HEADROOM,
    ShardCutter,
    count_waves,
    default_shard_limits,
    split_chunks,
)
from batcher.core.model import ShardLimits
from tests.support.examples import examples

Line = tuple[int, int, int]
"""Priority, bytes, tokens."""


def _cut(limits: ShardLimits, lines: list[Line]) -> list[list[Line]]:
    cutter, shards = ShardCutter(limits), list[list[Line]]()
    for line in lines:
        if cutter.add_line(*line):
            shards.append([])
        shards[-1].append(line)
    return shards


def _fits(limits: ShardLimits, shard: list[Line]) -> bool:
    size, tokens = sum(line[1] for line in shard), sum(line[2] for line in shard)
    return len(shard) <= limits.lines and size <= limits.bytes and tokens <= limits.tokens


LINES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 120), st.integers(0, 120)), max_size=40)
LIMITS = st.builds(ShardLimits, st.integers(1, 8), st.integers(1, 300), st.integers(1, 300))


@given(LIMITS, LINES, st.booleans())
@examples(2_000)
def test_shards_keep_the_limits_the_order_and_one_priority(
    limits: ShardLimits, lines: list[Line], in_order: bool
) -> None:
    lines = sorted(lines, key=lambda line: line[0]) if in_order else lines
    shards = _cut(limits, lines)
    assert [line for shard in shards for line in shard] == lines
    assert all(shard for shard in shards)
    assert all(len({line[0] for line in shard}) == 1 for shard in shards)
    assert all(_fits(limits, shard) or len(shard) == 1 for shard in shards)
    for shard, after in itertools.pairwise(shards):
        assert shard[0][0] != after[0][0] or not _fits(limits, [*shard, after[0]])


def test_a_shard_is_filled_to_the_edge_and_not_past_it() -> None:
    one = (1, 10, 10)
    assert [len(s) for s in _cut(ShardLimits(3, 10**6, 10**6), [one] * 7)] == [3, 3, 1]
    assert [len(s) for s in _cut(ShardLimits(10, 30, 10**6), [one] * 7)] == [3, 3, 1]
    assert [len(s) for s in _cut(ShardLimits(10, 29, 10**6), [one] * 7)] == [2, 2, 2, 1]
    assert [len(s) for s in _cut(ShardLimits(10, 10**6, 30), [one] * 7)] == [3, 3, 1]
    assert [len(s) for s in _cut(ShardLimits(10, 10**6, 29), [one] * 7)] == [2, 2, 2, 1]
    assert [len(s) for s in _cut(ShardLimits(10, 5, 5), [one] * 3)] == [1, 1, 1]


def test_the_limits_of_a_batch_are_openais() -> None:
    assert (MAX_LINES, MAX_BYTES) == (50_000, 209_715_200)
    assert default_shard_limits(40_000_000, 0.8, 1.1) == ShardLimits(50_000, 209_715_200, 1_212_121)
    assert default_shard_limits(1, 0.8, 1.1).tokens == 1


@given(st.integers(100, 10**10), st.floats(0.05, 1), st.floats(0.5, 3))
@examples(300)
def test_several_shards_fit_the_headroom_at_once(limit: int, threshold: float, factor: float) -> None:
    tokens = default_shard_limits(limit, threshold, factor).tokens
    assert tokens >= 1
    assert tokens == 1 or SHARDS_IN_HEADROOM * tokens * factor <= limit * threshold * (1 + 1e-9)


@pytest.mark.parametrize(
    ("tokens", "headroom", "count"),
    [
        ([], 10, 0),
        ([10], 10, 1),
        ([11], 10, 1),
        ([5, 5, 5], 10, 2),
        ([5, 6, 5], 10, 3),
        ([4, 6, 1], 10, 2),
        ([0, 0], 10, 1),
        ([0], 0, 1),
        ([1, 1], 0, 2),
        ([20, 1, 20], 10, 3),
        ([3] * 100, 9, 34),
    ],
)
def test_waves(tokens: list[int], headroom: int, count: int) -> None:
    assert count_waves(tokens, headroom) == count


@given(st.lists(st.integers(), max_size=30), st.integers(1, 12))
@examples(200)
def test_chunks_lose_nothing(rows: list[int], size: int) -> None:
    parts = list(split_chunks(iter(rows), size))
    assert [row for part in parts for row in part] == rows
    assert all(len(part) == size for part in parts[:-1])
    assert all(0 < len(part) <= size for part in parts)
