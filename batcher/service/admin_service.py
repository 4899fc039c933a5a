"""What OpenAI says of the organization to an admin key: limits of the project, usage and costs. It only reads.

The admin key stands in the environment (OPENAI_ADMIN_KEY), is needed by nothing else, and is sent to OpenAI and to this
machine alone. Shapes: the types of openai-python 3.57.0 (2026-11), types/admin/organization.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from batcher.errors import SetupError
from batcher.service.address import is_openai_or_local, read_origin
from batcher.service.answers import read_object
from batcher.service.bounds import LONGEST_ANSWER_BYTES, LONGEST_CONNECT_S, Exchange, bounded_exchange, never_ends
from batcher.service.masking import find_secrets, keep_maskable, mask_secrets
from batcher.service.service import CallError, CallRefused
from batcher.service.translation import call_translating_errors, none_where_missing

if TYPE_CHECKING:
    from openai import OpenAI

ADMIN_KEY = "OPENAI_ADMIN_KEY"
PATIENCE_S = 30.0
"""Seconds that a call may take: what it says is a help, for which nobody waits long."""
MOST_PAGES = 100
HOUR, DAY = 3_600, 86_400
LONGEST_BY_HOUR = 7 * DAY
"""Spans up to which usage is read by the hour, a page of 168; longer ones are read by the day."""


class ProjectLimits(NamedTuple):
    """What the project may ask of one model; None where OpenAI does not say."""

    requests_a_minute: int | None = None
    tokens_a_minute: int | None = None
    requests_a_day: int | None = None
    batch_tokens_a_day: int | None = None
    """`batch_1_day_max_input_tokens`: a hint for the enqueued-token limit."""


class SpendLimit(NamedTuple):
    """A hard limit of the project's spending in a month."""

    usd: float
    is_enforced: bool
    """Whether it is reached, and requests are refused for it."""


class ProjectSettings(NamedTuple):
    """What OpenAI says of the project."""

    project: str
    limits: ProjectLimits | None = None
    """None: it says nothing of the model."""
    spend: SpendLimit | None = None
    """None: none is set."""
    tiers: Sequence[str] | None = None
    """The service tiers that may be asked for beside the standard one; None: not known, or all."""
    problems: Sequence[str] = ()
    """What could not be read, as sentences."""


class UsageRow(NamedTuple):
    """What was used of one model, by batches or not."""

    model: str
    is_batch: bool
    requests: int = 0
    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0


class CostRow(NamedTuple):
    """What is billed of one line item, in dollars."""

    item: str
    usd: float


