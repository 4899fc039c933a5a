"""The requests and answers of /v1/moderations: one text, and in which categories it may do harm."""

import math
from collections.abc import Mapping

import orjson

from batcher.core.endpoints.values import Json, as_object, as_time, get_name, parse_token_usage
from batcher.core.failures import FailureClass
from batcher.core.model import Failure, JobVersion, LineResult

FLAGGED_FIELD = "flagged"
CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
"""The categories by which a text is judged, in the order of the official description (CreateModerationResponse)."""


def build_body(version: JobVersion, text: str) -> dict[str, object]:
    """Return the body of a request to judge one text."""
    return {"model": version.model, "input": text, **version.parameters}


def parse_body(line_id: str, reply: Json) -> LineResult:
    """Return the result in the body of an answer; its text is a JSON object of the fields of `name_fields`."""
    usage, model = parse_token_usage(reply, "prompt_tokens", "completion_tokens"), get_name(reply, "model")
    fault, text = _read_judgement(reply)
    failure = Failure(FailureClass.UNUSABLE, "no_result", fault) if fault else None
    ended = as_time(reply.get("created"))
    return LineResult(line_id, None if fault else text, failure, 200, model, "", usage, ended)


def read_text(reply: Json) -> str:
    """Return the judgement in the body of an answer as JSON; "" where it has none."""
    return _read_judgement(reply)[1]


def name_category(category: str) -> str:
    """Return the name of a category's field, which SQL and Python take as it is: `self_harm_intent`."""
    return category.replace("/", "_").replace("-", "_")


def name_score(category: str) -> str:
    """Return the name of the field with a category's score, from 0 to 1: `self_harm_intent_score`."""
    return f"{name_category(category)}_score"


def name_fields() -> Mapping[str, str]:
    """Return the fields of an answer with their types in DuckDB: whether a text is flagged, then each category and
    then each score."""
    return {
        FLAGGED_FIELD: "BOOLEAN",
        **{name_category(each): "BOOLEAN" for each in CATEGORIES},
        **{name_score(each): "DOUBLE" for each in CATEGORIES},
    }


def _read_judgement(reply: Json) -> tuple[str, str]:
    """Return what is wrong with the judgement of an answer, or "", and its fields as JSON.

    Categories that are not known here are kept, too; one that the model does not have is left out.
    """
    results = reply.get("results")
    if not isinstance(results, list) or len(results) != 1:
        return "the answer has no result for the text", ""
    result = as_object(results[0])
    flagged, flags, scores = result.get("flagged"), as_object(result.get("categories")), result.get("category_scores")
    if not isinstance(flagged, bool):
        return "the answer does not say whether the text is flagged", ""
    odd = [name for name, value in flags.items() if value is not None and not isinstance(value, bool)]
    if odd:
        return f"category {odd[0]} is neither true nor false", ""
    numbers = {name: value for name, value in as_object(scores).items() if value is not None}
    odd = [name for name, value in numbers.items() if not _is_finite_number(value)]
    if odd:
        return f"the score of category {odd[0]} is no number", ""
    fields = {
        FLAGGED_FIELD: flagged,
        **{name_category(name): value for name, value in flags.items() if value is not None},
        **{name_score(name): value for name, value in numbers.items()},
    }
    return "", orjson.dumps(fields).decode()


def _is_finite_number(value: object) -> bool:
    return type(value) in {int, float} and math.isfinite(value)  # type: ignore[arg-type]
