"""The organization's endpoints: pages are read to their end, odd answers are tolerated, and problems are sentences."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from batcher.errors import SetupError
from batcher.service.address import is_openai_or_local
from batcher.service.admin_service import (
    AdminService,
    CostRow,
    ProjectLimits,
    SpendLimit,
    UsageRow,
    connect_admin,
)
from batcher.service.masking import find_secrets

ADMIN_KEY = "sk-admin-test-of-the-service"
Answers = Callable[[httpx2.Request], tuple[int, Any]]


def service_of(answers: Answers, asked: list[httpx2.Request] | None = None) -> AdminService:
    """Return the endpoints of a service that gives these answers. asked: is given each request."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if asked is not None:
            asked.append(request)
        status, body = answers(request)
        return httpx2.Response(status, content=json.dumps(body).encode(), headers={"content-type": "application/json"})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(
        api_key="sk-ordinary-key", admin_api_key=ADMIN_KEY, base_url="http://localhost/v1", http_client=http
    )
    return AdminService(client)


def project_of(*projects: dict[str, object]) -> Answers:
    def answer(request: httpx2.Request) -> tuple[int, Any]:
        found: dict[str, Any] = {
            "/v1/organization/projects": {"data": list(projects), "has_more": False},
            "/v1/organization/projects/proj_1/rate_limits": {"data": [{"id": "rl", "model": "gpt-6-luna"}]},
            "/v1/organization/projects/proj_1/service_tier_settings": {"default": "standard", "enabled_tiers": "all"},
        }
        body = found.get(request.url.path)
        return (200, body) if body else (404, {"error": {"message": "No such thing.", "type": "invalid_request_error"}})

    return answer


def test_the_only_active_project_is_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_PROJECT_ID", raising=False)
    asked: list[httpx2.Request] = []
    found = service_of(project_of({"id": "proj_1"}, {"id": "proj_0", "status": "archived"}), asked).read_project(
        "gpt-6-luna"
    )
    assert found == ("proj_1", ProjectLimits(), None, None, [])
    assert {request.headers["authorization"] for request in asked} == {f"Bearer {ADMIN_KEY}"}
    several = service_of(project_of({"id": "proj_1"}, {"id": "proj_2"}))
    (problem,) = several.read_project("gpt-6-luna").problems
    assert problem == ("OPENAI_ADMIN_KEY sees 2 projects; set OPENAI_PROJECT_ID to the one that OPENAI_API_KEY is of")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj_1")
    assert several.read_project("gpt-6-luna").project == "proj_1"
    assert service_of(project_of()).read_project("gpt-99").limits is None


def test_limits_stand_on_any_page_and_a_dated_model_has_those_of_its_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj_1")
    row = {"max_requests_per_1_minute": 500, "max_tokens_per_1_minute": 200_000, "batch_1_day_max_input_tokens": 90_000}
    rows = [{"id": f"rl-{n}", "model": f"model-{n}", **row} for n in range(250)]
    rows.append({"id": "rl-x", "model": "gpt-6-luna", **row, "max_requests_per_1_day": True})

    def answer(request: httpx2.Request) -> tuple[int, Any]:
        if request.url.path.endswith("spend_limit"):
            return 200, {"threshold_amount": 1250, "enforcement": {"status": "enforcing"}}
        if request.url.path.endswith("service_tier_settings"):
            return 200, {"enabled_tiers": []}
        after = request.url.params.get("after")
        at = [each["id"] for each in rows].index(after) + 1 if after else 0
        page = rows[at : at + 100]
        return 200, {"data": page, "has_more": at + 100 < len(rows), "last_id": page[-1]["id"]}

    found = service_of(answer).read_project("gpt-6-luna-2026-07-01")
    assert found == ("proj_1", ProjectLimits(500, 200_000, None, 90_000), SpendLimit(12.5, True), [], [])


def test_each_part_that_cannot_be_read_is_a_problem_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj_1")

    def answer(request: httpx2.Request) -> tuple[int, Any]:
        if request.url.path.endswith("rate_limits"):
            return 403, {"error": {"message": f"Missing scopes of {ADMIN_KEY}.", "type": "invalid_request_error"}}
        return (500, {}) if request.url.path.endswith("spend_limit") else (200, ["odd"])

    found = service_of(answer).read_project("gpt-6-luna")
    first, second, third = found.problems
    assert first.startswith("the rate limits of the project could not be read: OPENAI_ADMIN_KEY lacks the permission")
    assert second.startswith("the spend limit of the project could not be read: Error code: 500")
    assert third.startswith("the service tiers of the project could not be read: ")
    assert ADMIN_KEY not in "".join(found.problems)


def test_usage_and_costs_are_added_up_over_pages() -> None:
    used = {"model": "gpt-6-luna", "batch": True, "num_model_requests": 2, "input_tokens": 100, "output_tokens": 9}
    billed = {"line_item": "gpt-6-luna, input_tokens", "amount": {"value": "0.25", "currency": "usd"}}
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> tuple[int, Any]:
        is_first = not request.url.params.get("page")
        rows = [used, {**used, "batch": False}] if "usage" in request.url.path else [billed, {"amount": None}]
        more = {"has_more": True, "next_page": "p2"} if is_first else {"has_more": False, "next_page": None}
        return 200, {"data": [{"results": rows}, {"results": None}, 7], **more}

    service = service_of(answer, asked)
    assert service.read_usage("proj_1", 7_200.0, 7_300.0) == [
        UsageRow("gpt-6-luna", False, 4, 200, 0, 0, 18),
        UsageRow("gpt-6-luna", True, 4, 200, 0, 0, 18),
    ]
    first = asked[0].url.params
    assert (first["start_time"], first["end_time"], first["bucket_width"]) == ("7200", "10800", "1h")
    assert service.read_costs("proj_1", 90_000.0, 90_001.0) == [
        CostRow("gpt-6-luna, input_tokens", 0.5), CostRow("other", 0.0)
    ]  # fmt: skip
    assert (asked[-1].url.params["start_time"], asked[-1].url.params["end_time"]) == ("86400", "172800")
    service.read_usage("proj_1", 0.0, 30 * 86_400.0)
    assert asked[-1].url.params["bucket_width"] == "1d"


@pytest.mark.parametrize(
    ("origin", "is_given"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("http://127.0.0.1:8080/v1", True),
        ("http://api.openai.com/v1", False),
        ("https://api.openai.com.evil.example/v1", False),
        ("https://notapi.openai.com/v1", False),
        ("an address that cannot be read", False),
    ],
)
def test_an_admin_key_is_given_to_openai_and_to_this_machine(origin: str, is_given: bool) -> None:
    assert is_openai_or_local(origin) is is_given


def test_without_an_admin_key_there_is_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    assert connect_admin(10) is None
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin\n")
    with pytest.raises(SetupError, match="OPENAI_ADMIN_KEY holds a blank"):
        connect_admin(10)
    assert ADMIN_KEY in find_secrets({"OPENAI_ADMIN_KEY": ADMIN_KEY})
