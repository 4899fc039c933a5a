"""The dialects: the same service as other servers speak it, and what goes wrong only with them."""

from collections import Counter
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from batcher.sandbox import Dialect, SettingError, apply_changes
from batcher.sandbox.api.dialect import spoil_text
from tests.support.sandbox_kit import CHAT, DAY, RESPONSES, Bench, bench, chat_body, line, lines, response_body


def listed(it: Bench, path: str = "/v1/batches", **query: object) -> dict[str, Any]:
    found: dict[str, Any] = it.raw("GET", path, params=query).json()
    return found


def shown(it: Bench, batch_id: str) -> dict[str, Any]:
    return listed(it, f"/v1/batches/{batch_id}")


def ids(page: dict[str, Any]) -> list[str]:
    return [each["id"] for each in page["data"]]


# --- lines ------------------------------------------------------------------------------------------------------------


def rows_of(folder: Path, **settings: object) -> list[dict[str, Any]]:
    with bench(folder, {"line_failures": {"server": 0.5}}, **settings) as it:
        batch = it.run(lines(20))
        return it.results(batch.output_file_id) + it.results(batch.error_file_id)


def test_a_body_can_be_text(tmp_path: Path) -> None:
    plain, spoken = rows_of(tmp_path / "plain"), rows_of(tmp_path / "spoken", dialect={"body_as_text": True})
    assert len(spoken) == 20 and all(isinstance(row["response"]["body"], str) for row in spoken)
    for row in spoken:
        row["response"]["body"] = orjson.loads(row["response"]["body"])
    assert spoken == plain


def test_a_status_can_stand_in_words_alone(tmp_path: Path) -> None:
    with bench(tmp_path, {"line_failures": {"rate_limit": 1.0}}, dialect={"status_in_words": True}) as it:
        rows: Any = it.results(it.run(lines(20)).error_file_id)
    assert len(rows) == 20 and all(row["response"] is None for row in rows)
    words = Counter(
        next(w for w in ("Error code: 429 - You", "status=429:") if w in row["error"]["message"]) for row in rows
    )
    assert len(words) == 2 and {row["error"]["code"] for row in rows} == {"request_failed", "inference_failed"}


@pytest.mark.parametrize(("fault", "mark"), [("lone_surrogates", b"\\ud83d"), ("nul_texts", b"\\u0000")])
@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_texts_are_spoiled_within_the_answer_s_own_json(tmp_path: Path, fault: str, mark: bytes, endpoint: str) -> None:
    body = chat_body() if endpoint == CHAT else response_body()
    with bench(tmp_path, {fault: 0.5}) as it:
        rows: Any = it.results(it.run([line(f"a{n}", body, endpoint) for n in range(40)], endpoint).output_file_id)
        texts = []
        for row in rows:
            found = row["response"]["body"]
            message = found["choices"][0]["message"] if endpoint == CHAT else found["output"][0]["content"][0]
            texts.append((message["content"] if endpoint == CHAT else message["text"]).encode())
        assert 10 < sum(mark in text for text in texts) < 30
        assert set(it.sandbox.ledger.usable_counts().values()) == {1}
        it.fault(**{fault: 1.0})
        direct = it.raw("POST", endpoint, json=body).content
        assert mark.replace(b"\\", b"\\\\") in direct


def test_only_json_with_a_text_can_be_spoiled() -> None:
    assert spoil_text('{"a": "bc", "n": ["defg."], "x": 1}', "\\ud83d") == '{"a":"bc","n":["defg\\ud83d"],"x":1}'
    for content in ("no JSON", "[1]", None, ""):
        assert spoil_text(content, "\\ud83d") == content


# --- a batch ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ("zero", (10, 0, 0)),
        ("stale", (10, 4, 0)),
        ("all_failed", (10, 0, 10)),
        ("completed_counts_failed", (10, 10, 2)),
        ("gone", None),
        ("none", None),
    ],
)
def test_the_counts_can_lie_once_a_batch_has_ended(
    tmp_path: Path, counts: str, told: tuple[int, int, int] | None
) -> None:
    with bench(tmp_path, {"poison": ["a1", "a2"]}, dialect={"counts": counts}) as it:
        batch = it.create(lines(10))
        it.now += 500
        running = shown(it, batch.id)["request_counts"]
        assert running is None if counts == "none" else running["completed"] + running["failed"] == 4
        it.now += DAY
        found = shown(it, batch.id)
        expected = told and dict(zip(("total", "completed", "failed"), told, strict=True))
        assert found["request_counts"] == expected and listed(it)["data"][0]["request_counts"] == expected


@pytest.mark.parametrize(("form", "kind"), [("list", dict), ("array", list), ("text", str)])
def test_the_errors_have_another_form(tmp_path: Path, form: str, kind: type) -> None:
    with bench(tmp_path, {"fail_batches": {"1": "token_limit_exceeded"}}, dialect={"errors": form}) as it:
        batch = it.create(lines(1))
        it.now += DAY
        errors = shown(it, batch.id)["errors"]
        assert isinstance(errors, kind) and "Enqueued token limit reached" in str(errors)
        assert listed(it)["data"][0]["errors"] == errors


