"""Moments as a person says them: clock times of today and tomorrow, how long until then, and ISO times for machines."""

from datetime import UTC, datetime, tzinfo

from batcher.views.sheet import format_duration


def localize(at: float, zone: tzinfo | None = None) -> datetime:
    """Return a moment (epoch seconds) in a zone; None: that of this machine, with its daylight saving time."""
    return datetime.fromtimestamp(at, UTC).astimezone(zone)


def format_iso(at: float, zone: tzinfo | None = None) -> str:
    """Return a moment as ISO 8601 with its distance from UTC, as 2026-11-27T08:31:02+01:00."""
    return localize(at, zone).isoformat(timespec="seconds")


def format_day(at: float, now: float, zone: tzinfo | None = None) -> str:
    """Return the day of a moment, seen from `now`: today, tomorrow, or as Wed 2 Dec, with its year where it differs."""
    then, today = localize(at, zone), localize(now, zone)
    days = (then.date() - today.date()).days
    if days in {0, 1}:
        return ("today", "tomorrow")[days]
    year = f" {then.year}" if then.year != today.year else ""
    return f"{then:%a} {then.day} {then:%b}{year}"


def format_clock(at: float, now: float, zone: tzinfo | None = None) -> str:
    """Return the clock time of a moment with its day, seen from `now`: 21:30 today, tomorrow 17:30, Wed 2 Dec 17:30."""
    day, clock = format_day(at, now, zone), f"{localize(at, zone):%H:%M}"
    return f"{clock} today" if day == "today" else f"{day} {clock}"


def format_end_range(
    best: float, expected: float, worst: float, now: float, zone: tzinfo | None = None, note: str = ""
) -> str:
    """Return when something ends (epoch seconds): 21:30 today (18:30 to tomorrow 17:30).

    A bound of the range names its day where that is another one than the day of the expected end. note: what is said
    behind the range.
    """
    middle = format_clock(expected, now, zone)
    if max(expected - best, worst - expected) < 60:
        return f"{middle}{note}"
    day = format_day(expected, now, zone)
    bounds = [
        f"{localize(at, zone):%H:%M}" if format_day(at, now, zone) == day else format_clock(at, now, zone)
        for at in (best, worst)
    ]
    return f"{middle} ({bounds[0]} to {bounds[1]}{note})"


def format_until(until: float, now: float, zone: tzinfo | None = None) -> str:
    """Return how long it is until a moment, and its clock time: in 4 min (21:08 today)."""
    if until <= now:
        return "now"
    return f"in {format_duration(until - now)} ({format_clock(until, now, zone)})"
