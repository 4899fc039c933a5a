"""The sandbox over real HTTP on the loopback interface, with the real client."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx2
import openai
import pytest

from batcher.sandbox import Sandbox, SandboxSettings
from batcher.sandbox.web.server import require_loopback_host, running_sandbox
from tests.support.sandbox_kit import CHAT, START, chat_body, encoded, line, lines

FAST = SandboxSettings(validating_s=(1, 1), service_s=(1, 1), finalizing_s=(1, 1))
MEGABYTE = 1 << 20


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(FAST, tmp_path, lambda: START)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[openai.OpenAI]:
    with running_sandbox(sandbox) as url:
        assert url.startswith("http://127.0.0.1:")
        with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as found:
            yield found


def peak() -> int:
    """Return the largest resident size so far, in megabytes."""
    scale = 1024 if sys.platform == "darwin" else 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 * scale)


def write_large(path: Path) -> int:
    """Write 60 MB of lines, and return how many."""
    body = chat_body("Artist: Someone\n" + "note: " + "x" * 6000)
    count = 10_000
    with path.open("wb") as file:
        for number in range(count):
            file.write(encoded([line(f"a{number}", body)]))
    return count


def test_a_large_batch_goes_through_in_flat_memory(sandbox: Sandbox, client: openai.OpenAI, tmp_path: Path) -> None:
    large = tmp_path / "large.jsonl"
    count = write_large(large)
    assert large.stat().st_size > 60 * MEGABYTE
    before = peak()
    with large.open("rb") as file:
        stored = client.files.create(file=file, purpose="batch")
    assert stored.bytes == large.stat().st_size and stored.filename == "large.jsonl"
    batch = client.batches.create(input_file_id=stored.id, endpoint=CHAT, completion_window="24h")
    sandbox.advance_clock(10)
    done = client.batches.retrieve(batch.id)
    assert done.request_counts and done.request_counts.completed == count and done.output_file_id
    with client.files.with_streaming_response.content(done.output_file_id) as answer:
        answer.stream_to_file(tmp_path / "output.jsonl")
    assert (tmp_path / "output.jsonl").read_bytes().count(b"\n") == count
    with client.files.with_streaming_response.content(stored.id) as answer:
        answer.stream_to_file(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").stat().st_size == stored.bytes
    assert peak() - before < 50
    assert not list(sandbox.incoming.iterdir())


def test_the_date_is_the_sandbox_s_alone(client: openai.OpenAI) -> None:
    headers = client.models.with_raw_response.list().http_response.headers
    assert headers.get_list("date") == ["Wed, 18 Nov 2026 11:06:40 GMT"]
    assert "server" not in headers


def test_connections_break_as_the_faults_say(sandbox: Sandbox, client: openai.OpenAI) -> None:
    stored = client.files.create(file=("in.jsonl", encoded(lines(50))), purpose="batch")
    sandbox.update_faults({"lose_answer": {"create": 1.0}, "reset_before": {"delete": 1.0}, "truncate_download": 1.0})
    for act in (
        lambda: client.batches.create(input_file_id=stored.id, endpoint=CHAT, completion_window="24h"),
        lambda: client.files.delete(stored.id),
    ):
        with pytest.raises(openai.APIConnectionError):
            act()
    assert len(client.batches.list().data) == len(client.files.list().data) == 1
    with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
        client.files.content(stored.id)
    sandbox.update_faults({"truncate_download": 0, "slow_s": 0.3})
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.05).models.list()


def test_calls_come_in_parallel(sandbox: Sandbox, client: openai.OpenAI) -> None:
    def work(name: int) -> None:
        stored = client.files.create(file=("in.jsonl", encoded([line(f"b{name}")])), purpose="batch")
        client.batches.create(input_file_id=stored.id, endpoint=CHAT, completion_window="24h")

    threads = [Thread(target=work, args=(name,)) for name in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sandbox.advance_clock(10)
    found = client.batches.list(limit=100).data
    assert len({each.id for each in found}) == 12 and {each.status for each in found} == {"completed"}
    assert sandbox.ledger.execution_counts() == {f"b{name}": 1 for name in range(12)}


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::", ""])
def test_it_listens_on_loopback_alone(sandbox: Sandbox, host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        require_loopback_host(host)
    with pytest.raises(ValueError, match="loopback"), running_sandbox(sandbox, host):
        pass
    assert require_loopback_host("localhost") == "127.0.0.1" and require_loopback_host("::1") == "::1"


OTHERS = [
    {"origin": "https://page.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"host": "page.example"},
    {"host": "page.example", "origin": "http://page.example"},
]


def test_a_web_page_cannot_change_the_sandbox(sandbox: Sandbox, client: openai.OpenAI) -> None:
    address = str(client.base_url).replace("/v1/", "/_sandbox/faults")
    for headers in OTHERS:
        answer = httpx2.post(address, json={"slow_s": 1}, headers=headers)
        assert answer.status_code == 403 and "own routes" in answer.json()["error"]["message"]
    assert sandbox.faults.slow_s == 0
    own = address.removesuffix("/_sandbox/faults")
    for headers in (
        {},
        {"origin": own},
        {"host": "localhost:80", "origin": "http://localhost:80"},
        {"host": "[::1]:9"},
    ):
        assert httpx2.post(address, json={"list_lag_s": 1}, headers=headers).status_code == 200


def test_what_comes_without_a_key_is_not_written(sandbox: Sandbox, client: openai.OpenAI) -> None:
    written: list[Path] = []

    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * MEGABYTE
            written.extend(path for path in sandbox.incoming.iterdir() if path.stat().st_size)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = httpx2.post(f"{client.base_url}files", content=pieces(), headers=headers)
    assert answer.status_code == 401 and "API key" in answer.json()["error"]["message"]
    assert written == []
    with pytest.raises(openai.AuthenticationError):
        sandbox.update_settings({"api_key": "another"})
        client.files.create(file=("in.jsonl", encoded(lines(1))), purpose="batch")


SERVE = """
import sys
from pathlib import Path
from batcher.sandbox import Sandbox, SandboxSettings, scaled_clock
from batcher.sandbox.web.server import serve_sandbox

sandbox = Sandbox(SandboxSettings(), Path(sys.argv[1]), scaled_clock(60))
serve_sandbox(sandbox, on_ready=lambda url: print(url, flush=True))
"""


def test_it_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert httpx2.get(url.replace("/v1", "/_sandbox/health")).json()["status"] == "ok"
        process.terminate()
        assert process.wait(10) is not None


def test_a_path_with_a_line_break_is_refused_in_the_service_s_form(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="No batch found") as caught:
        client.batches.retrieve("a\nb")
    assert caught.value.type == "invalid_request_error"
