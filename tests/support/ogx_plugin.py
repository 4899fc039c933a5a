"""A plugin of pytest for OGX's suite of the Batch API: the fixtures that its own conftest takes from a running OGX.

`-p tests.support.ogx_plugin`; the address of the service to test is in OPENAI_BASE_URL.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import ModuleType

import httpx2
import openai
import pytest

MODEL = "gpt-6-luna"

NOT_OPENAI = "the idempotency key is OGX's own: OpenAI documents none"
SKIPPED: Mapping[str, str] = {
    "test_idempotent_batch_creation_successful": NOT_OPENAI,
    "test_idempotency_conflict_with_different_params": NOT_OPENAI,
    "test_batch_e2e_embeddings": "it expects the body of an answer as JSON text, as OGX writes it",
}
DIFFERENT: Mapping[str, str] = {
    "test_batch_e2e_chat_completions": "it expects `error` beside the answer 400 of a line; OpenAI has null there",
}


class OpenAIFilePurpose(StrEnum):
    """What their conftest imports of OGX."""

    BATCH = "batch"


sys.modules["ogx_api"] = ModuleType("ogx_api")
vars(sys.modules["ogx_api"])["OpenAIFilePurpose"] = OpenAIFilePurpose


class TalkativeClient(openai.OpenAI):
    """The client with the error texts of its version 1, which the suite reads: they hold the whole body."""

    def _make_status_error(self, err_msg: str, *, body: object, response: httpx2.Response) -> openai.APIStatusError:
        told = f"Error code: {response.status_code} - {body}"
        return super()._make_status_error(told, body=body, response=response)


@pytest.fixture
def openai_client() -> Iterator[openai.OpenAI]:
    """Return the client of the service to test."""
    with httpx2.Client(trust_env=False) as http:
        yield TalkativeClient(
            base_url=os.environ["OPENAI_BASE_URL"], api_key="sk-test", http_client=http, max_retries=0, timeout=20
        )


@pytest.fixture
def text_model_id() -> str:
    """Return a model of the service."""
    return MODEL


@pytest.fixture
def embedding_model_id() -> str:
    """Return a model of the service."""
    return MODEL


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is not OpenAI's, each with its reason."""
    for item in items:
        name = item.originalname if isinstance(item, pytest.Function) else item.name
        if name in SKIPPED:
            item.add_marker(pytest.mark.skip(reason=SKIPPED[name]))
        if name in DIFFERENT:
            item.add_marker(pytest.mark.xfail(reason=DIFFERENT[name], raises=AssertionError, strict=True))
