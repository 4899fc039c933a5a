"""Rewrites what OpenAI would say into a dialect: a Batch object, a result line, an answer's text, a stranger's object.

Every function takes and returns JSON values, so that the machinery behind them knows of no dialect.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

from batcher.sandbox.base.chance import seeded_fraction
from batcher.sandbox.base.settings import Dialect, Faults

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
SYNONYMS: Mapping[str, str] = {"validating": "scheduling", "completed": "succeeded", "cancelled": "canceled"}
_SPOILED = "\ue000"  # stands for what no JSON encoder writes, until the text is encoded
_HUGE = 10**29
_LONE_SURROGATE = "\ud83d"

Json = dict[str, object]


# --- batches ----------------------------------------------------------------------------------------------------------


def rewrite_batch(batch: Mapping[str, object], dialect: Dialect, quoted_text: str = "") -> Json:
    """Return a Batch object as the dialect has it."""
    ended = batch["status"] in ENDED
    found = {
        **batch,
        "request_counts": _rewrite_counts(batch["request_counts"], dialect.counts, ended),
        "errors": _rewrite_errors(batch["errors"], dialect.errors, quoted_text),
        "status": _rewrite_status(str(batch["status"]), dialect.statuses),
    }
    if dialect.times == "iso":
        found |= {name: format_iso_time(value) for name, value in found.items() if name.endswith("_at")}
    return {name: value for name, value in found.items() if name not in dialect.omitted}


def rewrite_created_batch(batch: Json, dialect: Dialect) -> Json:
    """Return what the answer to `create` holds of a rewritten Batch object."""
    return {name: batch[name] for name in dialect.create_fields or batch if name in batch}


def format_iso_time(value: object) -> object:
    """Return an epoch time as an ISO 8601 text, and anything else as it is."""
    return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z") if isinstance(value, int) else value


def _rewrite_status(status: str, statuses: str) -> str:
    if statuses == "upper":
        return status.upper()
    return SYNONYMS.get(status, status) if statuses == "synonyms" else status


def _rewrite_counts(counts: object, told: str, ended: bool) -> object:
    """Return the counts of a batch; all but `none` are told truly until it has ended."""
    if told == "none":
        return None
    if not ended or not isinstance(counts, Mapping):
        return counts
    total, completed, failed = counts["total"], counts["completed"], counts["failed"]
    lies: Mapping[str, object] = {
        "zero": {"total": total, "completed": 0, "failed": 0},
        "stale": {"total": total, "completed": completed // 2, "failed": 0},
        "all_failed": {"total": total, "completed": 0, "failed": total},
        "completed_counts_failed": {"total": total, "completed": completed + failed, "failed": failed},
        "gone": None,
    }
    return lies.get(told, counts)


def _rewrite_errors(errors: object, form: str, quoted_text: str) -> object:
    if not isinstance(errors, Mapping):
        return errors
    rows = [{**each, "message": quote_text(str(each["message"]), quoted_text)} for each in errors["data"]]
    if form == "text":
        return "; ".join(str(each["message"]) for each in rows)
    return rows if form == "array" else {**errors, "data": rows}


def quote_text(message: str, quoted_text: str) -> str:
    """Return a message that quotes a text, if there is one."""
    return f"{message} (sent: {quoted_text})" if quoted_text else message


# --- lines ------------------------------------------------------------------------------------------------------------


def rewrite_line(row: Json, dialect: Dialect, quoted_text: str = "") -> Json:
    """Return a line of a result file as the dialect has it."""
    if quoted_text:
        row = _quote_in_line(row, quoted_text)
    response = row["response"]
    if not isinstance(response, Mapping):
        return row
    if dialect.status_in_words and response["status_code"] not in (0, 200):
        return {**row, "response": None, "error": _put_in_words(str(row["custom_id"]), response)}
    if dialect.body_as_text and response["body"] is not None:
        return {**row, "response": {**response, "body": orjson.dumps(response["body"]).decode()}}
    return row


def _quote_in_line(row: Json, quoted_text: str) -> Json:
    """Return the line with the text in its error's message, whether the error stands in it or in its response."""
    response, error = row["response"], row["error"]
    if isinstance(error, Mapping):
        return {**row, "error": {**error, "message": quote_text(str(error["message"]), quoted_text)}}
    body = response["body"] if isinstance(response, Mapping) else None
    if not isinstance(response, Mapping) or not isinstance(body, Mapping) or "error" not in body:
        return row
    told = {**body["error"], "message": quote_text(str(body["error"]["message"]), quoted_text)}
    return {**row, "response": {**response, "body": {**body, "error": told}}}


