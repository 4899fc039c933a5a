"""The lines of the log: what is written is read again, and never more than a line."""

import logging
from datetime import datetime, timedelta, timezone

import pytest

from batcher.core import events
from batcher.core.direct.pacing import RateHeaders
from batcher.views.event_log import PROGRESS_EVERY_S, EventLog
from batcher.views.log_lines import LONGEST, LogLine, format_log_line, parse_log_line

AT = datetime(2026, 11, 27, 7, 38, 50, tzinfo=timezone(timedelta(hours=1)))
LINE = LogLine(AT, "info", "poll", 4001, "shard 12: batch batch_1 created")
TEXT = "2026-11-27T07:38:50+01:00 info poll[4001] shard 12: batch batch_1 created"


def test_a_line_is_read_as_it_was_written() -> None:
    assert format_log_line(LINE) == TEXT
    assert parse_log_line(TEXT) == LINE
    assert LINE.shard == 12
    assert LINE._replace(sentence="Shard 3 waits").shard == 3
    assert LINE._replace(sentence="3 shards wait").shard is None


def test_a_sentence_stays_on_its_line_and_within_bounds() -> None:
    odd = format_log_line(LINE._replace(sentence="two\nlines \x1b[31m and a \x00"))
    assert odd.endswith("two lines \\x1b[31m and a \\x00")
    long = format_log_line(LINE._replace(sentence="x" * 10_000))
    assert len(long) < LONGEST + 60 and long.endswith("x...")


@pytest.mark.parametrize("text", ["", "a part of a li", TEXT.replace("+01:00", ""), TEXT.replace("07:38", "77:38")])
def test_what_is_no_line_is_read_as_none(text: str) -> None:
    assert parse_log_line(text) is None


def test_the_events_of_a_lane_are_written_without_the_noise() -> None:
    written: list[tuple[int, str]] = []
    clock = [0.0]
    log = EventLog(lambda level, sentence: written.append((level, sentence)), lambda: clock[0])
    wait = events.WaitStarted(10.0, "batches are running")
    for event in (
        events.UploadStarted(1, 1_000, 2_000_000), events.BytesSent(9), events.LinesProgressed(1, 2, 1), wait, wait,
        events.CallFailed("refresh", "no answer"), events.WaitStarted(20.0, "paused: quota"),
        events.RateLimitsSeen(100, RateHeaders()),
    ):  # fmt: skip
        log.record_event(event)
    clock[0] = PROGRESS_EVERY_S
    log.record_event(events.LinesProgressed(12_000, 42_888, 5))
    log.record_event(events.AnswersRecorded(3, 0))
    clock[0] *= 2
    log.record_event(events.AnswersRecorded(2, 0))
    assert written == [
        (logging.INFO, "shard 1: uploading 1,000 lines, 2.0 MB"),
        (logging.INFO, "waiting: batches are running"),
        (logging.WARNING, "refresh: no answer; trying again"),
        (logging.INFO, "waiting: paused: quota"),
        (logging.INFO, "after 100 answers: no limits named"),
        (logging.INFO, "12,000 of 42,888 released lines done, 5 batches running"),
        (logging.INFO, "5 bios of direct calls"),
    ]
