"""Our service over the real client: against the sandbox in memory and over loopback, and against scripted answers."""

import gzip
import json
import string
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from batcher.api import CallError, CallRefused, CallUnknown, OpenAIService, Service, connect
from batcher.errors import SetupError
from batcher.model import RemoteBatch
from batcher.retry import Policy, Trouble
from batcher.sandbox import Sandbox, SandboxSettings
from batcher.sandbox.app import running_sandbox
from batcher.sandbox.transport import SandboxTransport
from tests.sandbox_kit import CHAT, DAY, START, encoded, lines

QUICK = Policy(0.5, 4, 3)
PAUSES = [0.5, 1.0, 2.0]
KEY = "sk-" + string.ascii_lowercase + string.digits  # of a key's shape, so that hiding it is tested
MEGABYTE = 1 << 20
FIXED = SandboxSettings(validating_s=(10, 10), service_s=(1000, 1000), finalizing_s=(10, 10), cancelling_s=(10, 10))
ENDED = 1020.0


class Rig:
    """A sandbox with a hand-moved clock and our service before it; `calls` counts what the client sends."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.folder = folder
        self.sandbox = Sandbox(FIXED, folder / "sandbox", lambda: self.now)
        self.slept: list[float] = []
        self.calls: Counter[str] = Counter()

    def attach(self, http: httpx2.Client, url: str, key: str = KEY) -> None:
        # The client's own retries stay at their default: the service must turn them off.
        self.client = openai.OpenAI(api_key=key, base_url=url, http_client=http)
        self.service = OpenAIService(self.client, QUICK, self.slept.append, lambda: 0.0)

    def count(self, request: httpx2.Request) -> None:
        parts = [part for part in request.url.path.split("/") if not part.startswith(("v1", "file-", "batch_"))]
        self.calls[f"{request.method} {'/'.join(parts).strip('/')}"] += 1

    def fault(self, **changes: object) -> None:
        self.sandbox.set_faults(changes)

    def path(self, count: int = 3) -> Path:
        path = self.folder / "shard.jsonl"
        path.write_bytes(encoded(lines(count)))
        return path

    def batch(self, count: int = 3) -> RemoteBatch:
        return self.service.create(self.service.upload(self.path(count), "in.jsonl").file_id, CHAT, {})

    def batches(self) -> int:
        return len(self.sandbox.lifecycle.batches)

    def files(self) -> int:
        return len(self.sandbox.files.visible("batch", self.now, newest_first=False))


@contextmanager
def attached(kind: str, folder: Path, key: str = KEY) -> Iterator[Rig]:
    rig = Rig(folder)
    hooks: Any = {"request": [rig.count]}
    if kind == "memory":
        with httpx2.Client(transport=SandboxTransport(rig.sandbox), event_hooks=hooks) as http:
            rig.attach(http, "http://sandbox/v1", key)
            yield rig
        return
    with running_sandbox(rig.sandbox) as url, httpx2.Client(event_hooks=hooks, trust_env=False) as http:
        rig.attach(http, url, key)
        yield rig


@pytest.fixture(params=["memory", "loopback"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rig(kind: str, tmp_path: Path) -> Iterator[Rig]:
    with attached(kind, tmp_path) as found:
        yield found


# --- what each call does ----------------------------------------------------------------------------------------------


def test_the_service_is_one(rig: Rig) -> None:
    service: Service = rig.service
    service.check()
    assert rig.calls == {"GET batches": 1}


def test_an_upload_keeps_its_name_its_bytes_and_its_life(rig: Rig) -> None:
    path = rig.path()
    file = rig.service.upload(path, "batcher-run-shard-00001.jsonl")
    stored = rig.sandbox.files.get(file.file_id, rig.now)
    assert (file.name, file.created_at) == ("batcher-run-shard-00001.jsonl", START)
    assert (stored.filename, stored.purpose, stored.expires_at) == (file.name, "batch", START + 30 * DAY)
    assert stored.path.read_bytes() == path.read_bytes()


def test_files_are_streamed_both_ways(rig: Rig) -> None:
    path = rig.path(1)
    with path.open("ab") as file:
        for _ in range(24):
            file.write(b'{"x": "' + b"y" * (MEGABYTE - 10) + b'"}\n')
    tracemalloc.start()
    try:
        uploaded = rig.service.upload(path, "large.jsonl")
        rig.service.download(uploaded.file_id, rig.folder / "back.jsonl")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 24 * MEGABYTE
    assert (rig.folder / "back.jsonl").stat().st_size == path.stat().st_size
    assert peak < 12 * MEGABYTE


def test_a_batch_is_created_with_its_metadata(rig: Rig) -> None:
    file = rig.service.upload(rig.path(), "in.jsonl")
    asked = {"batcher_run": "r" * 32, "batcher_submission": "7"}
    batch = rig.service.create(file.file_id, CHAT, asked)
    wish = rig.sandbox.batch(batch.batch_id).wish
    assert (wish.metadata, wish.endpoint, wish.output_life_s) == (asked, CHAT, 30 * DAY)
    assert batch == RemoteBatch(
        batch.batch_id, "validating", START, file.file_id, expires_at=START + DAY, metadata=asked
    )


def test_a_batch_is_told_with_its_counts_and_times(rig: Rig) -> None:
    batch = rig.batch()
    rig.now += ENDED
    found = rig.service.retrieve(batch.batch_id)
    assert found is not None and found.output_file_id and found.error_file_id is None
    assert (found.status, found.finished_at) == ("completed", START + ENDED)
    assert (found.total, found.completed, found.failed) == (3, 3, 0)
    assert found.usage is not None and found.usage[0] > 0 and found.usage[2] > 0


def test_the_errors_of_a_batch_are_told(rig: Rig) -> None:
    rig.fault(fail_batches={"1": "token_limit_exceeded"})
    batch = rig.batch()
    rig.now += ENDED
    found = rig.service.retrieve(batch.batch_id)
    assert found is not None and found.status == "failed" and found.finished_at
    (error,) = found.errors
    assert error.code == "token_limit_exceeded" and "enqueued tokens" in error.message and error.line is None


def test_what_is_unknown_is_none(rig: Rig) -> None:
    assert rig.service.retrieve("batch_nobody") is None
    assert rig.service.cancel("batch_nobody") is None
    assert not rig.slept


def test_a_listing_goes_back_to_a_time_and_no_further(rig: Rig) -> None:
    file = rig.service.upload(rig.path(1), "in.jsonl")
    made = []
    for _ in range(230):
        made.append(rig.service.create(file.file_id, CHAT, {}).batch_id)
        rig.now += 1
    made.reverse()
    rig.calls.clear()
    for newest, pages in ((50, 1), (99, 1), (120, 2), (229, 3), (230, 3)):
        listing = rig.service.list_batches(rig.now - newest)
        assert [batch.batch_id for batch in listing.batches] == made[:newest]
        assert listing.server_time == rig.now
        assert rig.calls.pop("GET batches") == pages
    assert len(rig.service.list_batches(0).batches) == 230


def test_a_listing_of_nothing_is_empty(rig: Rig) -> None:
    listing = rig.service.list_batches(0)
    assert (listing.batches, listing.server_time) == ((), START)


def test_a_batch_is_cancelled_and_one_that_ended_is_told_as_it_is(rig: Rig) -> None:
    running, ended = rig.batch(), rig.batch()
    cancelled = rig.service.cancel(running.batch_id)
    assert cancelled is not None and cancelled.status == "cancelling"
    rig.now += ENDED
    told = rig.service.cancel(ended.batch_id)
    assert told is not None and told.status == "completed" and told.output_file_id
    assert rig.calls["POST batches/cancel"] == 2 and not rig.slept


def test_a_download_is_exact_and_replaces_what_was_there(rig: Rig) -> None:
    path = rig.path(50)
    file = rig.service.upload(path, "in.jsonl")
    target = rig.folder / "results" / "out.jsonl"
    rig.service.download(file.file_id, target)
    assert target.read_bytes() == path.read_bytes()
    rig.path(2)
    rig.service.download(rig.service.upload(path, "in.jsonl").file_id, target)
    assert target.read_bytes() == path.read_bytes()
    assert [each.name for each in target.parent.iterdir()] == ["out.jsonl"]


def test_a_download_that_breaks_off_leaves_what_was_there(rig: Rig) -> None:
    file = rig.service.upload(rig.path(50), "in.jsonl")
    target = rig.folder / "results" / "out.jsonl"
    target.parent.mkdir()
    target.write_bytes(b"before")
    rig.fault(truncate_download=1.0)
    with pytest.raises(CallUnknown):
        rig.service.download(file.file_id, target)
    assert rig.slept == PAUSES and rig.calls["GET files/content"] == 4
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(CallRefused) as missing:
        rig.service.download("file-nobody", target)
    assert missing.value.trouble.status == 404 and rig.slept == PAUSES


def test_a_download_passes_after_a_broken_try(rig: Rig) -> None:
    file = rig.service.upload(rig.path(50), "in.jsonl")
    rig.fault(truncate_download=0.5)
    for number in range(5):
        rig.service.download(file.file_id, rig.folder / f"{number}.jsonl")
        assert (rig.folder / f"{number}.jsonl").read_bytes() == rig.path(50).read_bytes()
    assert rig.slept


def test_a_file_that_is_gone_counts_as_deleted(rig: Rig) -> None:
    file = rig.service.upload(rig.path(), "in.jsonl")
    rig.service.delete(file.file_id)
    rig.service.delete(file.file_id)
    assert rig.files() == 0 and rig.calls["DELETE files"] == 2 and not rig.slept


def test_files_are_found_by_their_whole_name(rig: Rig) -> None:
    path = rig.path()
    mine = [rig.service.upload(path, "batcher-run-shard-1.jsonl") for _ in range(2)]
    rig.service.upload(path, "batcher-run-shard-11.jsonl")
    found = rig.service.find_files("batcher-run-shard-1.jsonl")
    assert sorted(file.file_id for file in found) == sorted(file.file_id for file in mine)
    assert rig.service.find_files("batcher-run-shard") == []


# --- answers that do not come -----------------------------------------------------------------------------------------

Faults = Mapping[str, object]
lost_or_refused = pytest.mark.parametrize("fault", ["lose_answer", "reset_before", "refuse_before"])


def arrived(rig: Rig) -> int:
    """How many requests reached the sandbox so far (the question counts as one)."""
    return rig.sandbox.next_number()


def once(rig: Rig, act: Callable[[], object]) -> CallUnknown:
    before = arrived(rig)
    with pytest.raises(CallUnknown) as error:
        act()
    assert arrived(rig) - before == 2  # one request, and the question itself
    assert not rig.slept
    return error.value


@lost_or_refused
def test_an_upload_is_sent_once_whatever_happens(rig: Rig, fault: str) -> None:
    path = rig.path()
    rig.fault(**{fault: {"upload": 1.0}})
    error = once(rig, lambda: rig.service.upload(path, "in.jsonl"))
    assert rig.files() == (fault == "lose_answer") and rig.calls == {"POST files": 1}
    assert error.trouble.status == (503 if fault == "refuse_before" else None)
    assert len(rig.service.find_files("in.jsonl")) == rig.files()  # the orphan is found


@lost_or_refused
def test_a_create_is_sent_once_whatever_happens(rig: Rig, fault: str) -> None:
    file = rig.service.upload(rig.path(), "in.jsonl")
    for number in range(1, 5):  # a lost answer shows as a time-out, and as a closed connection
        rig.fault(**{fault: {"create": 1.0}})
        once(rig, lambda: rig.service.create(file.file_id, CHAT, {"batcher_submission": "7"}))
        assert rig.batches() == (number if fault == "lose_answer" else 0)
    rig.fault(**{fault: {}})
    assert rig.calls["POST batches"] == 4
    assert all(b.metadata["batcher_submission"] == "7" for b in rig.service.list_batches(START).batches)


def test_a_slow_answer_to_a_create_is_not_waited_for_again(rig: Rig) -> None:
    file = rig.service.upload(rig.path(), "in.jsonl")
    impatient = OpenAIService(rig.client.with_options(timeout=0.05), QUICK, rig.slept.append, lambda: 0.0)
    rig.fault(slow_s=0.3)
    error = once(rig, lambda: impatient.create(file.file_id, CHAT, {}))
    assert "Timeout" in str(error) or "timed out" in str(error)
    assert rig.batches() == 1


@lost_or_refused
@pytest.mark.parametrize("operation", ["list", "retrieve", "cancel", "delete", "content"])
def test_a_free_call_is_repeated_quickly(rig: Rig, fault: str, operation: str) -> None:
    batch = rig.batch()
    target = rig.folder / "out.jsonl"
    acts: dict[str, Callable[[], object]] = {
        "list": lambda: rig.service.list_batches(0),
        "retrieve": lambda: rig.service.retrieve(batch.batch_id),
        "cancel": lambda: rig.service.cancel(batch.batch_id),
        "delete": lambda: rig.service.delete(batch.input_file_id),
        "content": lambda: rig.service.download(batch.input_file_id, target),
    }
    rig.fault(**{fault: {operation: 1.0}})
    before = arrived(rig)
    with pytest.raises(CallUnknown):
        acts[operation]()
    assert arrived(rig) - before == 5 and rig.slept == PAUSES
    assert not target.exists()
    rig.fault(**{fault: {}})
    acts[operation]()
    assert rig.slept == PAUSES


def test_an_outage_that_passes_goes_unnoticed(rig: Rig) -> None:
    batch = rig.batch()
    rig.fault(outage_between=[START, START + 2])

    def sleep(seconds: float) -> None:
        rig.slept.append(seconds)
        rig.now += seconds

    service = OpenAIService(rig.client, QUICK, sleep, lambda: 0.0)
    assert service.retrieve(batch.batch_id) is not None
    assert rig.slept == PAUSES


def test_jitter_shortens_the_pauses(rig: Rig) -> None:
    rig.fault(refuse_before={"list": 1.0})
    with pytest.raises(CallUnknown):
        OpenAIService(rig.client, QUICK, rig.slept.append, lambda: 0.5).check()
    assert rig.slept == [pytest.approx(0.95 * pause) for pause in PAUSES]


def test_a_policy_without_tries_asks_once(rig: Rig) -> None:
    rig.fault(refuse_before={"list": 1.0})
    for policy in (Policy(0.5, 4, 0), Policy(0.5, 4, None)):
        with pytest.raises(CallUnknown):
            OpenAIService(rig.client, policy, rig.slept.append, lambda: 0.0).check()
    assert not rig.slept and rig.calls == {"GET batches": 2}


# --- secrets ----------------------------------------------------------------------------------------------------------


def hidden(error: CallError, key: str) -> bool:
    """Whether no piece of the key stands in what we say of an error."""
    said = str(error) + repr(error.trouble) + repr(error.args)
    return not any(key[at : at + 4] in said for at in range(3, len(key) - 3))


def test_a_wrong_key_is_refused_and_not_quoted(rig: Rig) -> None:
    rig.sandbox.set_limits({"api_key": "sk-the-right-one"})
    with pytest.raises(CallRefused, match="Incorrect API key provided") as error:
        rig.service.check()
    assert error.value.trouble.status == 401 and error.value.trouble.code == "invalid_api_key"
    assert hidden(error.value, KEY) and not rig.slept


def test_a_key_that_no_header_takes_is_not_quoted(tmp_path: Path) -> None:
    for key in (KEY + "\n", "plain-0123456789-secret\n"):
        with attached("loopback", tmp_path, key) as rig, pytest.raises(CallUnknown) as error:
            rig.service.check()
        assert hidden(error.value, key.strip())


@pytest.mark.parametrize("key", [KEY, "gsk_0123456789abcdefghijklmnop", "0123456789abcdef"])
def test_an_echoed_key_is_not_quoted(key: str) -> None:
    for text in (f"Incorrect key: {key}.", f"header 'Authorization: Bearer {key}' refused"):
        service, _ = scripted([answer(401, {"error": {"message": text, "type": None, "code": None}})], key)
        with pytest.raises(CallRefused) as error:
            service.check()
        assert hidden(error.value, key)


# --- scripted answers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """An answer of a script; its body is streamed, as from a socket."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def made(self) -> httpx2.Response:
        return httpx2.Response(self.status, headers=self.headers, stream=httpx2.ByteStream(self.content))


