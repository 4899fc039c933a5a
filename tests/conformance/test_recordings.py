"""Real traffic with OpenAI (early 2025, recorded by others) through our client code: every answer is understood."""

from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import pytest
from vcr.errors import CannotOverwriteExistingCassetteException

from batcher.core.failures import FailureClass
from batcher.core.lifecycle import is_terminal
from batcher.core.model import Endpoint, Failure, LineResult, TokenUsage
from batcher.core.remote import RemoteBatch, RemoteFile
from batcher.core.result_line import parse_result_line
from batcher.service.openai_service import OpenAIService
from batcher.service.service import CallUnknown
from tests.support.api_kit import QUICK
from tests.support.cassettes import RECORDINGS, Recorded, Replay, names, recorded, replayed

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the reference data is not beside the repository"),
]
EDITED = "resubmission_batch_completion"
each_cassette = pytest.mark.parametrize("name", names() or ["none"])
DAY = 86_400


def test_there_is_something_to_replay() -> None:
    assert EDITED in names() and len(names()) == 4


def asked_for(call: Recorded, service: OpenAIService, folder: Path) -> object:
    """Repeat the recorded call, and return what our service returns for the recorded answer."""
    if call.what == "upload":
        path = folder / "shard.jsonl"
        path.write_bytes(b"{}\n")
        return service.upload_file(path, "shard.jsonl")
    if call.what == "create":
        asked = orjson.loads(call.sent)
        return service.create_batch(asked["input_file_id"], asked["endpoint"], asked["metadata"])
    if call.what == "retrieve":
        return service.retrieve_batch(call.name)
    path = folder / call.name
    service.download_file(call.name, path)
    return path.read_bytes()


def as_told(call: Recorded) -> object:
    """Return what the answer says, read without our client code."""
    if call.what == "content":
        return call.content
    told = call.json()
    if call.what == "upload":
        return RemoteFile(told["id"], told["filename"], told["created_at"])
    return RemoteBatch(
        batch_id=told["id"],
        status=told["status"],
        created_at=told["created_at"],
        input_file_id=told["input_file_id"],
        output_file_id=told["output_file_id"],
        error_file_id=told["error_file_id"],
        expires_at=told["expires_at"],
        finished_at=told["completed_at"],
        metadata=told["metadata"],
        **told["request_counts"],
    )


@each_cassette
def test_every_recorded_answer_is_read_as_it_is(name: str, tmp_path: Path) -> None:
    with replayed(name) as replay:
        for call in recorded(name):
            if call.what == "file":
                continue  # our code never requests the description of a file
            if call.whole:
                assert asked_for(call, replay.service, tmp_path) == as_told(call)
            else:
                with pytest.raises(CallUnknown, match="bytes came"):
                    asked_for(call, replay.service, tmp_path)
        played = [request.path for request, _ in replay.cassette.data]
        assert replay.cassette.play_count == len([p for p in played if p.startswith("/v1/")]) - _files(name)
        assert not replay.slept


def _files(name: str) -> int:
    return sum(call.what == "file" for call in recorded(name))


def lives(name: str) -> Iterator[list[RemoteBatch]]:
    """Yield each recorded batch of a cassette as our service describes it, from its creation on."""
    with replayed(name) as replay:
        for created in (call for call in recorded(name) if call.what == "create"):
            asked = orjson.loads(created.sent)
            life = [replay.service.create_batch(asked["input_file_id"], asked["endpoint"], asked["metadata"])]
            while not is_terminal(life[-1].status):
                batch = replay.service.retrieve_batch(life[0].batch_id)
                assert batch is not None
                life.append(batch)
            yield life


@each_cassette
def test_a_batch_lives_as_our_state_machine_expects(name: str) -> None:
    order = ["validating", "in_progress", "finalizing", "completed"]
    for life in lives(name):
        statuses = [status for status, _ in groupby(batch.status for batch in life)]
        assert statuses == [status for status in order if status in statuses]
        assert (statuses[0], statuses[-1]) == ("validating", "completed")
        for batch in life:
            assert batch.expires_at == batch.created_at + DAY
            assert (batch.output_file_id is not None) == (batch.status == "completed")
            assert batch.error_file_id is None and batch.errors == () and batch.usage is None
            assert (batch.total == 0) == (batch.status == "validating")
            assert batch.completed + batch.failed <= batch.total
        completed = [batch.completed for batch in life]
        assert completed == sorted(completed)
        end = life[-1]
        assert end.completed + end.failed == end.total
        assert end.finished_at is not None and 0 < end.finished_at - end.created_at < 60
        assert {batch.finished_at for batch in life[:-1]} == {None}


