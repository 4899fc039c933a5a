"""The calls of the API by method and path. Each takes an `ApiCall` and returns a `Reply`, or raises an `ApiError`."""

from pathlib import Path

from batcher.sandbox.answers import models
from batcher.sandbox.answers.requests import CHAT, EMBEDDINGS, MODERATIONS, RESPONSES
from batcher.sandbox.api.dialect import build_odd_object, rewrite_created_batch
from batcher.sandbox.base.chance import seeded_hex_id
from batcher.sandbox.base.errors import (
    ApiError,
    batch_not_found_error,
    file_not_found_error,
    invalid_value_error,
    model_not_found_error,
)
from batcher.sandbox.base.forms import parse_multipart_form
from batcher.sandbox.web import organization
from batcher.sandbox.web.messages import Reply, Request
from batcher.sandbox.web.paging import Paging
from batcher.sandbox.web.route import ApiCall, build_route


def _upload_file(call: ApiCall) -> Reply:
    """Read the form before the lock is taken: 200 MB are copied meanwhile."""
    sandbox = call.sandbox
    target = sandbox.incoming / seeded_hex_id(sandbox.settings.id_seed, "upload", call.number)
    try:
        form = parse_multipart_form(call.request.body, call.request.headers.get("content-type", ""), target)
        with sandbox.lock:
            return Reply(sandbox.add_file(form, target).to_json())
    finally:
        target.unlink(missing_ok=True)


def _list_files(call: ApiCall) -> Reply:
    request, sandbox = call.request, call.sandbox
    newest_first = _is_newest_first(request, "desc")
    found = sandbox.files.list_files(request.query_parameter("purpose"), sandbox.now(), newest_first)
    paging = Paging(10_000, 10_000, file_not_found_error, "files", sandbox.dialect)
    page, has_more = paging.cut_page(request, found, [each.id for each in found])
    return Reply(paging.describe_page([each.to_json() for each in page], has_more, _odd_objects(call, paging, "file")))


def _is_newest_first(request: Request, usual: str) -> bool:
    """Return whether a list is asked for from its newest on; `usual` is the order where none is named."""
    named = request.query_parameter("order")
    if named not in (None, "asc", "desc"):
        raise invalid_value_error("order", named, ("asc", "desc"))
    return (named or usual) == "desc"


def _odd_objects(call: ApiCall, paging: Paging, name: str) -> list[dict[str, object]]:
    """Return the strangers' objects that lead a list, on its first page."""
    kinds = call.sandbox.dialect.odd_objects if paging.is_first_page(call.request) else ()
    return [build_odd_object(kind, name, call.sandbox.now()) for kind in kinds]


def _get_file(call: ApiCall) -> Reply:
    return Reply(call.sandbox.files.get(call.name, call.sandbox.now()).to_json())


def _delete_file(call: ApiCall) -> Reply:
    return Reply(call.sandbox.files.delete(call.name, call.sandbox.now()))


def _get_file_content(call: ApiCall) -> Reply:
    sandbox = call.sandbox
    stored = sandbox.files.get(call.name, sandbox.now())
    truncated = sandbox.fault_sampler.should_truncate(sandbox.faults)
    cut = sandbox.fault_sampler.draw_cut(sandbox.faults) if stored.purpose == "batch_output" else ""
    length = _cut_length(stored.path, cut) if cut else None
    return Reply(file=stored.path, filename=stored.filename, truncated=truncated, length=length)


