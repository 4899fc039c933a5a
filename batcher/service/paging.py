"""Reading a listing page by page, to its end where that can be found, and saying whether it was.

OpenAI says `has_more`, and continues after an id. Others give the cursor of the next page, or say nothing: then the
page after the last one is asked for, and only an empty one shows that there is none. What cannot be read, or does not
go on, is reported, and what was read is returned: it proves no absence, but shows what there is.
"""

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from batcher.core.endpoints.values import Json
from batcher.service.answers import is_usable_id, parse_time, unreadable_answer_error
from batcher.service.bounds import MOST_PAGES
from batcher.service.service import CallError, CallRefused, CallUnknown

MOST_PROBLEMS = 5
"""Problems of one listing that are reported in full."""

T = TypeVar("T")


class Position(NamedTuple):
    """Where a page begins: after an id, at a cursor, or (neither) at the first entry."""

    after: str = ""
    cursor: str = ""


class Page(NamedTuple):
    """A page: its objects, the whole answer, and the time of its Date header, 0 without one."""

    entries: list[object]
    answer: Json
    server_time: float


def parse_page(answer: object, server_time: float) -> Page:
    """Return a page of a listing. Raises CallUnknown for an answer without a list of objects."""
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(entries, list):
        raise unreadable_answer_error("answer")
    return Page(entries, answer, server_time)


class Listing(NamedTuple, Generic[T]):
    """What was read. complete: to its end, or as far back as was asked for, and every object was understood."""

    found: list[T]
    server_time: float
    complete: bool
    problems: tuple[str, ...]


class ListingReader(Generic[T]):
    """Reads one listing.

    parse_entry: makes a value of an entry and the time of its page; it raises CallUnknown for one that it cannot read.
    is_enough: whether a page lies so far back that the next one is not needed. is_late: whether the time is up.
    """

    def __init__(
        self,
        fetch_page: Callable[[Position], Page],
        parse_entry: Callable[[object, float], T],
        is_enough: Callable[[list[object]], bool],
        is_late: Callable[[], bool],
    ) -> None:
        self._fetch_page, self._parse_entry = fetch_page, parse_entry
        self._is_enough, self._is_late = is_enough, is_late
        self._found: dict[str, T] = {}
        self._server_time = 0.0
        self._problems: list[str] = []

    def read_pages(self) -> Listing[T]:
        """Return what the listing holds.

        Raises CallError where the first page cannot be read, our key is refused, or the service asks to wait.
        """
        position: Position | None = Position()
        seen: set[Position] = set()
        while position is not None:
            if len(seen) >= MOST_PAGES or (seen and self._is_late()):
                bound = f"{MOST_PAGES:,} pages" if len(seen) >= MOST_PAGES else "the time that it may take"
                self._problems.append(f"it does not end within {bound}")
                break
            seen.add(position)
            position = self._read_page(position, is_first=len(seen) == 1)
            if position in seen:
                self._problems.append("it does not go on: a page follows itself")
                break
        problems = self._problems[:MOST_PROBLEMS]
        if len(self._problems) > MOST_PROBLEMS:
            problems.append(f"and {len(self._problems) - MOST_PROBLEMS:,} more such problems")
        return Listing(list(self._found.values()), self._server_time, not problems, tuple(problems))

    def _read_page(self, position: Position, is_first: bool) -> Position | None:
        """Read one page; return where the next one begins, None where there is none or none is needed."""
        try:
            page = self._fetch_page(position)
        except CallError as error:
            about_all = isinstance(error, CallRefused) and error.concerns_all_calls
            if is_first or about_all or error.wait_s is not None:
                raise
            self._problems.append(f"a page could not be read: {error}")
            return None
        self._server_time = self._server_time or page.server_time
        entries, known = page.entries, len(self._found)
        for entry in entries:
            self._take_entry(entry, page.server_time)
        if self._is_enough(entries):
            return None
        next_position = self._find_next(position, page.answer, entries)
        if next_position is None or len(self._found) > known or (next_position.cursor and not entries):
            return next_position
        self._problems.append("it does not go on: a page shows nothing that is new")
        return None

    def _take_entry(self, entry: object, server_time: float) -> None:
        try:
            parsed = self._parse_entry(entry, server_time)
        except CallUnknown:
            kind = "an object without a usable id" if isinstance(entry, Mapping) else "an entry that is no object"
            self._problems.append(f"it holds {kind}")
            return
        if isinstance(entry, Mapping):
            self._found.setdefault(str(entry["id"]), parsed)

    def _find_next(self, position: Position, answer: Json, entries: list[object]) -> Position | None:
        """Return where the page after this one begins; None where this is the last one.

        position: where this one began.
        """
        has_more, paging = answer.get("has_more"), answer.get("paging")
        if has_more is False:
            return None
        owner = paging if isinstance(paging, Mapping) else answer
        cursor = owner.get("next_cursor")
        if has_more is not True and ("next_cursor" in owner or position.cursor):
            return Position(cursor=cursor) if isinstance(cursor, str) and cursor else None
        ids = [entry["id"] for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("id"), str)]
        usable = [each for each in ids if is_usable_id(each)]
        if not entries and has_more is not True:
            return None
        if not usable:
            self._problems.append("it does not go on: a page names no id to go on after")
            return None
        return Position(after=usable[-1])


def is_last_page(entries: list[object], back_to: float) -> bool:
    """Return whether the next pages hold older batches only; unknown, so False, for a page that is not newest first."""
    times = [parse_time(entry.get("created_at")) if isinstance(entry, Mapping) else None for entry in entries]
    known = [each for each in times if each is not None]
    is_newest_first = len(known) == len(times) and known == sorted(known, reverse=True)
    return bool(known) and is_newest_first and known[-1] < back_to
