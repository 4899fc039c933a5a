"""A batch's life in the sandbox: states and times, lists, cancel, expiry, the queue limit, and what repeats."""

from pathlib import Path
from typing import Any

import openai
import pytest

from batcher.sandbox import Sandbox, SandboxSettings, scaled_clock
from tests.support.sandbox_kit import DAY, MODEL, START, Bench, bench, encoded, line, lines


def test_a_batch_goes_through_its_states(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        batch = it.create(lines(100), {"run": "r1"})
        assert (batch.status, batch.model, batch.errors) == ("validating", None, None)
        assert batch.expires_at == batch.created_at + 86_400 == int(START) + 86_400
        assert batch.request_counts and batch.request_counts.total == 0
        half = it.later(batch, 510)
        assert half.status == "in_progress" and half.in_progress_at == int(START) + 10
        assert half.request_counts and half.request_counts.total == 100 and half.request_counts.completed == 50
        assert half.output_file_id is None and half.model == MODEL
        last = it.later(batch, 501)
        assert last.status == "finalizing" and last.output_file_id is None
        done = it.later(batch, 10)
        assert done.status == "completed" and done.completed_at == int(START) + 1020
        assert done.error_file_id is None and done.metadata == {"run": "r1"}
        assert done.usage and done.usage.input_tokens > 0
        assert len(it.results(done.output_file_id)) == 100


def test_results_come_shuffled_and_the_same_each_time(tmp_path: Path) -> None:
    contents = []
    for name, step in (("one", DAY), ("two", 7.0)):  # polled once, and often
        with bench(tmp_path / name) as it:
            batch = it.create(lines(50))
            for _ in range(200 if step < DAY else 1):
                batch = it.later(batch, step)
            contents.append(it.content(batch.output_file_id))
            order = [row["custom_id"] for row in it.results(batch.output_file_id)]
            assert order != [f"a{number}" for number in range(50)]
            assert sorted(map(str, order)) == sorted(f"a{number}" for number in range(50))
    assert contents[0] == contents[1]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 12, 30, 97])
def test_every_line_is_executed_once(tmp_path: Path, count: int) -> None:
    with bench(tmp_path) as it:
        batch = it.run(lines(count))
        found = {str(row["custom_id"]) for row in it.results(batch.output_file_id)}
        assert found == {f"a{number}" for number in range(count)}
        assert it.sandbox.ledger.execution_counts() == dict.fromkeys(found, 1)
        assert len((tmp_path / "ledger.jsonl").read_bytes().splitlines()) == count


def test_the_content_depends_on_the_request_alone(tmp_path: Path) -> None:
    texts = []
    for seed in (1, 2):
        with bench(tmp_path / str(seed), seed=seed) as it:
            row = it.results(it.run(lines(1)).output_file_id)[0]
            texts.append(row["response"]["body"]["choices"][0]["message"]["content"])  # type: ignore[index]
    assert texts[0] == texts[1]