@pytest.mark.parametrize(
    ("statuses", "seen"),
    [
        ("synonyms", ["scheduling", "in_progress", "succeeded", "canceled", "failed"]),
        ("upper", ["VALIDATING", "IN_PROGRESS", "COMPLETED", "CANCELLED", "FAILED"]),
    ],
)
def test_the_statuses_have_other_words(tmp_path: Path, statuses: str, seen: list[str]) -> None:
    with bench(tmp_path, {"fail_batches": {"3": "odd"}}, dialect={"statuses": statuses}) as it:
        first, second, third = (it.create(lines(2)).id for _ in range(3))
        found = [shown(it, first)["status"]]
        it.now += 500
        found.append(shown(it, first)["status"])
        it.client.batches.cancel(second)
        it.now += DAY
        found += [shown(it, each)["status"] for each in (first, second, third)]
        assert found == seen


def test_times_can_be_texts(tmp_path: Path) -> None:
    with bench(tmp_path, dialect={"times": "iso"}) as it:
        batch = shown(it, it.run(lines(1)).id)
        assert batch["created_at"] == "2026-11-18T11:06:40Z" and batch["completed_at"] == "2026-11-18T11:23:40Z"
        assert batch["failed_at"] is None


def test_fields_can_be_left_out(tmp_path: Path) -> None:
    told = {"omitted": ["created_at", "metadata"], "create_fields": ["id", "created_at", "status"]}
    with bench(tmp_path, dialect=told) as it:
        body = {"input_file_id": it.upload(lines(1)).id, "endpoint": CHAT, "completion_window": "24h"}
        made = it.raw("POST", "/v1/batches", json=body).json()
        assert set(made) == {"id", "status"}
        assert "object" in shown(it, made["id"]) and "created_at" not in shown(it, made["id"])
        assert "metadata" not in listed(it)["data"][0]


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/files"])
def test_lists_can_be_paged_by_a_cursor(tmp_path: Path, path: str) -> None:
    with bench(tmp_path, dialect={"paging": "cursor", "page_size": 2}) as it:
        for _ in range(5):
            it.create(lines(1))
        first = listed(it, path, limit=100)
        assert len(first["data"]) == 2 and set(first) == {"object", "data", "paging"}
        assert ids(listed(it, path, after=ids(first)[0])) == ids(first)
        second = listed(it, path, cursor=first["paging"]["next_cursor"])
        third = listed(it, path, cursor=second["paging"]["next_cursor"])
        assert third["paging"] == {"next_cursor": None} and len({*ids(first), *ids(second), *ids(third)}) == 5


@pytest.mark.parametrize(("paging", "sizes"), [("unsaid", [2, 1, 0]), ("one_page", [3, 3, 3])])
def test_lists_need_not_say_whether_they_go_on(tmp_path: Path, paging: str, sizes: list[int]) -> None:
    with bench(tmp_path, dialect={"paging": paging}) as it:
        found = [it.create(lines(1)).id for _ in range(3)]
        for number, after in enumerate((None, found[1], found[0])):
            page = listed(it, limit=2, **({"after": after} if after else {}))
            assert "has_more" not in page and len(page["data"]) == sizes[number]


def test_a_limit_can_be_too_large(tmp_path: Path) -> None:
    with bench(tmp_path, dialect={"largest_limit": {"batches": 50, "files": 100}}) as it:
        it.create(lines(1))
        for path, largest in (("/v1/batches", 50), ("/v1/files", 100)):
            refused = it.raw("GET", path, params={"limit": largest + 1})
            assert refused.status_code == 422
            assert refused.json()["detail"][0]["msg"] == f"Input should be less than or equal to {largest}"
            assert len(listed(it, path, limit=largest)["data"]) == len(listed(it, path)["data"]) == 1


def test_a_listing_can_be_frozen_until_a_batch_is_retrieved(tmp_path: Path) -> None:
    with bench(tmp_path, dialect={"frozen_listing": True}) as it:
        first, second = it.create(lines(2)), it.create(lines(2))
        it.now += DAY
        assert [each["status"] for each in listed(it)["data"]] == ["validating", "validating"]
        assert shown(it, first.id)["status"] == "completed"
        assert {each["id"]: each["status"] for each in listed(it)["data"]} == {
            first.id: "completed",
            second.id: "validating",
        }


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/files"])
def test_strangers_lead_a_list(tmp_path: Path, path: str) -> None:
    kinds = ["no_id", "no_time", "surrogates", "huge_numbers"]
    with bench(tmp_path, dialect={"odd_objects": kinds}) as it:
        ours = [it.create(lines(1)) for _ in range(2)]
        answer = it.raw("GET", path, params={"limit": 1})
        page: dict[str, Any] = answer.json()
        assert len(page["data"]) == 5 and page["has_more"] and page["last_id"] == page["data"][-1]["id"]
        assert "id" not in page["data"][0] and "created_at" not in page["data"][1]
        assert b"\\ud83d" in answer.content and str(10**29).encode() in answer.content
        rest = listed(it, path, after=page["last_id"])
        assert len(rest["data"]) == 1 and ids(rest)[0] in {ours[0].id, ours[0].input_file_id}


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_create_may_not_know_a_file_that_every_other_call_knows(tmp_path: Path) -> None:
    with bench(tmp_path, {"input_not_ready_s": 60}) as it:
        stored = it.upload(lines(1))
        assert it.client.files.retrieve(stored.id) == stored
        with pytest.raises(openai.BadRequestError, match="Cannot find file"):
            it.create_from(stored.id)
        it.now += 60
        assert it.content(it.later(it.create_from(stored.id), DAY).output_file_id)


