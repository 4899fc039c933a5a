"""The service's address: compared in one form, shown without a password, and known to be encrypted or not."""

import pytest

from batcher.service.address import UNREADABLE, format_origin, is_unencrypted, read_origin


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("HTTPS://API.OpenAI.com:443/v1?key=x#y", "https://api.openai.com/v1"),
        ("http://ana:secret@127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("http://ana:sec@ret@host/v1", "http://host/v1"),
        ("http://[::1]:9/v1", "http://[::1]:9/v1"),
        ("http://ana:sec/ret@host/v1", UNREADABLE),
        ("http://ana:8/secret@host/v1", UNREADABLE),
        ("http://[::1", UNREADABLE),
        ("http://host:port/v1", UNREADABLE),
        ("ana:secret@host", UNREADABLE),
        ("", UNREADABLE),
    ],
)
def test_an_address_in_one_form_and_without_a_password(address: str, origin: str) -> None:
    assert format_origin(address) == origin
    assert "ret" not in format_origin(address)


def test_the_address_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert read_origin() == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://ana:secret@localhost:8080/v1")
    assert read_origin() == "http://localhost:8080/v1"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "a.localhost"])
def test_what_stays_on_this_machine_needs_no_encryption(host: str) -> None:
    assert not is_unencrypted(f"http://{host}:8080/v1")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "example.org", "localhost.example.org", "[2001:db8::1]"])
def test_what_leaves_it_does(host: str) -> None:
    assert is_unencrypted(f"http://{host}/v1")
    assert not is_unencrypted(f"https://{host}/v1")