def lines_of(call: Recorded) -> list[tuple[Any, LineResult]]:
    """Yield each line of a result file, as JSON and as we parse it."""
    raw = call.content.split(b"\n")
    assert raw.pop() == b""  # a file ends with its last line
    found = [(orjson.loads(line), parse_result_line(line, Endpoint.CHAT)) for line in raw]
    return [(told, line) for told, line in found if line is not None]


def as_answered(told: Any) -> LineResult:
    """Return what a line says, read without our parser. One was cut off (its authors wrote `length` over `stop`)."""
    reply = told["response"]["body"]
    (choice,) = reply["choices"]
    used = reply["usage"]
    cut = choice["finish_reason"] == "length"
    why = Failure(FailureClass.UNUSABLE, "length", "the answer was cut off at max_output_tokens")
    return LineResult(
        custom_id=told["custom_id"],
        text=None if cut else choice["message"]["content"],
        failure=why if cut else None,
        status=told["response"]["status_code"],
        model=reply["model"],
        finish_reason=choice["finish_reason"],
        usage=TokenUsage(
            used["prompt_tokens"], used["prompt_tokens_details"]["cached_tokens"], used["completion_tokens"]
        ),
        completed_at=reply["created"],
    )


@each_cassette
def test_every_result_line_gives_its_text_and_usage(name: str) -> None:
    for call in (call for call in recorded(name) if call.what == "content"):
        assert call.headers["content-type"] == "application/octet-stream"
        assert lines_of(call)
        for told, line in lines_of(call):
            assert line == as_answered(told)
            assert line.usage.input > 0 and line.usage.output > 0


def test_one_recorded_line_fails_and_is_classified() -> None:
    lines = {name: [line for call in recorded(name) if call.what == "content" for _, line in lines_of(call)]
             for name in names()}  # fmt: skip
    failures = {name: [line.failure.failure for line in found if line.failure] for name, found in lines.items()}
    assert failures.pop(EDITED) == [FailureClass.UNUSABLE]
    assert not any(failures.values())


@each_cassette
def test_as_many_lines_succeeded_as_the_batch_counts(name: str) -> None:
    calls = recorded(name)
    contents = {call.name: call for call in calls if call.what == "content"}
    ends = [call.json() for call in calls if call.what == "retrieve" and call.json()["output_file_id"]]
    assert ends
    for end in ends:
        lines = [line for _, line in lines_of(contents[end["output_file_id"]])]
        assert len({line.custom_id for line in lines}) == len(lines) == end["request_counts"]["completed"]


@each_cassette
def test_answers_carry_a_date_and_no_rate_limits(name: str) -> None:
    """Check what we rely on: absence of a batch is timed by the Date header, no rate-limit header is needed."""
    for call in recorded(name):
        assert parsedate_to_datetime(call.headers["date"]).year == 2025
        assert not [key for key in call.headers if key.startswith(("x-ratelimit", "retry-after"))]


@each_cassette
def test_our_create_asks_for_what_was_asked_then(name: str, tmp_path: Path) -> None:
    with replayed(name) as replay:
        for call in recorded(name):
            if call.what != "create":
                continue
            asked_for(call, replay.service, tmp_path)
            ours = orjson.loads(replay.sent[-1].content)
            assert ours.pop("output_expires_after") == {"anchor": "created_at", "seconds": 30 * DAY}
            assert ours == orjson.loads(call.sent)


def cut_off(replay: Replay, call: Recorded, path: Path) -> None:
    with pytest.raises(CallUnknown, match=f"{len(call.content):,} of {int(call.headers['content-length']):,} bytes"):
        replay.service.download_file(call.name, path)


def test_a_file_that_was_edited_is_refused_as_incomplete(tmp_path: Path) -> None:
    """Refuse bodies whose length differs from their headers: one cassette has a shorter and a longer one."""
    edited = [call for call in recorded(EDITED) if not call.whole]
    longer = [len(call.content) > int(call.headers["content-length"]) for call in edited]
    assert longer == [False, True]
    assert all(call.whole for name in names() if name != EDITED for call in recorded(name))
    with replayed(EDITED, QUICK, repeats=True) as replay:
        for call in edited:
            cut_off(replay, call, tmp_path / "results.jsonl")
        assert replay.slept == [0.5, 1, 2] * 2 and len(replay.sent) == 8
    assert not list(tmp_path.iterdir())


def test_nothing_goes_out_that_was_not_recorded() -> None:
    with replayed(names()[0]) as replay:
        with pytest.raises(CannotOverwriteExistingCassetteException):
            replay.service.retrieve_batch("batch_never_recorded")
        with pytest.raises(CannotOverwriteExistingCassetteException):
            replay.service.list_batches(0)