def answer(status: int, body: object, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, bytes):
        return Answer(status, named, body)
    return Answer(status, {"content-type": "application/json", **named}, json.dumps(body).encode())


Scripted = tuple[OpenAIService, list[float]]
Act = Callable[[Service], object]


def scripted(answers: Sequence[Answer], key: str = KEY, jitter: float = 0.0) -> Scripted:
    """Our service before a script; a request beyond its end fails the test."""
    left = iter(answers)
    transport = httpx2.MockTransport(lambda request: next(left).made())
    client = openai.OpenAI(
        api_key=key, base_url="http://sandbox/v1", http_client=httpx2.Client(transport=transport), max_retries=2
    )
    slept: list[float] = []
    return OpenAIService(client, QUICK, slept.append, lambda: jitter), slept


def refusal(message: str = "no", code: object = None, kind: object = None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def told(**fields: object) -> dict[str, object]:
    """A batch as little as it may be told."""
    return {"id": "batch_1", "object": "batch", "created_at": 1_795_000_000, "status": "in_progress", **fields}


SERVER_DATE = formatdate(START, usegmt=True)
LATER = formatdate(START + 7, usegmt=True)
BUSY = refusal("slow down", "rate_limit_exceeded", "requests")


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "expected", "wait"),
    [
        (400, refusal("bad", "invalid_value", "invalid_request_error"), {}, CallRefused,
         Trouble(400, "invalid_value", "invalid_request_error", "bad"), None),
        (400, refusal("bad", 17, ["x"]), {}, CallRefused, Trouble(400, "17", "['x']", "bad"), None),
        (401, refusal("who?", "invalid_api_key"), {}, CallRefused, Trouble(401, "invalid_api_key", "", "who?"), None),
        (403, refusal("not you"), {}, CallRefused, Trouble(403, "", "", "not you"), None),
        (404, refusal("No batch found"), {}, CallRefused, Trouble(404, "", "", "No batch found"), None),
        (404, b"<html>\n no such page", {}, CallUnknown,
         Trouble(404, "", "", "Error code: 404: <html> no such page"), None),
        (408, refusal("late"), {}, CallUnknown, Trouble(408, "", "", "late"), None),
        (409, refusal("conflict"), {}, CallRefused, Trouble(409, "", "", "conflict"), None),
        (413, b"too large", {}, CallRefused, Trouble(413, "", "", "Error code: 413: too large"), None),
        (422, refusal("m" * 900), {}, CallRefused, Trouble(422, "", "", "m" * 500), None),
        (429, BUSY, {}, CallRefused, Trouble(429, "rate_limit_exceeded", "requests", "slow down"), None),
        (429, BUSY, {"retry_after": "30"}, CallRefused,
         Trouble(429, "rate_limit_exceeded", "requests", "slow down"), 30.0),
        (429, BUSY, {"retry_after": "1", "retry_after_ms": "25500"}, CallRefused,
         Trouble(429, "rate_limit_exceeded", "requests", "slow down"), 25.5),
        (500, refusal("oh", "server_error", "server_error"), {}, CallUnknown,
         Trouble(500, "server_error", "server_error", "oh"), None),
        (502, b"", {}, CallUnknown, Trouble(502, "", "", "Error code: 502"), None),
        (503, {"error": "overloaded"}, {"retry_after": "600"}, CallUnknown,
         Trouble(503, "", "", "Error code: 503: overloaded"), 600.0),
        (504, ["odd"], {"retry_after": "soon"}, CallUnknown, Trouble(504, "", "", "Error code: 504: ['odd']"), None),
        (599, refusal("odd"), {"retry_after": "-4"}, CallUnknown, Trouble(599, "", "", "odd"), None),
        (503, refusal("till then"), {"retry_after": LATER, "date": SERVER_DATE}, CallUnknown,
         Trouble(503, "", "", "till then"), 7.0),
        (503, refusal("long ago"), {"retry_after": SERVER_DATE, "date": LATER}, CallUnknown,
         Trouble(503, "", "", "long ago"), None),
        (503, refusal("no date"), {"retry_after": LATER}, CallUnknown, Trouble(503, "", "", "no date"), None),
        (503, refusal("odd date"), {"retry_after": LATER, "date": "noon"}, CallUnknown,
         Trouble(503, "", "", "odd date"), None),
        (503, refusal("at once"), {"retry_after": "0"}, CallUnknown, Trouble(503, "", "", "at once"), None),
    ],
)  # fmt: skip
def test_errors_become_ours(
    status: int, body: object, headers: dict[str, str], kind: type[CallError], expected: Trouble, wait: float | None
) -> None:
    service, slept = scripted([answer(status, body, **headers)])
    with pytest.raises(CallError) as error:
        service.create("file-1", CHAT, {})
    assert (type(error.value), error.value.trouble, error.value.wait_s) == (kind, expected, wait)
    assert str(error.value) == expected.message and not slept


