"""Our service over the real client: against the sandbox in memory and over loopback."""

import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from batcher.commands.base import process
from batcher.core.remote import RemoteBatch
from batcher.core.retry import RetryPolicy
from batcher.errors import SetupError
from batcher.sandbox import Sandbox
from batcher.sandbox.web.server import running_sandbox
from batcher.service.connecting import connect_service
from batcher.service.openai_service import OpenAIService
from batcher.service.service import CallError, CallRefused, CallUnknown, Service
from tests.support.api_kit import (
    ENDED,
    FIXED,
    KEY,
    MEGABYTE,
    PAUSES,
    QUICK,
    Rig,
    answer,
    attached,
    call_rules,
    scripted,
)
from tests.support.sandbox_kit import CHAT, DAY, START
from tests.support.world import config_with


def test_the_service_is_one(rig: Rig) -> None:
    service: Service = rig.service
    service.check_access()
    assert rig.calls == {"GET batches": 1}


def test_an_upload_keeps_its_name_its_bytes_and_its_life(rig: Rig) -> None:
    path = rig.path()
    file = rig.service.upload_file(path, "batcher-run-shard-00001.jsonl")
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
        uploaded = rig.service.upload_file(path, "large.jsonl")
        rig.service.download_file(uploaded.file_id, rig.folder / "back.jsonl")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 24 * MEGABYTE
    assert (rig.folder / "back.jsonl").stat().st_size == path.stat().st_size
    assert peak < 12 * MEGABYTE


def test_a_batch_is_created_with_its_metadata(rig: Rig) -> None:
    file = rig.service.upload_file(rig.path(), "in.jsonl")
    asked = {"batcher_run": "r" * 32, "batcher_submission": "7"}
    batch = rig.service.create_batch(file.file_id, CHAT, asked)
    request = rig.sandbox.get_batch(batch.batch_id).request
    assert (request.metadata, request.endpoint, request.output_life_s) == (asked, CHAT, 30 * DAY)
    assert batch == RemoteBatch(
        batch.batch_id, "validating", START, file.file_id, expires_at=START + DAY, metadata=asked
    )


def test_a_batch_is_told_with_its_counts_and_times(rig: Rig) -> None:
    batch = rig.batch()
    rig.now += ENDED
    found = rig.service.retrieve_batch(batch.batch_id)
    assert found is not None and found.output_file_id and found.error_file_id is None
    assert (found.status, found.finished_at) == ("completed", START + ENDED)
    assert (found.total, found.completed, found.failed) == (3, 3, 0)
    assert found.usage is not None and found.usage[0] > 0 and found.usage[2] > 0


def test_the_errors_of_a_batch_are_told(rig: Rig) -> None:
    rig.fault(fail_batches={"1": "token_limit_exceeded"})
    batch = rig.batch()
    rig.now += ENDED
    found = rig.service.retrieve_batch(batch.batch_id)
    assert found is not None and found.status == "failed" and found.finished_at
    (error,) = found.errors
    assert error.code == "token_limit_exceeded" and "enqueued tokens" in error.message and error.line is None


def test_what_is_unknown_is_none(rig: Rig) -> None:
    assert rig.service.retrieve_batch("batch_nobody") is None
    assert rig.service.cancel_batch("batch_nobody") is None
    assert not rig.slept


def test_a_listing_goes_back_to_a_time_and_no_further(rig: Rig) -> None:
    file = rig.service.upload_file(rig.path(1), "in.jsonl")
    made = []
    for _ in range(230):
        made.append(rig.service.create_batch(file.file_id, CHAT, {}).batch_id)
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
    cancelled = rig.service.cancel_batch(running.batch_id)
    assert cancelled is not None and cancelled.status == "cancelling"
    rig.now += ENDED
    told = rig.service.cancel_batch(ended.batch_id)
    assert told is not None and told.status == "completed" and told.output_file_id
    assert rig.calls["POST batches/cancel"] == 2 and not rig.slept


def test_a_download_is_exact_and_replaces_what_was_there(rig: Rig) -> None:
    path = rig.path(50)
    file = rig.service.upload_file(path, "in.jsonl")
    target = rig.folder / "results" / "out.jsonl"
    rig.service.download_file(file.file_id, target)
    assert target.read_bytes() == path.read_bytes()
    rig.path(2)
    rig.service.download_file(rig.service.upload_file(path, "in.jsonl").file_id, target)
    assert target.read_bytes() == path.read_bytes()
    assert [each.name for each in target.parent.iterdir()] == ["out.jsonl"]