def test_cancelling_keeps_what_was_executed(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        batch = it.create(lines(40))
        it.later(batch, 260)
        assert it.client.batches.cancel(batch.id).status == "cancelling"
        again = it.client.batches.cancel(batch.id)
        assert again.status == "cancelling" and again.cancelling_at == int(START) + 260
        done = it.later(batch, 10)
        assert done.status == "cancelled" and done.cancelled_at == int(START) + 270
        assert len(it.results(done.output_file_id)) == 10
        rest = it.results(done.error_file_id)
        assert len(rest) == 30
        assert {row["error"]["code"] for row in rest} == {"batch_cancelled"}  # type: ignore[index]
        assert all(row["response"] is None for row in rest)
        assert sum(it.sandbox.ledger.execution_counts().values()) == 10
        assert it.client.batches.cancel(batch.id).status == "cancelled"


def test_cancelling_before_validation_leaves_no_files(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        batch = it.create(lines(3))
        it.client.batches.cancel(batch.id)
        done = it.later(batch, 60)
        assert (done.status, done.output_file_id, done.error_file_id) == ("cancelled", None, None)


def test_an_ended_batch_cannot_be_cancelled(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        batch = it.run(lines(1))
        with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'completed'") as caught:
            it.client.batches.cancel(batch.id)
        assert caught.value.type == "invalid_request_error" and caught.value.code is None


def test_a_stalled_batch_expires_with_half_of_its_lines(tmp_path: Path) -> None:
    with bench(tmp_path, {"expire_batches": [1]}) as it:
        batch = it.create(lines(11))
        assert it.later(batch, DAY - 1).status == "in_progress"
        done = it.later(batch, 2)
        assert done.status == "expired" and done.expired_at == done.expires_at
        assert done.request_counts and done.request_counts.completed == 6 and done.request_counts.failed == 5
        row = it.results(done.error_file_id)[0]
        assert row["error"] == {
            "code": "batch_expired",
            "message": "This request could not be executed before the completion window expired.",
        }
        assert it.run(lines(1)).status == "completed"  # the second batch doesn't stall


def test_lists_are_paged_newest_first(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        stored = it.upload(lines(1))
        made = [it.create_from(stored.id).id for _ in range(45)][::-1]
        page = it.client.batches.list(limit=20)
        assert [each.id for each in page.data] == made[:20] and page.has_more
        assert [each.id for each in it.client.batches.list(limit=10)] == made  # the client fetches the next pages
        answer = it.raw("GET", f"/v1/batches?after={made[39]}").json()
        assert (answer["first_id"], answer["last_id"], answer["has_more"]) == (made[40], made[44], False)
        assert len(it.raw("GET", "/v1/batches").json()["data"]) == 20
        for limit, code in (
            ("0", "integer_below_min_value"),
            ("101", "integer_above_max_value"),
            ("x", "invalid_type"),
        ):
            refused = it.raw("GET", f"/v1/batches?limit={limit}")
            assert refused.status_code == 400 and refused.json()["error"]["code"] == code


def tokens_of(it: Bench, rows: list[object]) -> int:
    """Return the enqueued tokens of a batch of these lines."""
    it.create(rows)
    it.now += 11
    it.sandbox.run_due_events()
    return it.sandbox.lifecycle.enqueued_tokens(MODEL)


def test_the_queue_limit_fails_the_batch_with_the_service_s_text(tmp_path: Path) -> None:
    with bench(tmp_path, organization="org-XXX") as it:
        tokens = tokens_of(it, lines(10))
        it.sandbox.update_settings({"enqueued_tokens": 2 * tokens})
        fits = it.create(lines(10))
        assert it.later(fits, 11).status == "in_progress"
        full = it.later(it.create(lines(10)), 11)
        assert full.status == "failed" and full.errors and full.errors.data and full.failed_at
        error = full.errors.data[0]
        assert (error.code, error.param, error.line) == ("token_limit_exceeded", None, None)
        assert error.message == (
            f"Enqueued token limit reached for {MODEL} in organization org-XXX. Limit: {2 * tokens:,} enqueued tokens. "
            "Please try again once some in_progress batches have been completed."
        )
        assert it.later(full, 2000).status == "failed"
        assert it.later(it.create(lines(10)), 11).status == "in_progress"  # the others have ended


def test_cancelling_batches_hold_the_queue_and_phantoms_too(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        tokens = tokens_of(it, lines(10))
        it.sandbox.update_settings({"enqueued_tokens": tokens})
        batch = it.client.batches.list().data[0]
        it.client.batches.cancel(batch.id)
        assert it.sandbox.lifecycle.enqueued_tokens(MODEL) == tokens
        it.later(batch, 20)
        assert it.sandbox.lifecycle.enqueued_tokens(MODEL) == 0
        it.sandbox.update_settings({"phantom_tokens": 1})
        assert it.later(it.create(lines(10)), 11).status == "failed"


def test_limits_stand_by_model_and_tier(tmp_path: Path) -> None:
    def limit(model: str, **settings: Any) -> int:
        with bench(tmp_path, **settings) as it:
            return it.sandbox.lifecycle.queue_limit(model)

    assert limit("gpt-6-luna") == 40_000_000
    assert limit("gpt-4o", tier=1) == 90_000
    assert limit("gpt-4o-mini-2024-07-18", tier=2) == 20_000_000
    assert limit("gpt-4o", enqueued_tokens=5) == 5
    assert limit("gpt-4o", enqueued_tokens=5, limits={"gpt-4o": 7}) == 7


def test_a_full_queue_can_refuse_at_once(tmp_path: Path) -> None:
    with bench(tmp_path, refuse_at_create=True, enqueued_tokens=10) as it:
        with pytest.raises(openai.BadRequestError, match="Limit: 10 enqueued tokens") as caught:
            it.create(lines(5))
        assert caught.value.code == "token_limit_exceeded"
        assert not it.sandbox.lifecycle.batches
        it.sandbox.update_settings({"enqueued_tokens": 100_000})
        batch = it.create(lines(5))
        assert it.sandbox.lifecycle.enqueued_tokens(MODEL) > 0  # counted from the creation on
        assert it.later(batch, DAY).status == "completed"


def test_batches_an_hour_are_limited(tmp_path: Path) -> None:
    with bench(tmp_path, batches_per_hour=3) as it:
        stored = it.upload(lines(1))
        for _ in range(3):
            it.create_from(stored.id)
        with pytest.raises(openai.RateLimitError):
            it.create_from(stored.id)
        it.now += 3601
        it.create_from(stored.id)


def test_a_deleted_input_fails_a_batch_that_is_still_validating(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        batch, other = it.create(lines(3)), it.create(lines(3))
        assert it.client.files.delete(batch.input_file_id).deleted
        failed = it.later(batch, 11)
        assert failed.errors and failed.errors.data
        error = failed.errors.data[0]
        assert (error.code, error.param, error.line) == ("invalid_request", "file_id", None)
        assert error.message and error.message.startswith(f"Cannot find file {batch.input_file_id}, or organization")
        it.client.files.delete(other.input_file_id)  # this one runs already, and ends well
        assert it.later(other, DAY).status == "completed"
        left = {path.name for path in (tmp_path / "files").iterdir()}
        assert left == {it.client.batches.retrieve(other.id).output_file_id}


def test_a_batch_of_a_missing_file_is_refused_or_fails(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        with pytest.raises(openai.BadRequestError, match="Cannot find file file-x"):
            it.create_from("file-x")
        it.sandbox.update_settings({"accept_missing_input": True})
        failed = it.later(it.create_from("file-x"), 11)
        assert failed.status == "failed" and failed.errors and failed.errors.data
        assert [(each.code, each.param) for each in failed.errors.data] == [("invalid_request", "file_id")]


def test_a_scaled_clock_runs_fast() -> None:
    clock = scaled_clock(1000.0, 5.0)
    first = clock()
    assert 5.0 <= first <= clock()


def test_nothing_of_the_state_is_shared_between_sandboxes(tmp_path: Path) -> None:
    one = Sandbox(SandboxSettings(), tmp_path / "one", lambda: START)
    two = Sandbox(SandboxSettings(), tmp_path / "two", lambda: START)
    one.update_faults({"slow_s": 1})
    assert two.faults.slow_s == 0 and one.next_request_number() == two.next_request_number() == 1
    assert encoded([line("a")]).count(b"\n") == 1


def drawn(folder: Path, salt: str) -> list[str]:
    """Return every kind of id that a small job sees, and the text of its answer."""
    with bench(folder, id_salt=salt) as it:
        batch = it.run(lines(1))
        (row,) = it.results(batch.output_file_id)
        answer = it.raw("GET", f"/v1/batches/{batch.id}")
        response: Any = row["response"]
        found = [batch.id, batch.input_file_id, str(batch.output_file_id), str(row["id"]), response["request_id"]]
        found += [response["body"]["id"], answer.headers["x-request-id"]]
        return [*found, response["body"]["choices"][0]["message"]["content"]]


def test_another_salt_gives_other_ids_and_the_same_answers(tmp_path: Path) -> None:
    one, same, other = drawn(tmp_path / "1", "a"), drawn(tmp_path / "2", "a"), drawn(tmp_path / "3", "b")
    assert one == same and one[-1] == other[-1]
    assert not set(one[:-1]) & set(other[:-1])


def test_a_killed_sandbox_leaves_nothing_in_the_next_one_s_results(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        batch = it.create(lines(10))
        it.later(batch, 500)
        assert list((tmp_path / "parts").iterdir())
    with bench(tmp_path) as it:
        again = it.run(lines(10))
        assert again.id == batch.id and len(it.results(again.output_file_id)) == 10