def _cut_length(path: Path, cut: str) -> int:
    """Return where a file is cut: in its last line, or at half, inside a line or at its end."""
    size = path.stat().st_size
    if cut == "in_last_line":
        return max(0, size - 7)
    with path.open("rb") as file:
        file.seek(size // 2)
        end = file.tell() + len(file.readline())
    return end if cut == "at_line" else max(0, end - 7)


def _create_batch(call: ApiCall) -> Reply:
    sandbox = call.sandbox
    batch = sandbox.create_batch(call.request.parse_json(), call.lost)
    return Reply(rewrite_created_batch(sandbox.describe_batch(batch), sandbox.dialect) if batch else {})


def _list_batches(call: ApiCall) -> Reply:
    sandbox = call.sandbox
    found = sandbox.list_batches()
    paging = Paging(20, 100, batch_not_found_error, "batches", sandbox.dialect)
    page, has_more = paging.cut_page(call.request, found, [each.id for each in found])
    listed = [{"id": each.id, **sandbox.describe_listed_batch(each)} for each in page]
    return Reply(paging.describe_page(listed, has_more, _odd_objects(call, paging, "batch")))


def _get_batch(call: ApiCall) -> Reply:
    return Reply(call.sandbox.describe_batch(call.sandbox.get_batch(call.name)))


def _cancel_batch(call: ApiCall) -> Reply:
    return Reply(call.sandbox.describe_batch(call.sandbox.cancel_batch(call.name)))


def _create_chat_completion(call: ApiCall) -> Reply:
    found = call.sandbox.direct.answer_request(CHAT, call.request.parse_json(), call.sandbox.now())
    return Reply(found.body, headers=found.headers)


def _create_response(call: ApiCall) -> Reply:
    found = call.sandbox.direct.answer_request(RESPONSES, call.request.parse_json(), call.sandbox.now())
    return Reply(found.body, headers=found.headers)


def _create_embedding(call: ApiCall) -> Reply:
    found = call.sandbox.direct.answer_request(EMBEDDINGS, call.request.parse_json(), call.sandbox.now())
    return Reply(found.body, headers=found.headers)


def _create_moderation(call: ApiCall) -> Reply:
    found = call.sandbox.direct.answer_request(MODERATIONS, call.request.parse_json(), call.sandbox.now())
    return Reply(found.body, headers=found.headers)


def _list_chat_completions(call: ApiCall) -> Reply:
    """Answer with the stored completions, by model and `metadata[key]=value`."""
    request = call.request
    wanted = {key[9:-1]: value for key, value in request.query if key.startswith("metadata[") and key.endswith("]")}
    found = call.sandbox.direct.find_stored_completions(
        request.query_parameter("model"), wanted, _is_newest_first(request, "asc")
    )
    paging = Paging(20, 100, _chat_not_found_error)
    page, has_more = paging.cut_page(request, found, [str(each["id"]) for each in found])
    return Reply(paging.describe_page(page, has_more))


def _get_chat_completion(call: ApiCall) -> Reply:
    found = call.sandbox.direct.stored.get(call.name)
    if found is None:
        raise _chat_not_found_error(call.name)
    return Reply(found)


def _chat_not_found_error(name: str) -> ApiError:
    return ApiError(404, f"Chat completion with id '{name}' not found.", code="not_found")


def _list_models(call: ApiCall) -> Reply:
    names = models.list_available(call.sandbox.now(), call.sandbox.settings.limits)
    return Reply({"object": "list", "data": [models.model_to_json(name) for name in names]})


def _get_model(call: ApiCall) -> Reply:
    if call.name not in models.list_available(call.sandbox.now(), call.sandbox.settings.limits):
        raise model_not_found_error(call.name)
    return Reply(models.model_to_json(call.name))


ROUTES = (
    build_route("POST", "/v1/files", "upload", _upload_file),
    build_route("GET", "/v1/files", "list", _list_files),
    build_route("GET", "/v1/files/{id}", "retrieve", _get_file),
    build_route("DELETE", "/v1/files/{id}", "delete", _delete_file),
    build_route("GET", "/v1/files/{id}/content", "content", _get_file_content),
    build_route("POST", "/v1/batches", "create", _create_batch),
    build_route("GET", "/v1/batches", "list", _list_batches),
    build_route("GET", "/v1/batches/{id}", "retrieve", _get_batch),
    build_route("POST", "/v1/batches/{id}/cancel", "cancel", _cancel_batch),
    build_route("POST", CHAT, "direct", _create_chat_completion),
    build_route("GET", CHAT, "", _list_chat_completions),
    build_route("GET", CHAT + "/{id}", "", _get_chat_completion),
    build_route("POST", RESPONSES, "direct", _create_response),
    build_route("POST", EMBEDDINGS, "direct", _create_embedding),
    build_route("POST", MODERATIONS, "direct", _create_moderation),
    build_route("GET", "/v1/models", "", _list_models),
    build_route("GET", "/v1/models/{id}", "", _get_model),
    *organization.ROUTES,
)