class AdminService:
    """The organization's endpoints over the openai client."""

    def __init__(self, client: "OpenAI", secrets: tuple[str, ...] = ()) -> None:
        self._client = client.with_options(max_retries=0)
        self._organization = self._client.admin.organization.with_raw_response
        self._projects = self._client.admin.organization.projects
        self._usage = self._client.admin.organization.usage.with_raw_response
        self._secrets = keep_maskable((client.admin_api_key or "", *secrets))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def find_project(self) -> str:
        """Return the id of the project: OPENAI_PROJECT_ID, else that of the only active one.

        Raises SetupError where there are several, and CallError.
        """
        named = os.environ.get("OPENAI_PROJECT_ID", "")
        if named:
            return named
        rows = self._read_list(lambda **page: self._projects.with_raw_response.list(limit=100, **page))
        found = [str(row["id"]) for row in rows if row.get("status") != "archived" and row.get("id")]
        if len(found) != 1:
            raise SetupError(
                f"{ADMIN_KEY} sees {len(found)} projects; set OPENAI_PROJECT_ID to the one that OPENAI_API_KEY is of"
            )
        return found[0]

    def read_project(self, model: str) -> ProjectSettings:
        """Return what is said of the project and the model. What cannot be read is a sentence among its problems."""
        try:
            project = self.find_project()
        except (SetupError, CallError) as error:
            return ProjectSettings("", problems=[describe_admin_problem(error)])
        problems: list[str] = []

        def read(what: str, call: Callable[[], Any]) -> Any:
            try:
                return call()
            except CallError as error:
                problems.append(f"{what} could not be read: {describe_admin_problem(error)}")
                return None

        limits = read("the rate limits of the project", lambda: self._read_limits(project, model))
        spend = read("the spend limit of the project", lambda: self._read_spend_limit(project))
        tiers = read("the service tiers of the project", lambda: self._read_tiers(project))
        return ProjectSettings(project, limits, spend, tiers, problems)

    def _read_limits(self, project: str, model: str) -> ProjectLimits | None:
        call = self._projects.rate_limits.with_raw_response.list_rate_limits
        rows = {str(row.get("model")): row for row in self._read_list(lambda **page: call(project, limit=100, **page))}
        row = rows.get(model) or rows.get(re.sub(r"-\d{4}-\d\d-\d\d$", "", model))
        if row is None:
            return None
        names = ("max_requests_per_1_minute", "max_tokens_per_1_minute", "max_requests_per_1_day")
        return ProjectLimits(*(_read_count(row, name) for name in (*names, "batch_1_day_max_input_tokens")))

    def _read_spend_limit(self, project: str) -> SpendLimit | None:
        call = self._projects.spend_limit.with_raw_response.retrieve
        found = none_where_missing(lambda: self._read(lambda: call(project)))
        cents = _read_count(found or {}, "threshold_amount")
        if found is None or cents is None:
            return None
        enforcement = found.get("enforcement")
        status = enforcement.get("status") if isinstance(enforcement, dict) else ""
        return SpendLimit(cents / 100, status == "enforcing")

    def _read_tiers(self, project: str) -> list[str] | None:
        call = self._projects.service_tier_settings.with_raw_response.retrieve
        found = none_where_missing(lambda: self._read(lambda: call(project)))
        tiers = (found or {}).get("enabled_tiers")
        return [str(tier) for tier in tiers] if isinstance(tiers, list) else None

    def read_usage(self, project: str, start: float, end: float) -> list[UsageRow]:
        """Return what the project has used in a span of time (epoch seconds), by model, widened to whole hours, or to
        days where it is longer than a week."""
        by_hour = end - start <= LONGEST_BY_HOUR
        width = HOUR if by_hour else DAY
        totals: dict[tuple[str, bool], UsageRow] = {}
        rows = self._read_buckets(
            lambda **page: self._usage.completions(
                start_time=int(start // width * width),
                end_time=int(end // width * width + width),
                bucket_width="1h" if by_hour else "1d",
                limit=LONGEST_BY_HOUR // HOUR if by_hour else 31,
                group_by=["model", "batch"],
                project_ids=[project],
                **page,
            )
        )
        names = (
            "num_model_requests", "input_tokens", "input_cached_tokens", "input_cache_write_tokens", "output_tokens"
        )  # fmt: skip
        for row in rows:
            key = (str(row.get("model") or ""), row.get("batch") is True)
            before = totals.get(key, UsageRow(*key))
            counts = [was + (_read_count(row, name) or 0) for was, name in zip(before[2:], names, strict=True)]
            totals[key] = UsageRow(*key, *counts)
        return sorted(totals.values())

    def read_costs(self, project: str, start: float, end: float) -> list[CostRow]:
        """Return what is billed to the project on the days (UTC) of a span of time, by line item, the dearest first."""
        totals: dict[str, float] = {}
        rows = self._read_buckets(
            lambda **page: self._usage.costs(
                start_time=int(start // DAY * DAY),
                end_time=int(end // DAY * DAY + DAY),
                bucket_width="1d",
                limit=180,
                group_by=["line_item"],
                project_ids=[project],
                **page,
            )
        )
        for row in rows:
            amount = row.get("amount")
            with suppress(TypeError, ValueError):
                usd = float(amount["value"]) if isinstance(amount, dict) else 0.0
                item = str(row.get("line_item") or "other")
                totals[item] = totals.get(item, 0.0) + usd
        return sorted((CostRow(item, usd) for item, usd in totals.items()), key=lambda row: -row.usd)

    def _read(self, call: Callable[[], Any]) -> dict[str, Any]:
        with bounded_exchange(Exchange(PATIENCE_S, LONGEST_ANSWER_BYTES, never_ends)):
            answer = call_translating_errors(call, self._secrets)
        content = getattr(answer, "http_response", answer).content
        return dict(read_object(content, "answer to the admin key", self._secrets))

    def _read_list(self, call: Callable[..., Any]) -> Iterator[dict[str, Any]]:
        """Yield the objects of a list, page by page."""
        page: dict[str, Any] = {}
        for _ in range(MOST_PAGES):
            found = self._read(partial(call, **page))
            rows = _objects_of(found.get("data"))
            yield from rows
            last = found.get("last_id") or (rows[-1].get("id") if rows else None)
            if not found.get("has_more") or not last:
                return
            page = {"after": str(last)}

    def _read_buckets(self, call: Callable[..., Any]) -> Iterator[dict[str, Any]]:
        """Yield the results of all buckets, page by page."""
        page: dict[str, Any] = {}
        for _ in range(MOST_PAGES):
            found = self._read(partial(call, **page))
            for bucket in _objects_of(found.get("data")):
                yield from _objects_of(bucket.get("results"))
            if not found.get("has_more") or not found.get("next_page"):
                return
            page = {"page": str(found["next_page"])}


def _objects_of(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _read_count(row: Mapping[str, Any], name: str) -> int | None:
    value = row.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def describe_admin_problem(error: Exception) -> str:
    """Return why an admin key was of no use, and what to do, as a part of a sentence."""
    if isinstance(error, CallRefused) and error.details.status == 401:
        return f"{ADMIN_KEY} is refused ({error}); export an admin key of this organization, or unset it"
    if isinstance(error, CallRefused) and error.details.status == 403:
        return f"{ADMIN_KEY} lacks the permission ({error}); export an admin key that may read it, or unset it"
    return str(error)


def connect_admin(timeout_s: float) -> AdminService | None:
    """Return the organization's endpoints; None where no admin key is set.

    Raises SetupError for a key that no header can carry, and for an address that is not given an admin key.
    """
    key, origin = os.environ.get(ADMIN_KEY, ""), read_origin()
    if not key:
        return None
    if not re.fullmatch(r"[!-~]+", key):
        raise SetupError(f"{ADMIN_KEY} holds a blank, a line break or a character beyond ASCII; export it again")
    if not is_openai_or_local(origin):
        raise SetupError(
            f"{ADMIN_KEY} is not sent to {origin}, as it is no address of OpenAI; unset it for this service"
        )
    import httpx2
    import openai

    from batcher.service.http_client import BoundedClient

    timeout = openai.Timeout(min(timeout_s, PATIENCE_S), connect=min(timeout_s, LONGEST_CONNECT_S))
    secrets = find_secrets(os.environ)
    try:
        http_client = BoundedClient(timeout=timeout, limits=openai.DEFAULT_CONNECTION_LIMITS)
        client = openai.OpenAI(
            api_key=os.environ.get("OPENAI_API_KEY") or "unused",
            admin_api_key=key,
            max_retries=0,
            timeout=timeout,
            http_client=http_client,
        )
    except httpx2.InvalidURL as error:
        raise SetupError("OPENAI_BASE_URL is no address; it looks like https://api.openai.com/v1") from error
    except openai.OpenAIError as error:
        raise SetupError(f"the client cannot be set up: {mask_secrets(str(error), secrets)}") from error
    return AdminService(client, secrets)
