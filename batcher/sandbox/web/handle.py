"""One function from a request to a response: authentication, routing, faults of calls, errors, headers. No sockets."""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from email.utils import formatdate
from urllib.parse import urlsplit

import orjson

from batcher.sandbox.api.sandbox import Sandbox
from batcher.sandbox.base.chance import seeded_fraction, seeded_hex_id
from batcher.sandbox.base.errors import KEYS_PAGE, MISSING_KEY, NO_ADMIN_KEY, ApiError, overloaded_error
from batcher.sandbox.base.faults import LOST, REFUSED, RESET, is_within_span
from batcher.sandbox.base.settings import SettingError
from batcher.sandbox.web import admin
from batcher.sandbox.web.messages import CLOSED, TIMEOUT, WHOLE, Reply, Request, Response
from batcher.sandbox.web.organization import ORGANIZATION
from batcher.sandbox.web.route import ApiCall, Route
from batcher.sandbox.web.routes import ROUTES

__all__ = ["Request", "Response", "handle_request", "is_loopback_host", "refuse_unread"]

_ADMIN = "/_sandbox"
_BEARER = re.compile(r"Bearer\s+(\S+)", re.IGNORECASE)


def handle_request(sandbox: Sandbox, request: Request) -> Response:
    """Answer a request. Safe to call from several threads."""
    number = sandbox.next_request_number()
    if request.path.startswith(_ADMIN):
        return _build_response(sandbox, number, lambda: _handle_admin_request(sandbox, request))
    return _handle_api_request(sandbox, request, number)


def refuse_unread(sandbox: Sandbox, request: Request) -> Response | None:
    """Return the refusal of a request whose body need not be read, or None. `request.body` is not looked at.

    A web page in the user's browser reaches the loopback interface too: directly, with its own origin, or by a name of
    its own that it lets point here. It may not change the sandbox. What comes without a key is not written to disk.
    """
    try:
        if request.path.startswith(_ADMIN):
            _check_origin(request)
        else:
            _check_api_key(sandbox, request)
    except ApiError as error:
        return _build_error_response(sandbox, sandbox.next_request_number(), error)
    return None


def _check_origin(request: Request) -> None:
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if not is_loopback_host(urlsplit(f"//{host}").hostname or ""):
        raise ApiError(403, f"The sandbox's own routes are called by a loopback address, not as {host!r}.")
    if origin is not None and origin != f"http://{host}":
        raise ApiError(403, f"The sandbox's own routes are not for web pages of {origin!r}.")


def is_loopback_host(host: str) -> bool:
    """Return whether a host, without its port, is a loopback address or `localhost`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _handle_admin_request(sandbox: Sandbox, request: Request) -> Reply:
    with sandbox.lock:
        try:
            return admin.answer_request(sandbox, request)
        except SettingError as error:
            raise ApiError(400, str(error), code="unknown_setting") from error


def _handle_api_request(sandbox: Sandbox, request: Request, number: int) -> Response:
    try:
        with sandbox.lock:
            now = sandbox.run_due_events()
            _check_api_key(sandbox, request)
            if is_within_span(sandbox.faults.outage_between, now):
                raise overloaded_error()
            route, name = _find_route(request)
            fate = sandbox.fault_sampler.draw_fate(sandbox.faults, route.operation)
            times_out = sandbox.fault_sampler.should_time_out(route.operation)
    except ApiError as error:
        return _build_error_response(sandbox, number, error)
    if request.method == "POST" and sandbox.faults.redirect_posts:
        headers = {**_common_headers(sandbox, number), "location": sandbox.faults.redirect_posts + request.path}
        return Response(307, headers)
    if fate == REFUSED:
        return _build_error_response(sandbox, number, overloaded_error())
    if fate == RESET:
        return Response(0, {}, ending=CLOSED)
    call = ApiCall(sandbox, request, name, number, fate == LOST)
    response = _build_response(sandbox, number, lambda: _run_route(route, call))
    if fate == LOST:
        return Response(0, {}, ending=TIMEOUT if times_out else CLOSED)
    return response


def _run_route(route: Route, call: ApiCall) -> Reply:
    if route.operation == "upload":
        return route.handler(call)  # takes the lock itself, after the copying
    with call.sandbox.lock:
        return route.handler(call)


def _check_api_key(sandbox: Sandbox, request: Request) -> None:
    found = _BEARER.fullmatch(request.headers.get("authorization", "").strip())
    if found is None:
        raise ApiError(401, MISSING_KEY)
    key, expected = found[1], sandbox.settings.api_key
    if request.path.startswith(ORGANIZATION):
        expected = sandbox.settings.admin_key
        if not key.startswith("sk-admin"):
            raise ApiError(403, NO_ADMIN_KEY)
    if expected is not None and key != expected:
        shown = f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 12 else "*" * len(key)
        message = f"Incorrect API key provided: {shown}. You can find your API key at {KEYS_PAGE}."
        raise ApiError(401, message, code="invalid_api_key")


def _find_route(request: Request) -> tuple[Route, str]:
    found = [(route, match) for route in ROUTES if (match := route.pattern.fullmatch(request.path))]
    if not found:
        raise ApiError(404, f"Invalid URL ({request.method} {request.path})")
    for route, match in found:
        if route.method == request.method:
            return route, match[1] if match.lastindex else ""
    message = (
        f"Not allowed to {request.method} on {request.path}. (HINT: Perhaps you meant to use a different HTTP method?)"
    )
    allowed = ", ".join(sorted(route.method for route, _ in found))
    raise ApiError(405, message, code="method_not_supported", headers={"allow": allowed})


def _build_response(sandbox: Sandbox, number: int, act: Callable[[], Reply]) -> Response:
    try:
        reply = act()
    except ApiError as error:
        return _build_error_response(sandbox, number, error)
    headers = {**_common_headers(sandbox, number), **reply.headers}
    delay = sandbox.faults.slow_s
    if reply.file is None:
        return Response(200, headers, _encode_json(reply.json), WHOLE, False, delay)
    headers["content-type"] = "application/octet-stream"
    filename = re.sub(r'[^ -~]|["\\]', "_", reply.filename)
    headers["content-disposition"] = f'attachment; filename="{filename}"'
    return Response(200, headers, reply.file, WHOLE, reply.truncated, delay, reply.length)


def _encode_json(value: object) -> bytes:
    """Return the JSON; lone surrogates and long integers, which only odd objects hold, need the slow encoder."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()


def _build_error_response(sandbox: Sandbox, number: int, error: ApiError) -> Response:
    headers = {**_common_headers(sandbox, number), **error.headers}
    return Response(error.status, headers, orjson.dumps(error.to_json()), WHOLE, False, sandbox.faults.slow_s)


def _common_headers(sandbox: Sandbox, number: int) -> Mapping[str, str]:
    """Return the headers of every answer; the date is the sandbox's."""
    return {
        "content-type": "application/json",
        "date": formatdate(sandbox.now(), usegmt=True),
        "openai-organization": sandbox.settings.organization,
        "openai-processing-ms": str(20 + int(seeded_fraction(sandbox.settings.seed, "processing", number) * 400)),
        "openai-version": "2020-10-01",
        "x-request-id": f"req_{seeded_hex_id(sandbox.settings.id_seed, 'request', number)}",
    }