def test_retry_after_wins_over_our_own_pauses() -> None:
    busy = [answer(429, BUSY, retry_after="20"), answer(503, BUSY, retry_after_ms="100"), answer(500, BUSY)]
    service, slept = scripted([*busy, answer(200, told())])
    assert service.retrieve("batch_1") is not None
    assert slept == [20.0, 0.1, 2.0]


def test_retry_after_is_spread_over_five_seconds() -> None:
    service, slept = scripted([answer(429, BUSY, retry_after="20"), answer(200, told())], jitter=0.5)
    assert service.retrieve("batch_1") is not None
    assert slept == [22.5]


@pytest.mark.parametrize("seconds", [21, 121, 86_400])
def test_a_long_retry_after_is_the_caller_s_to_wait_for(seconds: int) -> None:
    service, slept = scripted([answer(503, BUSY, retry_after=str(seconds))])
    with pytest.raises(CallUnknown) as error:
        service.check()
    assert error.value.wait_s == seconds and not slept


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached"])
def test_an_account_without_money_is_not_asked_again(code: str) -> None:
    service, slept = scripted([answer(429, refusal("You exceeded your current quota", code, code))])
    with pytest.raises(CallRefused) as error:
        service.check()
    assert error.value.trouble.code == code and not slept


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_refusal_is_not_asked_again(status: int) -> None:
    service, slept = scripted([answer(status, refusal())])
    with pytest.raises(CallRefused):
        service.check()
    assert not slept


