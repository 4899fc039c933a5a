"""Which lines of the log the options of `batcher log` choose."""

from datetime import UTC, datetime, timedelta

import pytest

from batcher.commands.tools.log import LogChoice, parse_since
from batcher.errors import InputError
from batcher.views.log_lines import LogLine

NOW = datetime(2026, 11, 27, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        (" 1.5 h ", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("2026-11-27T07:00+01:00", timedelta(minutes=90)),
    ],
)
def test_a_span_counts_back_from_now_and_a_time_is_taken_as_it_is(text: str, before: timedelta) -> None:
    assert parse_since(text, NOW) == NOW - before


@pytest.mark.parametrize("text", ["", "2w", "h", "-1h", "2026-13-01", "9" * 400 + "d"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is neither a span nor a time; write it as 2h, 30m, 1d or"):
        parse_since(text, NOW)


def test_a_line_is_chosen_by_its_time_and_its_shard() -> None:
    line = LogLine(NOW, "info", "poll", 1, "shard 2: completed")
    assert LogChoice().takes(line)
    assert LogChoice(NOW, 2).takes(line)
    assert not LogChoice(NOW + timedelta(seconds=1)).takes(line)
    assert not LogChoice(shard=1).takes(line)