def test_an_expired_batch_can_show_its_files_late(tmp_path: Path) -> None:
    with bench(tmp_path, {"late_files_s": 100, "expire_batches": [1]}) as it:
        batch, other = it.create(lines(10)), it.create(lines(10))
        found = it.later(batch, DAY)
        assert (found.status, found.output_file_id, found.error_file_id) == ("expired", None, None)
        assert it.client.batches.retrieve(other.id).output_file_id
        assert it.later(batch, 99).output_file_id is None
        found = it.later(batch, 1)
        assert len(it.results(found.output_file_id)) == len(it.results(found.error_file_id)) == 5


@pytest.mark.parametrize("cut", ["in_last_line", "in_line", "at_line"])
def test_result_files_can_be_cut_and_look_whole(tmp_path: Path, cut: str) -> None:
    with bench(tmp_path) as it:
        batch = it.run(lines(10))
        whole = it.content(batch.output_file_id)
        it.fault(cut_output={cut: 1.0})
        answer = it.raw("GET", f"/v1/files/{batch.output_file_id}/content")
        got = answer.content
        assert int(answer.headers["content-length"]) == len(got) < len(whole) and whole.startswith(got)
        assert got.endswith(b"}\n") == (cut == "at_line")
        if cut == "in_last_line":
            assert len(got) == len(whole) - 7
        else:
            assert 4 <= got.count(b"\n") <= 6
        assert it.content(batch.input_file_id).count(b"\n") == 10


def test_errors_can_quote_the_key(tmp_path: Path) -> None:
    with bench(tmp_path, {"quoted_text": "sk-test-1", "fail_batches": {"2": "odd"}, "expire_batches": [3]}) as it:
        it.fault(line_failures={"server": 0.3, "request_timeout": 0.3})
        first, second, third = it.create(lines(10)), it.create(lines(10)), it.create(lines(10))
        it.now += DAY
        assert "sk-test-1" in str(shown(it, second.id)["errors"])
        for batch in (first, third):
            rows = it.results(it.client.batches.retrieve(batch.id).error_file_id)
            assert rows and all("sk-test-1" in str(row) for row in rows)
        it.fault(line_failures={"server": 1.0}, transient_failures=False)
        assert "sk-test-1" in it.raw("POST", CHAT, json=chat_body()).text
        assert "sk-test-1" not in it.raw("GET", "/_sandbox/faults").text


def test_posts_can_be_redirected(tmp_path: Path) -> None:
    with bench(tmp_path, {"redirect_posts": "http://elsewhere:1"}) as it:
        answer = it.raw("POST", "/v1/batches", json={}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "http://elsewhere:1/v1/batches")
        assert listed(it)["data"] == []


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pages": "x"}, "unknown name pages; valid: body_as_text, counts"),
        ({"paging": "x"}, "paging must be one of after, cursor, unsaid, one_page, not 'x'"),
        ({"counts": "x"}, "one of true, zero"),
        ({"errors": "x"}, "one of list, array, text"),
        ({"statuses": "x"}, "one of usual, synonyms, upper"),
        ({"times": "x"}, "one of seconds, iso"),
        ({"odd_objects": ["x"]}, "odd_objects must be one of no_id"),
        ({"largest_limit": {"x": 1}}, "largest_limit must be one of batches, files"),
        ({"body_as_text": 1}, "must be true or false"),
    ],
)
def test_wrong_dialects_are_refused_with_the_valid_names(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingError, match=words):
        apply_changes(Dialect(), changes)
    with bench(tmp_path) as it:
        answer = it.raw("POST", "/_sandbox/dialect", json=changes)
        assert answer.status_code == 400 and words in answer.json()["error"]["message"]
        assert it.sandbox.dialect == Dialect()


def test_a_dialect_is_set_and_told_over_http(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        assert it.raw("POST", "/_sandbox/dialect", json={"paging": "cursor"}).json()["paging"] == "cursor"
        assert it.raw("POST", "/_sandbox/dialect", json={"counts": "zero"}).json()["paging"] == "cursor"
        assert it.raw("GET", "/_sandbox/dialect").json()["counts"] == "zero"
        assert it.raw("GET", "/_sandbox/settings").json()["dialect"]["counts"] == "zero"
