"""The routes of the organization's endpoints, which take an admin key alone."""

from collections.abc import Mapping, Sequence

from batcher.sandbox.api import organization
from batcher.sandbox.base.errors import ApiError
from batcher.sandbox.web.messages import Reply, Request
from batcher.sandbox.web.paging import Paging
from batcher.sandbox.web.route import ApiCall, build_route

ORGANIZATION = "/v1/organization/"


def _missing_error(name: str) -> ApiError:
    return ApiError(404, f"No object with id '{name}' found.", code="not_found")


def _check_project(call: ApiCall) -> None:
    if call.name != call.sandbox.settings.project:
        raise ApiError(404, f"Project {call.name} not found.", code="not_found")


def _list_projects(call: ApiCall) -> Reply:
    found = [organization.describe_project(call.sandbox.settings, call.sandbox.now())]
    return _cut_page(call, found, 20)


def _list_rate_limits(call: ApiCall) -> Reply:
    _check_project(call)
    return _cut_page(call, organization.list_rate_limits(call.sandbox.settings, call.sandbox.now()), 100)


def _cut_page(call: ApiCall, found: Sequence[dict[str, object]], default: int) -> Reply:
    paging = Paging(default, 100, _missing_error)
    page, has_more = paging.cut_page(call.request, found, [str(each["id"]) for each in found])
    return Reply(paging.describe_page(page, has_more))


def _get_spend_limit(call: ApiCall) -> Reply:
    _check_project(call)
    return Reply(organization.describe_spend_limit(call.sandbox.settings, call.sandbox.ledger.billed_usd))


def _get_service_tiers(call: ApiCall) -> Reply:
    _check_project(call)
    return Reply(organization.describe_service_tiers(call.sandbox.settings))


def _list_usage(call: ApiCall) -> Reply:
    return Reply(organization.list_usage(call.sandbox.ledger, _read_query(call.request), call.sandbox.now()))


def _list_costs(call: ApiCall) -> Reply:
    return Reply(organization.list_costs(call.sandbox.ledger, _read_query(call.request), call.sandbox.now()))


def _read_query(request: Request) -> Mapping[str, Sequence[str]]:
    """Return the values of each parameter; the client writes lists as `models[]=a&models[]=b`."""
    found: dict[str, list[str]] = {}
    for name, value in request.query:
        found.setdefault(name.removesuffix("[]"), []).append(value)
    return found


ROUTES = (
    build_route("GET", ORGANIZATION + "projects", "", _list_projects),
    build_route("GET", ORGANIZATION + "projects/{id}/rate_limits", "", _list_rate_limits),
    build_route("GET", ORGANIZATION + "projects/{id}/spend_limit", "", _get_spend_limit),
    build_route("GET", ORGANIZATION + "projects/{id}/service_tier_settings", "", _get_service_tiers),
    build_route("GET", ORGANIZATION + "usage/completions", "", _list_usage),
    build_route("GET", ORGANIZATION + "costs", "", _list_costs),
)