def test_a_wrong_address_is_no_batch_that_is_gone() -> None:
    """Each would else give up a batch that runs, or forget a file that is there."""
    wrong = refusal("Invalid URL (GET /v2/batches/batch_1)", None, "invalid_request_error")
    acts: tuple[Act, ...] = (
        lambda service: service.retrieve("batch_1"),
        lambda service: service.cancel("batch_1"),
        lambda service: service.delete("file-1"),
    )
    for act in acts:
        with pytest.raises(CallRefused):
            act(scripted([answer(404, wrong)])[0])
        service, slept = scripted([answer(404, b"<html>not found</html>")] * 4)
        with pytest.raises(CallUnknown):
            act(service)
        assert slept == PAUSES


def test_a_batch_that_ended_and_is_gone_when_it_is_cancelled() -> None:
    service, _ = scripted([answer(409, refusal("Cannot cancel")), answer(404, refusal("No batch found"))])
    assert service.cancel("batch_1") is None


# --- odd shapes -------------------------------------------------------------------------------------------------------


def read(**fields: object) -> RemoteBatch:
    found = scripted([answer(200, told(**fields))])[0].retrieve("batch_1")
    assert found is not None
    return found


def test_missing_fields_count_as_nothing() -> None:
    assert read() == RemoteBatch("batch_1", "in_progress", 1_795_000_000.0, "")
    assert read(status=None).status == ""
    assert read(status="COMPLETED").status == "completed"  # as compatible services write it


