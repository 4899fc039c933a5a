"""The errors that calls answer with, in the service's own words where they are known."""

from collections.abc import Mapping
from dataclasses import dataclass, field

INVALID = "invalid_request_error"
KEYS_PAGE = "https://platform.openai.com/account/api-keys"

MISSING_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the "
    "API from your browser and are prompted for a username and password. You can obtain an API key from "
    f"{KEYS_PAGE}."
)
NO_ADMIN_KEY = "You have insufficient permissions for this operation. Missing scopes: api.management.read."
OVERLOADED = "The engine is currently overloaded, please try again later"
QUOTA_GONE = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this "
    "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)


@dataclass
class ApiError(Exception):
    """An HTTP answer that is not 200: the error object, and headers or top-level fields that go with it.

    `bare` is a body without an error object, as servers have it that are not OpenAI's.
    """

    status: int
    message: str
    type: str = INVALID
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    bare: Mapping[str, object] | None = None

    def to_json(self) -> dict[str, object]:
        """Return the JSON body."""
        if self.bare is not None:
            return dict(self.bare)
        return {"error": build_error_object(self.message, self.type, self.param, self.code), **self.extra}


def build_error_object(message: str, kind: str, param: str | None, code: str | None) -> dict[str, object]:
    """Return OpenAI's error object; all four fields are always there."""
    return {"message": message, "type": kind, "param": param, "code": code}


def missing_parameter_error(name: str) -> ApiError:
    return ApiError(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def invalid_type_error(name: str, expected: str, value: object) -> ApiError:
    message = f"Invalid type for '{name}': expected {expected}, but got {describe_json_type(value)} instead."
    return ApiError(400, message, param=name, code="invalid_type")


def invalid_value_error(name: str, value: object, valid: tuple[str, ...]) -> ApiError:
    shown = ", ".join(f"'{each}'" for each in valid)
    message = f"Invalid value: '{value}'. Supported values are: {shown}."
    return ApiError(400, message, param=name, code="invalid_value")


def unsupported_parameter_error(name: str) -> ApiError:
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    return ApiError(400, message, param=name, code="unsupported_parameter")


def out_of_range_error(name: str, value: int, low: int, high: int) -> ApiError:
    """Return the error for a whole number below `low` or above `high`."""
    below = value < low
    words = ("below minimum", ">=", low) if below else ("above maximum", "<=", high)
    message = (
        f"Invalid '{name}': integer {words[0]} value. Expected a value {words[1]} {words[2]}, but got {value} instead."
    )
    return ApiError(400, message, param=name, code=f"integer_{'below_min' if below else 'above_max'}_value")


def describe_json_type(value: object) -> str:
    """Return what a JSON value is, with its article, as the service's messages put it."""
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "a boolean"),
        (int, "an integer"),
        (float, "a decimal"),
        (str, "a string"),
        (list, "an array"),
        (dict, "an object"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def file_not_found_error(file_id: str) -> ApiError:
    return ApiError(404, f"No such File object: {file_id}", param="id")


def input_not_found_error(file_id: str, project: str) -> ApiError:
    message = f"Cannot find file {file_id}, or project {project} does not have access to it."
    return ApiError(400, message, param="file_id")


def batch_not_found_error(batch_id: str) -> ApiError:
    return ApiError(404, f"No batch found with id '{batch_id}'.")


def model_not_found_error(model: str) -> ApiError:
    message = f"The model '{model}' does not exist or you do not have access to it."
    return ApiError(404, message, param="model", code="model_not_found")


def queue_full_message(model: str, organization: str, limit: int) -> str:
    """Return the text of `token_limit_exceeded`, as a batch error or as an HTTP 400."""
    return (
        f"Enqueued token limit reached for {model} in organization {organization}. Limit: {limit:,} enqueued tokens. "
        "Please try again once some in_progress batches have been completed."
    )


def overloaded_error() -> ApiError:
    return ApiError(503, OVERLOADED, type="server_error", code="service_unavailable")
