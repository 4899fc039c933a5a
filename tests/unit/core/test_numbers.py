"""The numbers of the core that promises and documents state, and those of the service that were looked up.

Other tests use their names: a number that is changed by mistake changes the tests with it, and is noticed here alone.
"""

import pytest

from batcher.core import (
    admission,
    cutting,
    decide,
    forecast,
    model,
    remote,
    retry,
    room,
    snapshot,
    verdicts,
)
from batcher.core.direct import decide as decide_direct
from batcher.core.direct import pacing, workers
from batcher.core.endpoints import values

HOUR, DAY = 3600.0, 86_400.0
NUMBERS: dict[str, tuple[object, object]] = {
    # paid once
    "a direct line whose answer was lost is asked for once more": (decide_direct.LOST_BEFORE_HELD, 1),
    "storms that cost a line nothing": (verdicts.FREE_STORMS, 10),
    "server errors that cost a direct line nothing": (decide_direct.FREE_TRIES, 5),
    "seconds for which incomplete results are read again": (verdicts.PATIENCE_S, DAY),
    "and how often at least": (verdicts.FEWEST_READINGS, 10),
    "seconds between two looks for late results": (verdicts.LOOK_AGAIN_S, HOUR),
    "seconds for which they are read again sooner": (verdicts.QUICK_LOOKS_S, 600.0),
    "readings that agree and are believed": (verdicts.AGREEING_READINGS, 3),
    # waits
    "the longest Retry-After": (retry.LONGEST_RETRY_AFTER_S, DAY),
    "what spreads the callers after one": (retry.RETRY_AFTER_SPREAD_S, 5.0),
    "a wait later than the longest delay": (retry.WAIT_MARGIN_S, HOUR),
    "a look at the state while calls are made": (decide_direct.LOOK_S, 1.0),
    # limits of the service
    "batches in an hour": (admission.BATCHES_PER_HOUR, 2_000),
    "requests of a batch": (cutting.MAX_LINES, 50_000),
    "bytes of an input file": (cutting.MAX_BYTES, 200 * 2**20),
    "the window of a batch": (decide.LONGEST_BATCH_S, DAY),
    "the life of our files": (remote.FILE_LIFE_S, 30 * DAY),
    # what a number of the service's may be
    "a status, or a count of tokens": (values.LARGEST_INT, 2**31 - 1),
    "a time": (values.LATEST_TIME, 10**11),
    "characters of a message that are kept": (values.MESSAGE_LENGTH, 500),
    "characters of a code that are kept": (values.CODE_LENGTH, 200),
    "a limit in a header": (pacing.LARGEST_LIMIT, 10**12),
    "a reset in a header": (pacing.LONGEST_RESET_S, 7 * DAY),
    "a window that is no day's": (pacing.LONGEST_MINUTE_S, HOUR),
    # pace and room
    "the share of a minute's limit that is used": (pacing.SHARE, 0.95),
    "a minute, and a second of travel": (pacing.MINUTE_S, 61.0),
    "workers by name": (dict(workers.WORKERS), {"conservative": 2, "moderate": 4, "aggressive": 8}),
    "the bounds of adapting workers": ((workers.FEWEST_WORKERS, workers.MOST_WORKERS), (2, 16)),
    "lines of a worker in a second": (workers.LINES_PER_WORKER_S, 0.75),
    "lines before a measurement is believed": (room.FEWEST_MEASURED, 200),
    "bounds of the measured ratio": (room.RATIO_BOUNDS, (0.5, 10.0)),
    "shards in the headroom": (cutting.SHARDS_IN_HEADROOM, 24),
    # forecasts
    "a batch, at best, most likely and at worst": (
        (forecast.BEST_BATCH_S, forecast.EXPECTED_BATCH_S, forecast.WORST_BATCH_S), (HOUR, 4 * HOUR, DAY),
    ),
    "the largest share of lines that is taken to go again": (forecast.MAX_RETRY_SHARE, 0.75),
}  # fmt: skip


@pytest.mark.parametrize("what", NUMBERS)
def test_a_number_is_what_is_said_of_it(what: str) -> None:
    number, stated = NUMBERS[what]
    assert number == stated


def test_the_settings_of_the_failure_table_have_these_defaults() -> None:
    rules = retry.RetryRules(retry.DEFAULT_POLICIES)
    assert (rules.max_attempts, rules.jitter_share, rules.storm_share) == (8, 0.10, 0.05)
    assert (rules.setup_share, rules.setup_lines) == (0.05, 20)
    nothing = [f for f, policy in retry.DEFAULT_POLICIES.items() if policy == retry.RetryPolicy(0, 0, 0)]
    assert sorted(nothing) == ["cancelled", "invalid", "missing", "setup"]


def test_what_the_service_does_not_tell_is_nothing() -> None:
    batch = remote.RemoteBatch("b", "in_progress", 0.0, "f")
    assert (batch.total, batch.completed, batch.failed, batch.usage) == (0, 0, 0, None)
    assert not any(room.MeasuredUsage())
    assert not any(model.TokenUsage())
    assert room.Room(1, 1.0, 1.0)[3:] == (0, None, 0.0)
    seen = snapshot.Snapshot(room.Room(1, 1.0, 1.0))
    assert (seen.created_last_hour, seen.unread, seen.files_due, seen.shards, seen.gate.stopped) == (0, 0, 0, (), "")
    assert seen.shard_limits == (cutting.MAX_LINES, cutting.MAX_BYTES, 2**62)
    assert snapshot.Pause("all", "quota", 0.0, None).tries == 0
    assert remote.BatchListing((), 0.0).proves_absence  # its reader says so where it does not