def test_empty_ids_count_as_unset() -> None:
    found = read(output_file_id="", error_file_id="")
    assert found.output_file_id is None and found.error_file_id is None
    assert read(error_file_id="file-2").error_file_id == "file-2"


@pytest.mark.parametrize("status", ["completed", "paused_by_owner"])
def test_statuses_pass_through(status: str) -> None:
    assert read(status=status, something_new={"a": [1]}).status == status


@pytest.mark.parametrize("stamp", ["completed_at", "failed_at", "expired_at", "cancelled_at"])
def test_each_end_has_its_time(stamp: str) -> None:
    assert read(**{stamp: 1_795_000_500}).finished_at == 1_795_000_500.0
    assert read(cancelling_at=1_795_000_500, finalizing_at=1_795_000_400).finished_at is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ({"input_tokens": 5, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 3}, (5, 2, 3)),
        ({"input_tokens": 5, "output_tokens": 3, "prompt_tokens": 0}, (5, 0, 3)),
        ({"input_tokens": 5, "input_tokens_details": None}, (5, 0, 0)),
        ({"input_tokens": "5"}, (0, 0, 0)),
    ],
)
def test_usage_may_lack_parts(usage: object, expected: object) -> None:
    assert read(usage=usage).usage == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [(None, (0, 0, 0)), ({}, (0, 0, 0)), ({"total": 5, "completed": 4}, (5, 4, 0)), ({"total": None}, (0, 0, 0))],
)
def test_counts_may_lack_parts(counts: object, expected: object) -> None:
    found = read(request_counts=counts)
    assert (found.total, found.completed, found.failed) == expected