def test_a_download_that_breaks_off_leaves_what_was_there(rig: Rig) -> None:
    file = rig.service.upload_file(rig.path(50), "in.jsonl")
    target = rig.folder / "results" / "out.jsonl"
    target.parent.mkdir()
    target.write_bytes(b"before")
    rig.fault(truncate_download=1.0)
    with pytest.raises(CallUnknown):
        rig.service.download_file(file.file_id, target)
    assert rig.slept == PAUSES and rig.calls["GET files/content"] == 4
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(CallRefused) as missing:
        rig.service.download_file("file-nobody", target)
    assert missing.value.details.status == 404 and rig.slept == PAUSES


def test_a_download_passes_after_a_broken_try(rig: Rig) -> None:
    file = rig.service.upload_file(rig.path(50), "in.jsonl")
    rig.fault(truncate_download=0.5)
    for number in range(5):
        rig.service.download_file(file.file_id, rig.folder / f"{number}.jsonl")
        assert (rig.folder / f"{number}.jsonl").read_bytes() == rig.path(50).read_bytes()
    assert rig.slept


def test_a_file_that_is_gone_counts_as_deleted(rig: Rig) -> None:
    file = rig.service.upload_file(rig.path(), "in.jsonl")
    rig.service.delete_file(file.file_id)
    rig.service.delete_file(file.file_id)
    assert rig.files() == 0 and rig.calls["DELETE files"] == 2 and not rig.slept


def test_files_are_found_by_their_whole_name(rig: Rig) -> None:
    path = rig.path()
    mine = [rig.service.upload_file(path, "batcher-run-shard-1.jsonl") for _ in range(2)]
    rig.service.upload_file(path, "batcher-run-shard-11.jsonl")
    found = rig.service.find_files("batcher-run-shard-1.jsonl")
    assert sorted(file.file_id for file in found) == sorted(file.file_id for file in mine)
    assert rig.service.find_files("batcher-run-shard") == []


Faults = Mapping[str, object]
lost_or_refused = pytest.mark.parametrize("fault", ["lose_answer", "reset_before", "refuse_before"])


def arrived(rig: Rig) -> int:
    """Return how many requests have reached the sandbox, this question included."""
    return rig.sandbox.next_request_number()


def once(rig: Rig, act: Callable[[], object]) -> CallUnknown:
    before = arrived(rig)
    with pytest.raises(CallUnknown) as error:
        act()
    assert arrived(rig) - before == 2  # one request, and the call of `arrived` itself
    assert not rig.slept
    return error.value


@lost_or_refused
def test_an_upload_is_sent_once_whatever_happens(rig: Rig, fault: str) -> None:
    path = rig.path()
    rig.fault(**{fault: {"upload": 1.0}})
    error = once(rig, lambda: rig.service.upload_file(path, "in.jsonl"))
    assert rig.files() == (fault == "lose_answer") and rig.calls == {"POST files": 1}
    assert error.details.status == (503 if fault == "refuse_before" else None)
    assert len(rig.service.find_files("in.jsonl")) == rig.files()  # the orphaned file is found


@lost_or_refused
def test_a_create_is_sent_once_whatever_happens(rig: Rig, fault: str) -> None:
    file = rig.service.upload_file(rig.path(), "in.jsonl")
    for number in range(1, 5):  # a lost answer shows as a time-out, and as a closed connection
        rig.fault(**{fault: {"create": 1.0}})
        once(rig, lambda: rig.service.create_batch(file.file_id, CHAT, {"batcher_submission": "7"}))
        assert rig.batches() == (number if fault == "lose_answer" else 0)
    rig.fault(**{fault: {}})
    assert rig.calls["POST batches"] == 4
    assert all(b.metadata["batcher_submission"] == "7" for b in rig.service.list_batches(START).batches)


def test_a_slow_answer_to_a_create_is_not_waited_for_again(rig: Rig) -> None:
    file = rig.service.upload_file(rig.path(), "in.jsonl")
    impatient = OpenAIService(rig.client.with_options(timeout=0.05), QUICK, rig.slept.append, lambda: 0.0)
    rig.fault(slow_s=0.3)
    error = once(rig, lambda: impatient.create_batch(file.file_id, CHAT, {}))
    assert "Timeout" in str(error) or "timed out" in str(error)
    assert rig.batches() == 1


