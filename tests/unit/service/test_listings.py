"""What a listing proves: it is read to its end, however the service pages, or says that it proves no absence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core.remote import BatchListing
from batcher.service import paging
from batcher.service.answers import unreadable_answer_error
from batcher.service.service import CallRefused, CallUnknown
from tests.support.api_kit import BUSY, PAUSES, Answer, answer, page, refusal, requested, scripted, told


def read(answers: list[Answer]) -> tuple[BatchListing, list[str]]:
    """Return a listing, and the addresses that were asked for."""
    service, urls = requested(answers)
    return service.list_batches(0.0), urls


def ids(listing: BatchListing) -> list[str]:
    return [batch.batch_id for batch in listing.batches]


def test_without_has_more_only_an_empty_page_ends_a_listing() -> None:
    listing, urls = read([page([1, 2]), page([3]), page([])])
    assert ids(listing) == ["batch_1", "batch_2", "batch_3"]
    assert listing.proves_absence and listing.problems == ()
    assert [url.partition("?")[2] for url in urls] == [
        "limit=100",
        "after=batch_2&limit=100",
        "after=batch_3&limit=100",
    ]


def test_a_cursor_is_followed_to_its_end() -> None:
    listing, urls = read(
        [
            page([1, 2], paging={"next_cursor": "c/2"}),
            page([], paging={"next_cursor": "c3"}),
            page([3], paging={"next_cursor": None}),
        ]
    )
    assert ids(listing) == ["batch_1", "batch_2", "batch_3"] and listing.proves_absence
    assert ["cursor=c%2F2" in urls[1], "cursor=c3" in urls[2], "after" in "".join(urls)] == [True, True, False]
    top_level, _ = read([page([1], next_cursor="x"), page([2])])
    assert ids(top_level) == ["batch_1", "batch_2"] and top_level.proves_absence


@pytest.mark.parametrize(
    "answers",
    [
        [page([1, 2]), page([1, 2])],  # `after` says nothing to it
        [page([1, 2], has_more=True), page([1, 2], has_more=True)],
        [page([1, 2], has_more=True), page([], has_more=True)],
        [page([1], next_cursor="x"), page([2], next_cursor="x")],
        [answer(200, {"data": [{"created_at": 1_795_000_000}], "has_more": True})],
    ],
)
def test_a_listing_that_does_not_go_on_proves_no_absence(answers: list[Answer]) -> None:
    listing, _ = read(answers)
    assert not listing.proves_absence
    assert any("does not go on" in problem for problem in listing.problems)
    assert ids(listing) == [f"batch_{n}" for n in range(1, len(ids(listing)) + 1)]  # what was read is returned


@pytest.mark.parametrize("odd", [17, None, "batch_9", [], {}, {"id": ""}, {"id": 9}, {"id": "a\nb"}, {"id": "\ud83d"}])
def test_an_object_that_cannot_be_understood_is_told_and_passed_over(odd: object) -> None:
    listing, _ = read([answer(200, {"data": [odd, told(), odd], "has_more": False})])
    assert ids(listing) == ["batch_1"] and not listing.proves_absence
    assert len(listing.problems) == 2 and all("the listing of the batches: it holds" in p for p in listing.problems)


def test_many_problems_are_counted() -> None:
    listing, _ = read([answer(200, {"data": [None] * 100, "has_more": False})])
    assert len(listing.problems) == paging.MOST_PROBLEMS + 1 and "95 more" in listing.problems[-1]


def test_an_odd_page_takes_nothing_from_the_others() -> None:
    for odd in ([answer(200, b"<html>")] * 4, [answer(503, BUSY)] * 4, [answer(404, refusal())]):
        service, slept = scripted([page([1, 2], has_more=True), *odd])
        listing = service.list_batches(0)
        assert ids(listing) == ["batch_1", "batch_2"] and not listing.proves_absence
        assert slept == (PAUSES if len(odd) == 4 else [])


def test_a_key_that_is_refused_or_a_wait_that_is_asked_for_is_no_listing() -> None:
    for odd, kind in ((answer(401, refusal()), CallRefused), (answer(503, BUSY, retry_after="60"), CallUnknown)):
        with pytest.raises(kind):
            read([page([1, 2], has_more=True), odd])


@pytest.mark.parametrize("status", [400, 422])
def test_a_listing_that_refuses_a_limit_is_asked_for_without(status: int) -> None:
    refused = answer(status, {"detail": "limit: Input should be less than or equal to 50"})
    service, urls = requested([refused, page([1], has_more=True), page([2], has_more=False), page([1], has_more=False)])
    assert ids(service.list_batches(0)) == ["batch_1", "batch_2"]
    service.list_batches(0)
    assert ["limit" in url for url in urls] == [True, False, False, False]
    with pytest.raises(CallRefused):
        read([refused, refused])


def test_a_listing_without_an_end_is_read_as_far_as_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MOST_PAGES", 5)
    listing, urls = read([page([n], has_more=True) for n in range(9)])
    assert len(urls) == 5 and len(listing.batches) == 5 and not listing.proves_absence
    assert listing.problems == ("the listing of the batches: it does not end within 5 pages",)


def test_the_pages_of_a_listing_have_a_time_together() -> None:
    now = iter(range(100))

    def fetch_page(position: paging.Position) -> paging.Page:
        return paging.parse_page({"data": [{"id": f"b{next(now)}"}], "has_more": True}, 0.0)

    reader = paging.ListingReader(
        fetch_page, lambda entry, _time: entry, lambda _entries: False, lambda: next(now) > 10
    )
    listing = reader.read_pages()
    assert listing.problems == ("it does not end within the time that it may take",) and 2 < len(listing.found) < 9


def files(names: list[str], start: int = 0, **more: object) -> Answer:
    data = [{"id": f"file-{start + n}", "filename": name, "created_at": 1_795_000_000} for n, name in enumerate(names)]
    return answer(200, {"data": data, **more})


def test_files_are_looked_for_page_by_page() -> None:
    service, urls = requested([files(["a", "b"], has_more=True), files(["a"], 2, has_more=False)])
    assert [file.file_id for file in service.find_files("a")] == ["file-0", "file-2"]
    assert all("limit=100" in url and "purpose=batch" in url for url in urls)
    assert "after=file-1" in urls[1]


def test_a_listing_of_files_that_repeats_its_page_ends() -> None:
    service, urls = requested([files(["a", "b"], has_more=True)] * 2)
    assert [file.file_id for file in service.find_files("a")] == ["file-0"] and len(urls) == 2


DIALECTS = ["has_more", "paging", "next_cursor", "nothing", "deaf", "cut"]


@given(st.integers(0, 12), st.integers(1, 5), st.sampled_from(DIALECTS), st.integers(0, 13))
def test_a_listing_that_proves_absence_lacks_nothing(count: int, size: int, dialect: str, odd: int) -> None:
    """Hold it for each way of paging, for one that does not hear `after`, and one that stops without saying so."""
    entries: list[object] = [{"id": f"b{n}"} if n != odd else {"name": "no id"} for n in range(count)]

    def fetch_page(position: paging.Position) -> paging.Page:
        names = [entry.get("id") if isinstance(entry, dict) else None for entry in entries]
        start = int(position.cursor or 0) or (names.index(position.after) + 1 if position.after else 0)
        start = 0 if dialect == "deaf" else start
        shown, end = entries[start : start + size], start + size >= count
        answer: dict[str, object] = {"data": shown}
        if dialect in {"has_more", "cut"}:
            answer["has_more"] = not end or dialect == "cut"
        elif dialect in {"paging", "next_cursor"}:
            cursor = {"next_cursor": None if end else str(start + size)}
            answer.update({"paging": cursor} if dialect == "paging" else cursor)
        return paging.parse_page(answer, 0.0)

    def parse_entry(entry: object, _time: float) -> str:
        if isinstance(entry, dict) and "id" in entry:
            return str(entry["id"])
        raise unreadable_answer_error("entry")

    listing = paging.ListingReader(fetch_page, parse_entry, lambda _entries: False, lambda: False).read_pages()
    assert not listing.complete or listing.found == [f"b{n}" for n in range(count)]
    assert listing.complete == (odd >= count and (dialect not in {"deaf", "cut"} or (dialect == "deaf" and not count)))
