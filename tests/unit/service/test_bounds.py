"""Every call ends: in time, in bytes, and when the user asks for it. And what is sent goes to no other origin."""

import gzip
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

from batcher.core.remote import longest_result_bytes
from batcher.core.retry import RetryPolicy
from batcher.service import http_client
from batcher.service.bounds import SLOWEST_BYTES_S, Exchange
from batcher.service.connecting import connect_service
from batcher.service.http_client import BoundedClient
from batcher.service.openai_service import OpenAIService
from batcher.service.service import CallAbandoned, CallRefused, CallUnknown, Service
from tests.support.api_kit import BUSY, KEY, MEGABYTE, QUICK, Act, answer, call_rules, page, scripted
from tests.support.sandbox_kit import CHAT

ONCE = call_rules(RetryPolicy(0.5, 4, 0))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def dripping(first: bytes, drop: bytes, every_s: float) -> Iterator[str]:
    """Serve each connection `first`, then a drop now and then, until the client goes; yield the address."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65_536)
                connection.sendall(first)
                while not over.wait(every_s):
                    connection.sendall(drop)
            except OSError:
                return

    def accept(listener: socket.socket) -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=drip, args=(connection,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        threads.append(threading.Thread(target=accept, args=(listener,)))
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@contextmanager
def connected(
    url: str, monkeypatch: pytest.MonkeyPatch, timeout_s: float, is_ending: Callable[[], bool] = lambda: False
) -> Iterator[OpenAIService]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    service = connect_service(timeout_s, ONCE, lambda _s: None, lambda: 0.0, is_ending)
    with service._client:
        yield service


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nX-Odd: ", HEAD + b"Content-Length: 9999\r\n\r\n"])
def test_a_service_that_sends_a_byte_now_and_then_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: bytes
) -> None:
    """End an exchange as a whole: each byte comes in time, in the headers or in the body."""
    acts: list[Act] = [
        lambda service: service.retrieve_batch("batch_1"),
        lambda service: service.create_batch("file-1", CHAT, {}),
        lambda service: service.download_file("file-1", tmp_path / "out.jsonl"),
    ]
    with dripping(first, b"x", 0.05) as url, connected(url, monkeypatch, 0.3) as service:
        for act in acts:
            with pytest.raises(CallUnknown, match="ReadTimeout: the answer was not complete after"):
                act(service)


@pytest.mark.parametrize("drop_s", [0.05, 30.0])
def test_ctrl_c_ends_a_look_and_lets_a_create_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, drop_s: float
) -> None:
    asked = threading.Event()
    looks: list[Act] = [
        lambda service: service.retrieve_batch("batch_1"),
        lambda service: service.list_batches(0.0),
        lambda service: service.download_file("file-1", tmp_path / "out.jsonl"),
    ]
    first = HEAD + b"Content-Length: 9999\r\n\r\n"
    with dripping(first, b"x", drop_s) as url, connected(url, monkeypatch, 20.0, asked.is_set) as service:
        for act in looks:
            timer = threading.Timer(0.1, asked.set)
            timer.start()
            with pytest.raises(CallAbandoned):
                act(service)
            timer.join()
            asked.clear()
        assert not list(tmp_path.iterdir())
    with dripping(first, b"x", drop_s) as url, connected(url, monkeypatch, 0.3, lambda: True) as service:
        with pytest.raises(CallUnknown, match="timed out"):  # it may be done, so it is told that nobody knows
            service.create_batch("file-1", CHAT, {})
        with pytest.raises(CallUnknown):
            service.delete_file("file-1")


def test_the_time_of_an_exchange_grows_with_its_bytes() -> None:
    now = 0.0
    exchange = Exchange(10.0, most_bytes=50_000, clock=lambda: now)
    now = 9.0
    assert exchange.check_end(TimeoutError) == pytest.approx(1.0)
    exchange.count_bytes(20_000)
    assert exchange.check_end(TimeoutError) == pytest.approx(1.0 + 20_000 / SLOWEST_BYTES_S)
    exchange.count_bytes(10**12)  # beyond the bound no byte buys time
    now = 10.0 + 50_000 / SLOWEST_BYTES_S
    with pytest.raises(TimeoutError):
        exchange.check_end(TimeoutError)


def test_an_ending_process_asks_nothing_more_than_once() -> None:
    """Raise what failed rather than try it again, and begin no look."""
    client, slept = scripted([])[0]._client, list[float]()
    calls: list[str] = []
    looks: list[Act] = [lambda s: s.list_batches(0), lambda s: s.find_files("x"), lambda s: s.check_access()]
    changes: list[Act] = [lambda s: s.delete_file("file-1"), lambda s: s.cancel_batch("batch_1")]

    def respond(request: httpx2.Request) -> httpx2.Response:
        calls.append(request.method)
        return answer(503, BUSY).made()

    with BoundedClient(transport=httpx2.MockTransport(respond)) as http:
        ending = OpenAIService(client.with_options(http_client=http), QUICK, slept.append, lambda: 0.0, lambda: True)
        for look in looks:
            with pytest.raises(CallAbandoned):
                look(ending)
        assert calls == []
        for change in changes:
            with pytest.raises(CallUnknown):
                change(ending)
    assert calls == ["DELETE", "POST"] and slept == []


BOMB = gzip.compress(b" " * (80 * MEGABYTE), 1)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """Count bytes as they are unpacked: a few hundred kilobytes of gzip hold many megabytes of blanks."""
    assert len(BOMB) < MEGABYTE
    acts: list[Act] = [lambda service: service.list_batches(0.0), lambda service: service.create_batch("f", CHAT, {})]
    for act in acts:
        for status in (200, 400):
            service, _ = scripted([answer(status, BOMB, content_encoding="gzip")] * 4)
            with pytest.raises(CallUnknown, match="longer than"):
                act(service)
    service, slept = scripted([answer(200, BOMB, content_encoding="gzip")])
    with pytest.raises(CallUnknown, match="the file is longer than 1,000,000 bytes"):
        service.download_file("file-1", tmp_path / "out.jsonl", 1_000_000)
    assert not slept and not list(tmp_path.iterdir())  # it would be no shorter at once


Seen = list[httpx2.Request]


def redirected(answers: Sequence[tuple[int, str]]) -> tuple[Service, Seen]:
    """Return our service, which is sent on as the answers say, and the requests that were made."""
    left, seen = iter(answers), Seen()

    def respond(request: httpx2.Request) -> httpx2.Response:
        request.read()
        seen.append(request)
        step = next(left, None)
        if step is None:
            return page([1], has_more=False).made()
        return httpx2.Response(step[0], headers={"location": step[1]})

    client = openai.OpenAI(
        api_key=KEY,
        base_url="http://sandbox/v1",
        default_headers={"api-key": "a-key-of-another-name", "X-Project": "p"},
        http_client=BoundedClient(transport=httpx2.MockTransport(respond)),
    )
    return OpenAIService(client, ONCE, lambda _s: None, lambda: 0.0), seen


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["http://elsewhere/v1/batches", "http://sandbox/v2/batches"])
def test_what_is_sent_goes_nowhere_else(tmp_path: Path, status: int, where: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"prompt": "mine"}\n')
    acts: list[Act] = [
        lambda service: service.create_batch("file-1", CHAT, {}),
        lambda service: service.upload_file(path, "in.jsonl"),
        lambda service: service.request_completion(CHAT, {"prompt": "mine"}),
        lambda service: service.cancel_batch("batch_1"),
    ]
    for act in acts:
        service, seen = redirected([(status, where)] * 9)
        with pytest.raises(CallRefused, match=rf"redirect \({status}\), which is not followed"):
            act(service)
        assert [request.url.host for request in seen] == ["sandbox"]


def test_a_call_by_flex_processing_has_15_minutes() -> None:
    service, seen = redirected([])
    service.request_completion(CHAT, {"prompt": "mine"})
    service.request_completion(CHAT, {"prompt": "mine", "service_tier": "flex"})
    usual, patient = (request.extensions["timeout"] for request in seen)
    assert (patient["read"], patient["connect"]) == (900.0, 30.0) and usual["read"] < 900.0


def test_a_look_is_redirected_without_a_key(tmp_path: Path) -> None:
    """Follow it as OpenAI's clients do: some services keep result files elsewhere."""
    service, seen = redirected([(302, "http://elsewhere/a?sig=1"), (307, "http://sandbox/v1/b")])
    assert len(service.list_batches(0.0).batches) == 1
    assert [str(request.url) for request in seen[1:]] == ["http://elsewhere/a?sig=1", "http://sandbox/v1/b"]
    for request in seen[1:]:  # what comes back from elsewhere has been there
        assert not {"authorization", "api-key", "x-project"} & set(request.headers)
    assert "api-key" in seen[0].headers
    service, _ = redirected([(302, "http://elsewhere/a?sig=1")])
    service.download_file("file-1", tmp_path / "out.jsonl")
    assert b"batch_1" in (tmp_path / "out.jsonl").read_bytes()
    service, seen = redirected([(302, "/v1/there")])
    service.list_batches(0.0)
    assert seen[1].headers["api-key"] == "a-key-of-another-name"


