"""The calls of the API: which path does what. Each takes a `Call` and returns a `Reply`, or raises an `ApiError`."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from batcher.sandbox.answers import models
from batcher.sandbox.answers.requests import CHAT, RESPONSES
from batcher.sandbox.api.batches import read_limit
from batcher.sandbox.api.sandbox import Sandbox
from batcher.sandbox.base.chance import hex32
from batcher.sandbox.base.errors import ApiError, invalid_value, no_batch, no_file, no_model
from batcher.sandbox.base.forms import read_form
from batcher.sandbox.web.messages import Reply, Request, list_json, page_after


@dataclass(frozen=True)
class Call:
    """A request on its way; `name` is the id in its path, `lost` says that its answer won't arrive."""

    sandbox: Sandbox
    request: Request
    name: str
    number: int
    lost: bool


Handler = Callable[[Call], Reply]


@dataclass(frozen=True)
class Route:
    """`operation` is the name that faults know the call by, or "" for none."""

    method: str
    pattern: re.Pattern[str]
    operation: str
    handler: Handler


def _upload(call: Call) -> Reply:
    """Read the form before the lock is taken: 200 MB are copied meanwhile."""
    sandbox = call.sandbox
    target = sandbox.incoming / hex32(sandbox.settings.seed, "upload", call.number)
    try:
        form = read_form(call.request.body, call.request.headers.get("content-type", ""), target)
        with sandbox.lock:
            return Reply(sandbox.add_file(form, target).to_json())
    finally:
        target.unlink(missing_ok=True)


def _list_files(call: Call) -> Reply:
    request, sandbox = call.request, call.sandbox
    order = request.parameter("order") or "desc"
    if order not in ("asc", "desc"):
        raise invalid_value("order", order, ("asc", "desc"))
    limit = read_limit(request.parameter("limit"), 10_000, 10_000)
    found = sandbox.files.visible(request.parameter("purpose"), sandbox.now(), order == "desc")
    after = request.parameter("after")
    rest = page_after(found, [each.id for each in found], after, no_file(after or ""))
    return Reply(list_json([each.to_json() for each in rest[:limit]], len(rest) > limit))


def _get_file(call: Call) -> Reply:
    return Reply(call.sandbox.files.get(call.name, call.sandbox.now()).to_json())


def _delete_file(call: Call) -> Reply:
    return Reply(call.sandbox.files.delete(call.name, call.sandbox.now()))


def _content(call: Call) -> Reply:
    sandbox = call.sandbox
    stored = sandbox.files.get(call.name, sandbox.now())
    truncated = sandbox.chance.truncated(sandbox.faults)
    return Reply(file=stored.path, filename=stored.filename, truncated=truncated)


def _create_batch(call: Call) -> Reply:
    batch = call.sandbox.create_batch(call.request.json(), call.lost)
    return Reply(call.sandbox.batch_json(batch) if batch else {})


def _list_batches(call: Call) -> Reply:
    sandbox, after = call.sandbox, call.request.parameter("after")
    limit = read_limit(call.request.parameter("limit"), 20, 100)
    found = sandbox.listed_batches()
    rest = page_after(found, [each.id for each in found], after, no_batch(after or ""))
    return Reply(list_json([sandbox.batch_json(each) for each in rest[:limit]], len(rest) > limit))


def _get_batch(call: Call) -> Reply:
    return Reply(call.sandbox.batch_json(call.sandbox.batch(call.name)))


def _cancel_batch(call: Call) -> Reply:
    return Reply(call.sandbox.batch_json(call.sandbox.cancel_batch(call.name)))


def _chat(call: Call) -> Reply:
    found = call.sandbox.direct.call(CHAT, call.request.json(), call.sandbox.now())
    return Reply(found.body, headers=found.headers)


def _responses(call: Call) -> Reply:
    found = call.sandbox.direct.call(RESPONSES, call.request.json(), call.sandbox.now())
    return Reply(found.body, headers=found.headers)


def _list_chats(call: Call) -> Reply:
    """Answer with the stored completions, by model and `metadata[key]=value`."""
    request = call.request
    wanted = {key[9:-1]: value for key, value in request.query if key.startswith("metadata[") and key.endswith("]")}
    found = call.sandbox.direct.find_stored(request.parameter("model"), wanted, request.parameter("order") == "desc")
    after = request.parameter("after")
    rest = page_after(found, [str(each["id"]) for each in found], after, _no_chat(after or ""))
    limit = read_limit(request.parameter("limit"), 20, 100)
    return Reply(list_json(rest[:limit], len(rest) > limit))


def _get_chat(call: Call) -> Reply:
    found = call.sandbox.direct.stored.get(call.name)
    if found is None:
        raise _no_chat(call.name)
    return Reply(found)


def _no_chat(name: str) -> ApiError:
    return ApiError(404, f"Chat completion with id '{name}' not found.", code="not_found")


def _list_models(call: Call) -> Reply:
    names = models.available(call.sandbox.now(), call.sandbox.settings.limits)
    return Reply({"object": "list", "data": [models.describe(name) for name in names]})


def _get_model(call: Call) -> Reply:
    if call.name not in models.available(call.sandbox.now(), call.sandbox.settings.limits):
        raise no_model(call.name)
    return Reply(models.describe(call.name))


def _route(method: str, path: str, operation: str, handler: Handler) -> Route:
    return Route(method, re.compile(path.replace("{id}", "([^/]+)") + "/?"), operation, handler)


ROUTES = (
    _route("POST", "/v1/files", "upload", _upload),
    _route("GET", "/v1/files", "list", _list_files),
    _route("GET", "/v1/files/{id}", "retrieve", _get_file),
    _route("DELETE", "/v1/files/{id}", "delete", _delete_file),
    _route("GET", "/v1/files/{id}/content", "content", _content),
    _route("POST", "/v1/batches", "create", _create_batch),
    _route("GET", "/v1/batches", "list", _list_batches),
    _route("GET", "/v1/batches/{id}", "retrieve", _get_batch),
    _route("POST", "/v1/batches/{id}/cancel", "cancel", _cancel_batch),
    _route("POST", CHAT, "direct", _chat),
    _route("GET", CHAT, "", _list_chats),
    _route("GET", CHAT + "/{id}", "", _get_chat),
    _route("POST", RESPONSES, "direct", _responses),
    _route("GET", "/v1/models", "", _list_models),
    _route("GET", "/v1/models/{id}", "", _get_model),
)