def _put_in_words(custom_id: str, response: Mapping[str, object]) -> Json:
    """Return the error of a failed line whose status stands in words alone, in the words of one server or another."""
    status, body = response["status_code"], response["body"]
    message = body["error"]["message"] if isinstance(body, Mapping) else ""
    if seeded_fraction(0, "words", custom_id) < 0.5:
        return {"code": "request_failed", "message": f"Error code: {status} - {message}"}
    return {"code": "inference_failed", "message": f"the engine returned HTTP {status} status={status}: {message}"}


# --- the text of an answer --------------------------------------------------------------------------------------------


def spoil_answer(body: Json, faults: Faults, seed: int, custom_id: str) -> None:
    """Put what the faults say into the answer's text: half a surrogate pair or a NUL, escaped in the answer's JSON."""
    kinds = (("surrogate", faults.lone_surrogates, "\\ud83d"), ("nul", faults.nul_texts, "\\u0000"))
    for name, share, escape in kinds:
        if share and seeded_fraction(seed, name, custom_id) < share:
            _spoil_parts(body, escape)


def _spoil_parts(body: Json, escape: str) -> None:
    """Spoil the content of a chat completion's choices, or of a response's output."""
    for name in ("choices", "output", "content"):
        parts = body.get(name)
        for part in parts if isinstance(parts, list) else []:
            _spoil_parts(part, escape)
    message = body.get("message")
    if isinstance(message, dict):
        message["content"] = spoil_text(message["content"], escape)
    elif "text" in body and body.get("type") == "output_text":
        body["text"] = spoil_text(body["text"], escape)


def spoil_text(content: object, escape: str) -> object:
    """Return JSON text with an escape for the last letter of its longest string; what holds none, as it is."""
    try:
        value = orjson.loads(content) if isinstance(content, str) else None
    except orjson.JSONDecodeError:
        return content
    longest = max(_list_texts(value), key=len, default="")
    if not longest:
        return content
    text = orjson.dumps(value).decode()
    spoiled = orjson.dumps(longest[:-1] + _SPOILED).decode().replace(_SPOILED, escape)
    return text.replace(orjson.dumps(longest).decode(), spoiled, 1)


def _list_texts(value: object) -> Sequence[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in _list_texts(each)]


# --- a stranger's object ----------------------------------------------------------------------------------------------


def build_odd_object(kind: str, name: str, now: float) -> Json:
    """Return somebody else's batch or file (`name`) that no reader expects, of a kind of ODD_OBJECTS."""
    found: Json = {"id": f"{name}_stranger_{kind}", "object": name, "created_at": int(now), "status": "completed"}
    if name == "file":
        found |= {"purpose": "batch", "filename": "stranger.jsonl", "bytes": 1}
    else:
        counts = {"total": 1, "completed": 1, "failed": 0}
        found |= {"input_file_id": "file-stranger", "request_counts": counts, "errors": None, "metadata": None}
    if kind in ("no_id", "no_time"):
        del found["id" if kind == "no_id" else "created_at"]
    elif kind == "surrogates":
        text = f"odd {_LONE_SURROGATE} and \x00"
        error = {"code": text, "message": text, "line": None, "param": text}
        found |= {"id": f"{name}_{_LONE_SURROGATE}", "status": text, "filename": text, "metadata": {text: text}}
        found |= {"input_file_id": text, "errors": {"object": "list", "data": [error]}}
    elif kind == "huge_numbers":
        long_line: Json = {"code": "invalid_request", "message": "odd", "line": _HUGE, "param": None}
        found |= {"created_at": _HUGE, "expires_at": _HUGE, "bytes": _HUGE, "errors": {"data": [long_line]}}
        found |= {"request_counts": {"total": _HUGE, "completed": -_HUGE, "failed": _HUGE}}
    return found
