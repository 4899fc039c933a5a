"""The official description of files and batches, prepared for schemathesis with what OpenAI does and it lacks."""

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "openapi"
DESCRIPTION = FOLDER / "openai-subset.yaml"

Json = dict[str, Any]


def load_description() -> Json:
    """Return the official description as it is."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: Json = yaml.load(DESCRIPTION.read_text(encoding="utf-8"), Loader=loader)
    return found


def describe_files_and_batches() -> Json:
    """Return the description with the calls of files and batches alone, and these differences, each seen at OpenAI.

    Every call may be refused, with an ErrorResponse. Fields that need not be there may be null, as may the ids of an
    empty page. The content of a file is no JSON. A file of evals, which may be uploaded, says so.
    """
    found = load_description()
    found["paths"] = {path: calls for path, calls in found["paths"].items() if path.startswith(("/files", "/batches"))}
    del found["webhooks"]
    schemas = found["components"]["schemas"]
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    for calls in found["paths"].values():
        for call in calls.values():
            call["responses"]["default"] = {"description": "refused", "content": refused}
    for name in ("Batch", "BatchError", "OpenAIFile", "ListBatchesResponse"):
        required = schemas[name].get("required", ())
        _allow_null(schemas[name]["properties"], [key for key in schemas[name]["properties"] if key not in required])
    _allow_null(schemas["ListFilesResponse"]["properties"], ["first_id", "last_id"])
    schemas["OpenAIFile"]["properties"]["purpose"]["enum"].append("evals")
    content = found["paths"]["/files/{file_id}/content"]["get"]["responses"]["200"]
    content["content"] = {"application/octet-stream": {"schema": {"type": "string"}}}
    return found


def _allow_null(properties: Json, names: list[str]) -> None:
    for name in names:
        properties[name] = {"anyOf": [properties[name], {"type": "null"}]}
