"""The routes under /_sandbox/: look into the sandbox and change it while it runs. No key is asked for."""

from collections.abc import Callable, Mapping

from batcher.sandbox.api.batches import Batch
from batcher.sandbox.api.sandbox import Sandbox
from batcher.sandbox.base.errors import ApiError
from batcher.sandbox.base.settings import SettingError, settings_to_json
from batcher.sandbox.web.messages import Reply, Request

_LIMITS = (
    "enqueued_tokens", "phantom_tokens", "limits", "rpm", "tpm", "rpd", "refuse_at_create",
    "cache_writes", "reasoning_tokens", "spend_limit_usd", "enabled_tiers",
)  # fmt: skip


def answer_request(sandbox: Sandbox, request: Request) -> Reply:
    """Answer an admin request; the caller holds the lock."""
    sandbox.run_due_events()
    path = request.path.removeprefix("/_sandbox").strip("/")
    action, _, rest = path.partition("/")
    found = _ACTIONS.get((request.method, action))
    if found is None or (rest and action != "cancel"):
        valid = ", ".join(f"{method} /_sandbox/{name}" for method, name in _ACTIONS)
        raise ApiError(404, f"Invalid URL ({request.method} {request.path}); valid: {valid}")
    return Reply(found(sandbox, request))


def _get_health(sandbox: Sandbox, _request: Request) -> object:
    return {"status": "ok", "now": sandbox.now(), "batches": len(sandbox.lifecycle.batches)}


def _get_faults(sandbox: Sandbox, _request: Request) -> object:
    return settings_to_json(sandbox.faults)


def _update_faults(sandbox: Sandbox, request: Request) -> object:
    sandbox.update_faults(request.parse_json())
    return settings_to_json(sandbox.faults)


def _get_dialect(sandbox: Sandbox, _request: Request) -> object:
    return settings_to_json(sandbox.dialect)


def _update_dialect(sandbox: Sandbox, request: Request) -> object:
    sandbox.update_dialect(request.parse_json())
    return settings_to_json(sandbox.dialect)


def _get_settings(sandbox: Sandbox, _request: Request) -> object:
    return settings_to_json(sandbox.settings)


def _update_limits(sandbox: Sandbox, request: Request) -> object:
    changes = request.parse_json()
    unknown = sorted(set(changes) - set(_LIMITS))
    if unknown:
        raise SettingError(f"unknown name {', '.join(unknown)}; valid: {', '.join(_LIMITS)}")
    sandbox.update_settings(changes)
    return {name: settings_to_json(sandbox.settings)[name] for name in _LIMITS}


def _get_ledger(sandbox: Sandbox, request: Request) -> object:
    ledger = sandbox.ledger
    ends = [{"batch_id": batch_id, "status": status, "time": time} for batch_id, status, time in ledger.finished]
    found: dict[str, object] = {"totals": ledger.billing_totals(), "usd": ledger.billed_usd, "finished": ends}
    if request.query_parameter("full") == "1":
        found |= {
            "executions": ledger.execution_counts(),
            "usable": ledger.usable_counts(),
            "attempts": ledger.attempt_counts(),
        }
    return found


def _list_batches(sandbox: Sandbox, _request: Request) -> object:
    return {"now": sandbox.now(), "batches": [_batch_timeline(each) for each in sandbox.lifecycle.batches.values()]}


def _batch_timeline(batch: Batch) -> Mapping[str, object]:
    return {"ordinal": batch.ordinal, "enqueued_tokens": batch.tokens, "done": batch.done, **batch.to_json()}


def _advance_clock(sandbox: Sandbox, request: Request) -> object:
    seconds = request.parse_json().get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds < 0:
        raise SettingError(f"seconds must be a number from 0 up, not {seconds!r}")
    sandbox.advance_clock(seconds)
    return {"now": sandbox.run_due_events()}


def _cancel_batch(sandbox: Sandbox, request: Request) -> object:
    return sandbox.cancel_batch(request.path.rstrip("/").rpartition("/")[2]).to_json()


_ACTIONS: Mapping[tuple[str, str], Callable[[Sandbox, Request], object]] = {
    ("GET", "health"): _get_health,
    ("GET", "faults"): _get_faults,
    ("POST", "faults"): _update_faults,
    ("GET", "dialect"): _get_dialect,
    ("POST", "dialect"): _update_dialect,
    ("GET", "settings"): _get_settings,
    ("POST", "limits"): _update_limits,
    ("GET", "ledger"): _get_ledger,
    ("GET", "batches"): _list_batches,
    ("POST", "advance"): _advance_clock,
    ("POST", "cancel"): _cancel_batch,
}