@lost_or_refused
@pytest.mark.parametrize("operation", ["list", "retrieve", "cancel", "delete", "content"])
def test_a_free_call_is_repeated_quickly(rig: Rig, fault: str, operation: str) -> None:
    batch = rig.batch()
    target = rig.folder / "out.jsonl"
    acts: dict[str, Callable[[], object]] = {
        "list": lambda: rig.service.list_batches(0),
        "retrieve": lambda: rig.service.retrieve_batch(batch.batch_id),
        "cancel": lambda: rig.service.cancel_batch(batch.batch_id),
        "delete": lambda: rig.service.delete_file(batch.input_file_id),
        "content": lambda: rig.service.download_file(batch.input_file_id, target),
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
    assert service.retrieve_batch(batch.batch_id) is not None
    assert rig.slept == PAUSES


def test_jitter_shortens_the_pauses(rig: Rig) -> None:
    rig.fault(refuse_before={"list": 1.0})
    with pytest.raises(CallUnknown):
        OpenAIService(rig.client, QUICK, rig.slept.append, lambda: 0.5).check_access()
    assert rig.slept == [pytest.approx(0.95 * pause) for pause in PAUSES]


def test_the_settings_say_how_much_jitter_may_take(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    config = config_with(retry={"jitter_share": 0.5, "call": {"tries": 1}})
    service = process._connect_service(config, rig.slept.append, lambda: 0.5)
    with pytest.raises(CallUnknown):
        service.check_access()
    assert rig.slept == [0.375]


def test_a_policy_without_tries_asks_once(rig: Rig) -> None:
    rig.fault(refuse_before={"list": 1.0})
    for policy in (RetryPolicy(0.5, 4, 0), RetryPolicy(0.5, 4, None)):
        with pytest.raises(CallUnknown):
            OpenAIService(rig.client, call_rules(policy), rig.slept.append, lambda: 0.0).check_access()
    assert not rig.slept and rig.calls == {"GET batches": 2}


def hidden(error: CallError, key: str) -> bool:
    """Return whether the texts of an error contain no piece of the key."""
    said = str(error) + repr(error.details) + repr(error.args)
    return not any(key[at : at + 4] in said for at in range(3, len(key) - 3))


def test_a_wrong_key_is_refused_and_not_quoted(rig: Rig) -> None:
    rig.sandbox.update_settings({"api_key": "sk-the-right-one"})
    with pytest.raises(CallRefused, match="Incorrect API key provided") as error:
        rig.service.check_access()
    assert error.value.details.status == 401 and error.value.details.code == "invalid_api_key"
    assert hidden(error.value, KEY) and not rig.slept


def test_a_key_that_no_header_takes_is_not_quoted(tmp_path: Path) -> None:
    for key in (KEY + "\n", "plain-0123456789-secret\n"):
        with attached("loopback", tmp_path, key) as rig, pytest.raises(CallUnknown) as error:
            rig.service.check_access()
        assert hidden(error.value, key.strip())


@pytest.mark.parametrize("key", [KEY, "gsk_0123456789abcdefghijklmnop", "0123456789abcdef"])
def test_an_echoed_key_is_not_quoted(key: str) -> None:
    for text in (f"Incorrect key: {key}.", f"header 'Authorization: Bearer {key}' refused"):
        service, _ = scripted([answer(401, {"error": {"message": text, "type": None, "code": None}})], key)
        with pytest.raises(CallRefused) as error:
            service.check_access()
        assert hidden(error.value, key)


def connected(monkeypatch: pytest.MonkeyPatch, key: str | None, url: str | None = None) -> OpenAIService:
    for name, value in (("OPENAI_API_KEY", key), ("OPENAI_BASE_URL", url)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    slept: list[float] = []
    return connect_service(5, QUICK, slept.append, lambda: 0.0)


def test_the_environment_names_key_and_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with running_sandbox(Sandbox(FIXED, tmp_path, lambda: START)) as url:
        service = connected(monkeypatch, KEY, url)
        service.check_access()
        service._client.close()


@pytest.mark.parametrize("key", [None, "", KEY + "\n", " " + KEY, KEY + "\r", "sk-abc def", "sk-äbc", "sk-\x00"])
def test_a_key_that_cannot_be_sent_is_told_at_once(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    if key == "sk-\x00":
        key = "sk-\x7f"  # an environment variable cannot hold a NUL
    with pytest.raises(SetupError, match="OPENAI_API_KEY") as error:
        connected(monkeypatch, key)
    assert not key or key.strip() not in str(error.value)


@pytest.mark.parametrize(
    "url", ["not an address", "ftp://sandbox/v1", "sandbox/v1", "https://", "http://[::1", "http://a:port"]
)
def test_an_address_that_is_none_is_told_at_once(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(SetupError, match="OPENAI_BASE_URL"):
        connected(monkeypatch, KEY, url)
