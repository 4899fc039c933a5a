"""The routes under /_sandbox/: look into the sandbox and change it while it runs. No key is asked for."""

from collections.abc import Callable, Mapping

from batcher.sandbox.api.batches import Batch
from batcher.sandbox.api.sandbox import Sandbox
from batcher.sandbox.base.errors import ApiError
from batcher.sandbox.base.settings import SettingError, as_json
from batcher.sandbox.web.messages import Reply, Request

_LIMITS = ("enqueued_tokens", "phantom_tokens", "limits", "rpm", "tpm", "rpd", "refuse_at_create")


def answer(sandbox: Sandbox, request: Request) -> Reply:
    """Answer an admin request; the caller holds the lock."""
    sandbox.advance()
    path = request.path.removeprefix("/_sandbox").strip("/")
    action, _, rest = path.partition("/")
    found = _ACTIONS.get((request.method, action))
    if found is None or (rest and action != "cancel"):
        valid = ", ".join(f"{method} /_sandbox/{name}" for method, name in _ACTIONS)
        raise ApiError(404, f"Invalid URL ({request.method} {request.path}); valid: {valid}")
    return Reply(found(sandbox, request))


def _health(sandbox: Sandbox, _request: Request) -> object:
    return {"status": "ok", "now": sandbox.now(), "batches": len(sandbox.lifecycle.batches)}


def _get_faults(sandbox: Sandbox, _request: Request) -> object:
    return as_json(sandbox.faults)


def _set_faults(sandbox: Sandbox, request: Request) -> object:
    sandbox.set_faults(request.json())
    return as_json(sandbox.faults)


def _get_settings(sandbox: Sandbox, _request: Request) -> object:
    return as_json(sandbox.settings)


def _set_limits(sandbox: Sandbox, request: Request) -> object:
    changes = request.json()
    unknown = sorted(set(changes) - set(_LIMITS))
    if unknown:
        raise SettingError(f"unknown name {', '.join(unknown)}; valid: {', '.join(_LIMITS)}")
    sandbox.set_limits(changes)
    return {name: as_json(sandbox.settings)[name] for name in _LIMITS}


def _ledger(sandbox: Sandbox, request: Request) -> object:
    ledger = sandbox.ledger
    ends = [{"batch_id": batch_id, "status": status, "time": time} for batch_id, status, time in ledger.finished]
    found: dict[str, object] = {"totals": ledger.totals(), "finished": ends}
    if request.parameter("full") == "1":
        found |= {"executions": ledger.executions(), "usable": ledger.usable(), "attempts": ledger.attempts()}
    return found


def _batches(sandbox: Sandbox, _request: Request) -> object:
    return {"now": sandbox.now(), "batches": [_timeline(each) for each in sandbox.lifecycle.batches.values()]}


def _timeline(batch: Batch) -> Mapping[str, object]:
    return {"ordinal": batch.ordinal, "enqueued_tokens": batch.tokens, "done": batch.done, **batch.to_json()}


def _advance(sandbox: Sandbox, request: Request) -> object:
    seconds = request.json().get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds < 0:
        raise SettingError(f"seconds must be a number from 0 up, not {seconds!r}")
    sandbox.skip(seconds)
    return {"now": sandbox.advance()}


def _cancel(sandbox: Sandbox, request: Request) -> object:
    return sandbox.cancel_batch(request.path.rstrip("/").rpartition("/")[2]).to_json()


_ACTIONS: Mapping[tuple[str, str], Callable[[Sandbox, Request], object]] = {
    ("GET", "health"): _health,
    ("GET", "faults"): _get_faults,
    ("POST", "faults"): _set_faults,
    ("GET", "settings"): _get_settings,
    ("POST", "limits"): _set_limits,
    ("GET", "ledger"): _ledger,
    ("GET", "batches"): _batches,
    ("POST", "advance"): _advance,
    ("POST", "cancel"): _cancel,
}
