"""The client for a profile: where it calls, how it sends its key, and what is said where something is not set."""

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from batcher.errors import SetupError
from batcher.service.connecting import connect_service
from batcher.service.http_client import BoundedClient, send_key_in
from batcher.service.openai_service import OpenAIService
from batcher.service.profiles import find_profile
from batcher.service.streams import with_paths
from tests.support.api_kit import QUICK

KEY = "azure-key-of-a-test"
HOST = "https://ana.openai.azure.com"
NAMES = ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_VERSION")
Connect = Callable[..., OpenAIService]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Return what connects to Azure with these variables set, and no other."""

    def connect(**variables: str) -> OpenAIService:
        for name in (*NAMES, "OPENAI_BASE_URL", "OPENAI_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        profile = find_profile("azure", environment=variables)
        return connect_service(5, QUICK, lambda _s: None, lambda: 0.0, profile=profile)

    return connect


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "AZURE_OPENAI_API_KEY is not set; export your key (portal.azure.com, Keys and Endpoint of the resource)"),
        (
            {"AZURE_OPENAI_API_KEY": KEY},
            "AZURE_OPENAI_ENDPOINT is not set; it looks like https://NAME.openai.azure.com",
        ),
        (
            {"AZURE_OPENAI_API_KEY": "a b", "AZURE_OPENAI_ENDPOINT": HOST},
            "AZURE_OPENAI_API_KEY holds a blank, a line break or a character beyond ASCII; export it again",
        ),
        (
            {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": "ana"},
            "AZURE_OPENAI_ENDPOINT is no address; it looks like https://NAME.openai.azure.com",
        ),
    ],
)
def test_what_is_not_set_is_said(connect: Connect, variables: dict[str, str], sentence: str) -> None:
    """A key of Azure is never sent to OpenAI, whose address is the client's own default."""
    with pytest.raises(SetupError) as caught:
        connect(**variables)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("version", ["", "2024-10-21"])
def test_where_azure_is_called(connect: Connect, version: str) -> None:
    more = {"OPENAI_API_VERSION": version} if version else {}
    service = connect(AZURE_OPENAI_ENDPOINT=HOST, AZURE_OPENAI_API_KEY=KEY, **more)
    assert str(service._client.base_url) == f"{HOST}/openai/{'' if version else 'v1/'}"
    service.close()


def test_the_key_goes_in_its_own_header_and_to_no_other_origin() -> None:
    seen: list[httpx2.Headers] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers)
        moved = request.url.host == "first"
        return (
            httpx2.Response(302, headers={"location": "https://second/x"}) if moved else httpx2.Response(200, json={})
        )

    with BoundedClient(transport=httpx2.MockTransport(respond)) as client:
        send_key_in(client, "api-key")
        client.get("https://first/x", headers={"Authorization": f"Bearer {KEY}"})
    first, second = seen
    assert first["api-key"] == KEY and "authorization" not in first
    assert "api-key" not in second and "authorization" not in second


def test_the_paths_of_lines_are_changed_in_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "shard.jsonl"
    text = b'{"custom_id":"a","url":"/v1/responses","body":{"input":"\\"url\\":\\"/v1/x\\""}}\n' * 2
    path.write_bytes(text)
    with with_paths(path, "/v1") as same:
        assert same == path
    with with_paths(path, "") as copy:
        assert copy.read_bytes() == text.replace(b"/v1/responses", b"/responses")
        assert copy.stat().st_mode & 0o077 == 0
    assert path.read_bytes() == text and list(tmp_path.iterdir()) == [path]
