"""The sandbox's endpoints for an admin key, read by OpenAI's own client: lists in pages, usage and costs in buckets."""

from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from batcher.sandbox import Sandbox, SandboxSettings
from batcher.sandbox.web.transport import SandboxTransport
from tests.support.sandbox_kit import chat_body

NOW = 1_800_000_000.0
ADMIN_KEY = "sk-admin-of-the-sandbox"


class Office:
    """A sandbox, its clock, and OpenAI's client with both keys."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.now = NOW
        self.sandbox = Sandbox(SandboxSettings(api_key="sk-ordinary"), folder, lambda: self.now)
        self.sandbox.update_settings({"admin_key": ADMIN_KEY, **settings})
        http = httpx2.Client(transport=SandboxTransport(self.sandbox))
        self.client = openai.OpenAI(
            api_key="sk-ordinary", admin_api_key=ADMIN_KEY, base_url="http://sandbox/v1", http_client=http,
            max_retries=0, _strict_response_validation=True,
        )  # fmt: skip

    def ask(self, text: str, **more: object) -> None:
        self.client.chat.completions.create(**chat_body(text, **more))


def test_lists_come_in_pages(tmp_path: Path) -> None:
    office = Office(tmp_path, enqueued_tokens=123_456, rpd=50)
    projects = office.client.admin.organization.projects
    assert [project.id for project in projects.list()] == ["proj_sandbox"]
    rows = list(projects.rate_limits.list_rate_limits("proj_sandbox", limit=3))
    assert len(rows) > 9
    assert len({row.id for row in rows}) == len(rows)
    (luna,) = (row for row in rows if row.model == "gpt-6-luna")
    assert (luna.batch_1_day_max_input_tokens, luna.max_requests_per_1_day) == (123_456, 50)
    with pytest.raises(openai.NotFoundError):
        projects.rate_limits.list_rate_limits("proj_2")


def test_settings_of_the_project(tmp_path: Path) -> None:
    office = Office(tmp_path, enabled_tiers=["flex"])
    projects = office.client.admin.organization.projects
    assert projects.service_tier_settings.retrieve("proj_sandbox").enabled_tiers == ["flex"]
    with pytest.raises(openai.NotFoundError):
        projects.spend_limit.retrieve("proj_sandbox")
    office.sandbox.update_settings({"spend_limit_usd": 0.01})
    limit = projects.spend_limit.retrieve("proj_sandbox")
    assert (limit.threshold_amount, limit.enforcement.status) == (1, "inactive")


def test_usage_and_costs_stand_in_buckets(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.ask("Bea")
    office.now += 90_000
    office.ask("Cy", service_tier="flex")
    office.ask("Di", model="gpt-5.6-luna")
    usage = office.client.admin.organization.usage
    start = int(NOW // 86_400 * 86_400)
    end, page = start + 3 * 86_400, ""
    results: list[dict[str, Any]] = []
    for has_more in (True, True, False):
        found = usage.completions(
            start_time=start, end_time=end, limit=1, group_by=["model", "batch"], page=page or openai.omit
        )
        assert (len(found.data), found.has_more) == (1, has_more)
        results += [result.to_dict() for result in found.data[0].results]
        page = found.next_page or ""
    assert sum(result["num_model_requests"] for result in results) == 3
    assert sum(result["input_tokens"] for result in results) == office.sandbox.ledger.billing_totals()["tokens_in"]
    only = usage.completions(start_time=start, models=["gpt-5.6-luna"], batch=False, limit=7)
    assert sum(len(bucket.results) for bucket in only.data) == 1
    costs = usage.costs(start_time=start, group_by=["line_item"], limit=7)
    billed: list[dict[str, Any]] = [result.to_dict() for bucket in costs.data for result in bucket.results]
    assert {result["line_item"] for result in billed} == {
        f"{model}, {kind}" for model in ("gpt-6-luna", "gpt-5.6-luna") for kind in ("input_tokens", "output_tokens")
    }
    paid = sum(result["amount"]["value"] for result in billed)
    assert paid == pytest.approx(office.sandbox.ledger.billed_usd)


def test_an_ordinary_key_is_refused_and_an_admin_key_asks_for_no_answers(tmp_path: Path) -> None:
    office = Office(tmp_path)
    swapped = office.client.with_options(api_key=ADMIN_KEY, admin_api_key="sk-ordinary")
    with pytest.raises(openai.PermissionDeniedError):
        swapped.admin.organization.usage.costs(start_time=int(NOW))
    with pytest.raises(openai.AuthenticationError):
        office.client.with_options(admin_api_key="sk-admin-other").admin.organization.projects.list()
    with pytest.raises(openai.AuthenticationError):
        swapped.models.list()
