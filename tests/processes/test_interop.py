"""What `make interop` runs on: nothing outlives its time, what cannot be installed is skipped, failures are told."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

from tests.interop.__main__ import make_check
from tests.interop.checks import ARTISTS, Check, Job, Server, run_killed_job, sandbox
from tests.interop.machine import KEY, FailureError, Machine, SkipError, answers, ensure, find_python, free_port
from tests.interop.page import summarize
from tests.support.sandbox_kit import CHAT, encoded, line

SLEEP = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # no test asks a registry
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    monkeypatch.delenv("INTEROP_PYTHON", raising=False)
    made = Machine(tmp_path)
    yield made
    made.close()


def test_a_program_that_hangs_is_ended(machine: Machine) -> None:
    code, told = machine.run(SLEEP, machine.folder, 3)
    assert code == -1 and told.endswith("not ended after 3 s")


def test_a_program_of_others_sees_no_key(machine: Machine) -> None:
    code, told = machine.run([sys.executable, "-c", "import os; print(sorted(os.environ))"], machine.folder, 60)
    assert code == 0 and "OPENAI_API_KEY" not in told and "PIP_NO_INDEX" in told


def test_what_cannot_be_installed_is_skipped(machine: Machine) -> None:
    with pytest.raises(SkipError, match=r"`python -m pip --disable-pip-version-check \.\.\.` ended with 1: .*no-such"):
        machine.install("none", ["no-such-package==1"])
    with pytest.raises(SkipError, match="none of no-python-of-this-name is here; INTEROP_PYTHON may name one"):
        find_python("no-python-of-this-name")


def test_a_server_ends_with_its_block(machine: Machine) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with machine.serving("files", [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], url, 30):
        assert answers(url)
    assert not answers(url)


def test_a_server_that_does_not_start_is_skipped_with_what_it_said(machine: Machine) -> None:
    command = [sys.executable, "-c", "print('no port for me')"]
    with pytest.raises(SkipError, match="odd does not start: no port for me"), machine.serving("odd", command, "", 30):
        pass


def test_what_was_started_ends_with_the_machine(machine: Machine) -> None:
    process = machine.start(SLEEP, machine.folder, {})
    machine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_each_outcome_is_told(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    def skip(_: Machine) -> None:
        raise SkipError("node and npm are not here")

    def lose(_: Machine) -> None:
        raise httpx2.ConnectError("refused")

    acts = (lambda _: None, skip, lambda _: ensure(False, "39 of 40 lines came"), lose)
    rows = [make_check(Check("someone", "1.0", "a job", act), machine) for act in acts]
    results = ["ok", "skipped because node and npm are not here", "failed: 39 of 40 lines came", "failed: refused"]
    assert [row.result for row in rows] == results
    told = [line.rpartition(" (")[0] for line in capsys.readouterr().out.splitlines()]
    assert told == [f"someone 1.0: a job: {result}" for result in results]
    assert summarize(rows) == "1 of 4 ok; skipped because node and npm are not here (someone)"


def test_what_does_not_hold_is_a_failure() -> None:
    ensure(True, "")
    with pytest.raises(FailureError, match="seen"):
        ensure(False, "seen")


@contextmanager
def opened(machine: Machine) -> Iterator[Server]:
    """Yield the sandbox itself as the server of others."""
    with sandbox(machine.new_folder("upstream")) as (upstream, url):
        yield Server(url, "gpt-6-luna", upstream)


def test_a_killed_job_is_checked_to_its_end(machine: Machine) -> None:
    run_killed_job(machine, opened)


def test_a_line_that_is_bought_twice_is_a_failure(machine: Machine) -> None:
    with opened(machine) as server, httpx2.Client(trust_env=False) as http:
        job = Job(machine, server)
        job.batcher("plan")
        job.batcher("run --out bios.parquet")
        job.check_bios()
        with openai.OpenAI(api_key=KEY, base_url=server.url, http_client=http) as client:
            again = encoded([line(min(server.upstream.ledger.execution_counts()))])
            stored = client.files.create(file=("again.jsonl", again), purpose="batch")
            client.batches.create(input_file_id=stored.id, endpoint=CHAT, completion_window="24h")
        server.upstream.advance_clock(86_400)
        server.upstream.run_due_events()
        with pytest.raises(
            FailureError, match=f"{ARTISTS + 1} executions of {ARTISTS} lines instead of {ARTISTS} of {ARTISTS}"
        ):
            job.check_bios()
        with pytest.raises(FailureError, match="`batcher show nobody` ended with 2"):
            job.batcher("show nobody")