def test_a_look_that_is_sent_in_a_circle_ends() -> None:
    service, seen = redirected([(302, "http://sandbox/v1/batches")] * 99)
    with pytest.raises(CallRefused):
        service.list_batches(0.0)
    assert len(seen) == http_client.MOST_REDIRECTS + 1


def test_the_direct_lane_needs_no_batches() -> None:
    for status in (200, 403, 404, 405, 501):
        scripted([answer(status, {"error": {"message": "File Not Found"}})] * 4)[0].check_key()
        scripted([answer(status, b"<html>")] * 4)[0].check_key()
    with pytest.raises(CallRefused):
        scripted([answer(401, {"error": {"message": "who?"}})])[0].check_key()
    with pytest.raises(CallUnknown):
        scripted([answer(503, BUSY)] * 4)[0].check_key()


def test_a_result_file_is_as_long_as_a_batch_can_be() -> None:
    """Leave room for every answer that could be paid for, and none for a file without an end."""
    for lines, tokens in ((0, 600), (20, 600), (50_000, 16_000), (10**9, 128_000)):
        most = longest_result_bytes(lines, tokens)
        assert most >= min(lines, 50_000) * (tokens * 12 * 5 + 100_000) and most <= longest_result_bytes(50_000, tokens)
    assert longest_result_bytes(20, 600) < 500_000_000
