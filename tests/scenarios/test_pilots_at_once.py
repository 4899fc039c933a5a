"""Two commands that would send a pilot at once: the second one waits for the lock, and then looks again.

Both run in this process, on the real lock: the first one acts when the second one says that it waits.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx2
import openai
import pytest

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.session import Session, open_session
from batcher.commands.planning.plan import choose_options, run_plan
from batcher.commands.sending.pilot import run_pilot, send_pilot_first
from batcher.commands.sending.submit import release_shards
from batcher.contracts.sending import PilotAnswer
from batcher.core.retry import Jitter, RetryRules
from batcher.disk.locks import lane_lock
from batcher.errors import DecisionError, ExitCode, InputError
from batcher.plan.options import PlanWish
from batcher.sandbox.web.transport import SandboxTransport
from batcher.service.openai_service import OpenAIService
from batcher.views.progress import CleanConsole, Display
from tests.support.kill_harness import Killing, Scenario

LINES = 6
KEY, URL = "sk-test", "http://sandbox/v1"


class Told(io.StringIO):
    """What a command prints on stderr. `act` is called, once, when it says that it waits for another process."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act, self.has_waited = act, False

    def write(self, text: str) -> int:
        if "waiting for it to end" in text and not self.has_waited:
            self.has_waited = True
            self._act()
        return super().write(text)


class Job:
    """A planned job of 24 lines, of which every third is refused, and its sandbox."""

    def __init__(self, killing: Killing) -> None:
        self.killing = killing
        self.is_held = ExitStack()

    def connect(
        self, _timeout_s: float, rules: RetryRules, sleep: Callable[[float], None], jitter: Jitter, *_: object
    ) -> OpenAIService:
        """Return a service over the real client and the sandbox's transport, which opens no sockets."""
        http = httpx2.Client(transport=SandboxTransport(self.killing.sandbox))
        client = openai.OpenAI(api_key=KEY, base_url=URL, http_client=http, max_retries=0)
        return OpenAIService(client, rules, sleep, jitter)

    def plan(self) -> None:
        run_plan(self.session(), choose_options(self.session(), PlanWish(), add=False))

    def session(self, told: io.StringIO | None = None) -> Session:
        session = open_session(self.killing.folder / "batcher.toml", json=True)
        return session._replace(display=Display(CleanConsole(file=told or io.StringIO())))

    def pilot(self) -> CommandAnswer[PilotAnswer]:
        return run_pilot(self.session(), LINES, None)

    def second(self, act: Callable[[], object]) -> Session:
        """Return the session of a command that has to wait for the lock, while `act` is done by others."""

        def act_and_let_go() -> None:
            self.is_held.close()
            act()

        folder = self.killing.folder / ".batcher"
        self.is_held.enter_context(lane_lock(folder, "batch", lambda _: None, lambda _: None, None))
        return self.session(Told(act_and_let_go))

    def bought(self) -> list[int]:
        """Return how often each line was bought."""
        return list(self.killing.outcome().answers.values())


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    killing = Killing(tmp_path, replace(Scenario(), lines=24, per_shard=4, priorities=(1, 2, 3), pilot=LINES))
    killing.refuse_where("artist.priority == 1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", URL)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = Job(killing)
    monkeypatch.setattr("batcher.commands.base.process.connect_service", made.connect)
    with made.is_held:
        made.plan()
        yield made


def test_a_pilot_that_failed_while_another_command_waited_is_reported_by_it(job: Job) -> None:
    first: list[CommandAnswer[PilotAnswer]] = []
    answer = run_pilot(job.second(lambda: first.append(job.pilot())), LINES, None)
    assert [each.code for each in (*first, answer)] == [ExitCode.WORK_REMAINS] * 2
    assert answer.describe() == first[0].describe()
    assert job.bought() == [1] * LINES


def test_a_pilot_that_passed_while_another_command_waited_is_reported_by_it(job: Job) -> None:
    job.killing.refuse_where("False")
    job.plan()
    first: list[CommandAnswer[PilotAnswer]] = []
    answer = run_pilot(job.second(lambda: first.append(job.pilot())), LINES, None)
    assert [each.code for each in (*first, answer)] == [ExitCode.DONE] * 2
    assert answer.describe() == first[0].describe()
    assert job.bought() == [1] * LINES
    job.pilot()  # a command that begins later draws another one
    assert job.bought() == [1] * 2 * LINES


def test_run_asks_about_the_pilot_that_was_sent_while_it_waited(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batcher.commands.sending.pilot.FEWEST_LINES", 20)

    def send_first() -> None:
        with pytest.raises(DecisionError, match="4 of 6 answers of the pilot were accepted"):
            send_pilot_first(job.session())

    with pytest.raises(DecisionError, match="4 of 6 answers of the pilot were accepted"):
        send_pilot_first(job.second(send_first))
    assert job.bought() == [1] * LINES


def test_what_was_released_while_a_pilot_waited_is_not_taken_back(job: Job) -> None:
    session = job.second(lambda: release_shards(job.session(), 2))
    before = job.killing.query("SELECT shard, lines FROM shards ORDER BY shard")
    with pytest.raises(InputError, match="2 shards are released and not sent, and would not wait for a pilot"):
        run_pilot(session, LINES, None)
    assert job.killing.query("SELECT shard, lines FROM shards ORDER BY shard") == before
    assert job.killing.query("SELECT count(*) FROM shards WHERE state = 'released'") == [(2,)]
    assert job.killing.query("SELECT count(*) FROM pilots") == [(0,)]