def test_errors_may_lack_parts() -> None:
    assert read(errors={"object": "list", "data": None}).errors == ()
    assert read(errors={"object": "list"}).errors == ()
    found = read(errors={"data": [{}, {"code": "x", "line": 3, "message": None}, {"message": "m", "line": "third"}]})
    assert found.errors == (Trouble(), Trouble(code="x", line=3), Trouble(message="m"))


def test_metadata_may_be_anything() -> None:
    assert read(metadata=None).metadata == {}
    assert read(metadata={"a": "b", "n": 5}).metadata == {"a": "b", "n": "5"}
    assert read(metadata=["a"]).metadata == {}


UNREADABLE = [
    answer(200, b"<html>Sign in to the network</html>", content_type="text/html"),
    answer(200, b'{"id": "batch_1", "crea', content_type="application/json"),
    answer(200, b"\xff\xfe{}", content_type="application/json"),
    answer(200, {}),
    answer(200, []),
    answer(200, None),
    answer(200, {"id": ""}),
]


@pytest.mark.parametrize("odd", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_none(odd: Answer, tmp_path: Path) -> None:
    """A 200 from a proxy, or half of one, says nothing of what was done; above all not that a batch is absent."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    paid: tuple[Act, ...] = (
        lambda service: service.create("file-1", CHAT, {}),
        lambda service: service.upload(path, "in.jsonl"),
    )
    free: tuple[Act, ...] = (lambda service: service.retrieve("batch_1"), lambda service: service.list_batches(0))
    for act in paid:
        service, slept = scripted([odd])
        with pytest.raises(CallUnknown, match="not what the API sends"):
            act(service)
        assert not slept
    for act in free:
        service, slept = scripted([odd] * 4)
        with pytest.raises(CallUnknown, match="not what the API sends"):
            act(service)
        assert slept == PAUSES


def test_a_batch_without_its_time_could_not_be_placed() -> None:
    service, _ = scripted([answer(200, told(created_at=None))])
    with pytest.raises(CallUnknown):
        service.create("file-1", CHAT, {})


def page(ids: Sequence[int], **more: object) -> Answer:
    """A page of batches whose number is their age in seconds."""
    data = [told(id=f"batch_{number}", created_at=1_795_000_000 - number) for number in ids]
    return answer(200, {"object": "list", "data": data, **more}, date=SERVER_DATE)


def listed(answers: Sequence[Answer], back_to: float = 0.0) -> list[str]:
    return [batch.batch_id for batch in scripted(answers)[0].list_batches(back_to).batches]


def test_a_listing_whose_order_is_unknown_is_read_to_its_end() -> None:
    oldest_first = [page([9, 8], has_more=True), page([7, 1], has_more=False)]
    assert listed(oldest_first, START - 2) == ["batch_1"]


def test_a_listing_that_does_not_say_whether_it_goes_on() -> None:
    assert listed([page([1, 2])]) == ["batch_1", "batch_2"]
    full = page(range(100))
    assert len(listed([full, page([100])])) == 101
    assert len(listed([full, page([])])) == 100


@pytest.mark.parametrize("second", [page([1, 2], has_more=True), page([], has_more=True)])
def test_a_listing_that_does_not_go_on_proves_no_absence(second: Answer) -> None:
    with pytest.raises(CallUnknown, match="does not go on"):
        listed([page([1, 2], has_more=True), second])


def test_a_listing_broken_off_proves_no_absence() -> None:
    service, slept = scripted([page([1, 2], has_more=True), *[answer(503, BUSY)] * 4])
    with pytest.raises(CallUnknown):
        service.list_batches(0)
    assert slept == PAUSES


def test_a_listing_without_a_date_has_no_time() -> None:
    for headers in ({}, {"date": "yesterday"}):
        service, _ = scripted([answer(200, {"object": "list", "data": [], "has_more": False}, **headers)])
        assert service.list_batches(0).server_time == 0.0


@pytest.mark.parametrize("coded", [False, True])
def test_the_length_of_a_download_is_that_on_the_wire(coded: bool, tmp_path: Path) -> None:
    text = b'{"custom_id": "a"}\n' * 100
    body = gzip.compress(text) if coded else text
    coding = {"content_encoding": "gzip"} if coded else {}
    target = tmp_path / "out.jsonl"
    scripted([answer(200, body, content_length=str(len(body)), **coding)])[0].download("file-1", target)
    assert target.read_bytes() == text
    target.unlink()
    for length in (len(body) + 1, len(body) - 1):
        cut = answer(200, body, content_length=str(length), **coding)
        service, slept = scripted([cut] * 4)
        with pytest.raises(CallUnknown, match=f"{len(body):,} of {length:,} bytes came"):
            service.download("file-1", target)
        assert slept == PAUSES and not list(tmp_path.iterdir())
    scripted([answer(200, body, content_length="many", **coding)])[0].download("file-1", target)
    assert target.read_bytes() == text


# --- connecting -------------------------------------------------------------------------------------------------------


def connected(monkeypatch: pytest.MonkeyPatch, key: str | None, url: str | None = None) -> OpenAIService:
    for name, value in (("OPENAI_API_KEY", key), ("OPENAI_BASE_URL", url)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    slept: list[float] = []
    return connect(5, QUICK, slept.append, lambda: 0.0)


def test_the_environment_names_key_and_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with running_sandbox(Sandbox(FIXED, tmp_path, lambda: START)) as url:
        service = connected(monkeypatch, KEY, url)
        service.check()
        service._client.close()


@pytest.mark.parametrize("key", [None, "", KEY + "\n", " " + KEY, KEY + "\r", "sk-abc def", "sk-äbc", "sk-\x00"])
def test_a_key_that_cannot_be_sent_is_told_at_once(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    if key == "sk-\x00":
        key = "sk-\x7f"  # no environment holds a NUL
    with pytest.raises(SetupError, match="OPENAI_API_KEY") as error:
        connected(monkeypatch, key)
    assert not key or key.strip() not in str(error.value)


@pytest.mark.parametrize(
    "url", ["not an address", "ftp://sandbox/v1", "sandbox/v1", "https://", "http://[::1", "http://a:port"]
)
def test_an_address_that_is_none_is_told_at_once(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(SetupError, match="OPENAI_BASE_URL"):
        connected(monkeypatch, KEY, url)
