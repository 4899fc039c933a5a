"""What `doctor` tries out at a service that nobody has described, over real HTTP: free calls alone."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from batcher.sandbox import Sandbox
from batcher.sandbox.web.server import running_sandbox
from batcher.service.connecting import connect_service
from batcher.service.openai_service import OpenAIService
from batcher.service.probing import choose_settings, is_unknown_service, probe_abilities
from tests.support.api_kit import FIXED, QUICK
from tests.support.hosts import HOSTS, KEY, UNLISTED, Played, played_host
from tests.support.sandbox_kit import START

Open = Callable[[str], tuple[OpenAIService, Played]]


@pytest.fixture
def open_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Return what connects to a host of this name as to an unknown one."""
    with ExitStack() as stack:

        def open_host(name: str) -> tuple[OpenAIService, Played]:
            host = next(each for each in (*HOSTS, *UNLISTED) if each.name == name)
            played = stack.enter_context(played_host(host, Sandbox(FIXED, tmp_path, lambda: START)))
            monkeypatch.setenv("OPENAI_API_KEY", KEY)
            monkeypatch.setenv("OPENAI_BASE_URL", f"{played.url}/v1")
            service = connect_service(5, QUICK, lambda _s: None, lambda: 0.0)
            return stack.enter_context(closing(service)), played

        yield open_host


COMPATIBLE = '[service]\nprofile = "compatible"'


@pytest.mark.parametrize(
    ("name", "lacking", "settings"),
    [
        ("aibrix", set(), ""),
        ("deepinfra", set(), ""),
        ("groq", {"file_expiry"}, COMPATIBLE),
        ("no-list", {"list_batches", "file_expiry"}, f'{COMPATIBLE}\nlacks = ["list_batches"]'),
        ("no-delete", {"delete_files"}, f'{COMPATIBLE}\nlacks = ["delete_files"]'),
        (
            "no-list-no-metadata",
            {"list_batches", "file_expiry", "list_files", "delete_files"},
            f'{COMPATIBLE}\nlacks = ["list_batches", "list_files", "delete_files"]',
        ),
    ],
)
def test_what_is_found(open_host: Open, name: str, lacking: set[str], settings: str) -> None:
    service, played = open_host(name)
    assert is_unknown_service(service)
    probed = probe_abilities(service, "a-model")
    assert {each.ability for each in probed if each.has is False} == lacking
    assert [each.ability for each in probed if each.has is None] == ["metadata"]
    assert all(each.found and each.follows for each in probed)
    assert choose_settings(probed) == settings
    assert "POST batches" not in played.calls
    left = played.sandbox.files.list_files(None, START, newest_first=True)
    assert len(left) == int("delete_files" in lacking)
    assert all(file.id in probed[-1].found for file in left)


def test_a_host_that_takes_no_file(open_host: Open) -> None:
    service, _ = open_host("strict")
    probed = probe_abilities(service, "a-model")
    assert {each.ability: each.has for each in probed} == {
        "list_batches": True, "metadata": None, "file_expiry": None, "list_files": None, "delete_files": None,
    }  # fmt: skip
    assert "purpose must be batch-api" in probed[2].found


def test_the_sandbox_is_known_and_a_service_that_is_not_there_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with running_sandbox(Sandbox(FIXED, tmp_path, lambda: START)) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with closing(connect_service(5, QUICK, lambda _s: None, lambda: 0.0)) as service:
            assert not is_unknown_service(service)
    with closing(connect_service(5, QUICK, lambda _s: None, lambda: 0.0)) as service:
        assert not is_unknown_service(service)
