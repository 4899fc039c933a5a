"""What the tests of the protocol share: a job whose answers can be changed, one request at a time."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson

from batcher.core.actions import Finish, Wait
from batcher.core.events import Event
from batcher.lanes.batch.runner import BatchRunner
from batcher.sandbox import Faults, SandboxSettings, apply_changes
from batcher.sandbox.web.transport import SandboxTransport
from batcher.service.http_client import BoundedClient
from batcher.service.openai_service import OpenAIService
from batcher.state import wishes
from tests.support.world import World, config_with, write_table

Send = Callable[[httpx2.Request], httpx2.Response]
Rule = Callable[[httpx2.Request, Send], httpx2.Response]
CREATE = ("POST", "/batches")
LIST = ("GET", "/batches")
HOUR = 3600.0
BATCH_S = 120.0
"""Seconds that a batch needs in these tests: 10 of validation, 100 of work, 10 to finish."""
PATIENT = {"outage": {"base_s": 600, "cap_s": 3600}}
"""Keys of `[retry]` under which a day passes in few tries."""
SELDOM = {"interval_s": 900}
"""Keys of `[poll]` under which an hour passes in few looks."""
MakeTrial = Callable[..., "Trial"]
"""The fixture `make_trial`: what `trial` takes after the folder."""


class Tampering(httpx2.BaseTransport):
    """A transport between the client and the sandbox; `rule` may change a request or an answer, or lose either."""

    def __init__(self, inner: httpx2.BaseTransport, rule: Rule) -> None:
        self._inner, self._rule = inner, rule

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._rule(request, self._inner.handle_request)


class Trial(World):
    """A world whose requests pass through `rule`, and whose `on` is called with each event."""

    def __init__(
        self, folder: Path, lines: int, faults: Mapping[str, object], settings: Mapping[str, object], **sections: object
    ) -> None:
        fixed = SandboxSettings(validating_s=(10, 10), service_s=(100, 100), finalizing_s=(10, 10), cancelling_s=(5, 5))
        changed = apply_changes(fixed, {"faults": apply_changes(Faults(), faults), **settings})
        super().__init__(folder, changed, config_with(**{"poll": {"interval_s": 30}, **sections}))  # type: ignore[arg-type]
        self.rule: Rule = lambda request, send: send(request)
        self.on: Callable[[Event], object] = lambda _event: None
        self.interrupted: Callable[[], bool] = lambda: False
        self.plan(write_table(folder / "artists.csv", lines, (1,)))
        self.release()

    def service(self) -> OpenAIService:
        transport = Tampering(SandboxTransport(self.sandbox), self._ruled)
        client = openai.OpenAI(
            api_key="sk-test", base_url="http://sandbox/v1", http_client=BoundedClient(transport=transport)
        )
        rules = self.config.retry.to_rules()
        return OpenAIService(client, rules, self.clock.sleep, self.random.random, self.is_ending)

    def is_ending(self) -> bool:
        return self.interrupted()

    def _ruled(self, request: httpx2.Request, send: Send) -> httpx2.Response:
        return self.rule(request, send)

    def act(self, once: bool = False) -> Finish | Wait:
        def notify(event: Event) -> None:
            self.record_event(event)
            self.on(event)

        runner = BatchRunner(dataclasses.replace(self.tools(), notify=notify, interrupted=self.interrupted))
        runner.prepare_run()
        return runner.run_until_idle(once)

    def once_told(self, kind: type[Event], act: Callable[[], object]) -> None:
        """Call `act` at the first event of this type."""
        left = [act]
        self.on = lambda event: left.pop()() if isinstance(event, kind) and left else None

    def fault(self, **changes: object) -> None:
        self.sandbox.update_faults(changes)

    def batches(self) -> list[tuple[str, str]]:
        """Return (id, status) of every batch at the service, in the order of their creation."""
        self.sandbox.run_due_events()
        return [(batch.id, batch.status) for batch in self.sandbox.lifecycle.batches.values()]

    def create_again(self, metadata: Mapping[str, str] | None = None, later: float = 0.0, then: float = 0.0) -> str:
        """Create a batch that our client does not know of, from the first one's file and metadata; return its id.

        later: seconds that pass before the creation; then: seconds that pass after it.
        """
        self.clock.sleep(later)
        first = next(iter(self.sandbox.lifecycle.batches.values()))
        kept = dict(first.request.metadata or {}) if metadata is None else dict(metadata)
        payload = {
            "input_file_id": first.request.input_file_id,
            "endpoint": first.request.endpoint,
            "completion_window": "24h",
            "metadata": kept or None,
        }
        made = self.sandbox.create_batch(payload)
        assert made is not None
        self.clock.sleep(then)
        return made.id

    def input_files(self) -> list[str]:
        """Return the batch input files that exist at the service."""
        return [file.id for file in self.sandbox.files.list_files("batch", self.sandbox.now(), False)]

    def facts(self, name: str) -> float:
        with self.store.read_transaction() as tx:
            return tx.read_fact(name)

    def paid(self) -> dict[str, int]:
        return self.sandbox.ledger.billing_totals()


def trial(
    folder: Path,
    lines: int = 6,
    per_shard: int = 6,
    faults: Mapping[str, object] | None = None,
    settings: Mapping[str, object] | None = None,
    **sections: Mapping[str, object],
) -> Trial:
    """Return a planned and released job."""
    limits = {"lines_per_shard": per_shard, **sections.pop("limits", {})}
    return Trial(folder, lines, faults or {}, settings or {}, limits=limits, **sections)


def is_call(request: httpx2.Request, method: str, path: str) -> bool:
    """Return whether a request is this call."""
    return request.method == method and request.url.path == f"/v1{path}"


def nth(method: str, path: str, number: int, act: Rule) -> Rule:
    """Return a rule that applies to the nth such call alone."""
    count = 0

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        nonlocal count
        if is_call(request, method, path):
            count += 1
            if count == number:
                return act(request, send)
        return send(request)

    return rule


def every(method: str, path: str, act: Rule) -> Rule:
    """Return a rule that applies to every such call."""
    return lambda request, send: act(request, send) if is_call(request, method, path) else send(request)


def lost(request: httpx2.Request, send: Send) -> httpx2.Response:
    """Perform the call, and lose its answer."""
    send(request).read()
    raise httpx2.ReadTimeout("The read operation timed out", request=request)


def answered(status: int, code: str = "", headers: Mapping[str, str] | None = None, act: bool = False) -> Rule:
    """Return a rule that answers with an error; with `act` the call takes effect nevertheless."""

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        if act:
            send(request).read()
        body = {"error": {"message": f"answered {status}", "type": "x", "param": None, "code": code}}
        return httpx2.Response(status, headers=dict(headers or {}), json=body, request=request)

    return rule


def changed(change: Callable[[dict[str, Any]], object]) -> Rule:
    """Return a rule that changes the JSON of the true answer in place."""

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        response = send(request)
        response.read()
        body = orjson.loads(response.content)
        change(body)
        headers = {k: v for k, v in response.headers.items() if k != "content-length"}
        return httpx2.Response(response.status_code, headers=headers, json=body, request=request)

    return rule


def looks(change: Callable[[dict[str, Any]], object]) -> Rule:
    """Change every description of a batch in place, in listings too."""

    def each(body: dict[str, Any]) -> None:
        for batch in body.get("data", [body] if "status" in body else []):
            change(batch)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        return changed(each)(request, send) if request.url.path.startswith("/v1/batches") else send(request)

    return rule


def download_changed(change: Callable[[list[bytes]], list[bytes]]) -> Rule:
    """Return a rule that changes the lines of every file that is downloaded."""

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        response = send(request)
        if not request.url.path.endswith("/content"):
            return response
        lines = change(response.read().splitlines(keepends=True))
        return httpx2.Response(200, stream=httpx2.ByteStream(b"".join(lines)), request=request)

    return rule


def given_up(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> Trial:
    """Return a job of six lines whose batch was read in vain for a day for one that its output never had as it should.

    change: changes the lines of its output.
    """
    slow = {"base_s": 7200, "cap_s": 7200}
    it = trial(folder, poll={"interval_s": 7200}, retry={"outage": slow})
    it.rule = download_changed(change)
    it.act()
    assert it.states() == {"done": 5, "held": 1}
    return it


def without_date(request: httpx2.Request, send: Send) -> httpx2.Response:
    """Return the true answer without its Date header."""
    response = send(request)
    del response.headers["date"]
    return response


def pause(it: Trial, seconds: float) -> None:
    """Pause both lanes, as the user does, until these seconds have passed."""
    with it.store.transaction("pause") as tx:
        tx.fetch_all("insert_pause", scope="all", reason="by hand", until=tx.now + seconds, tries=0, now=tx.now)


def cancel(it: Trial, *shards: int) -> None:
    """Ask for the cancel of these shards, or of all."""
    with it.store.transaction("cancel") as tx:
        wishes.request_cancel(tx, shards)


def count_told(it: Trial, kind: type[Event]) -> int:
    """Return how many events of a type were told."""
    return list(it.kinds()).count(kind)


def times_of(it: Trial, kind: type[Event]) -> list[float]:
    """Return the list in which the time of each event of a type is kept from now on."""
    times: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, kind):
            times.append(it.clock())

    it.on = note
    return times


def assert_paid_once(it: Trial, lines: int) -> None:
    """Check that every line is done, and was executed exactly once."""
    assert it.states() == {"done": lines}
    assert it.paid()["executions"] == lines
    assert it.paid()["usable_more_than_once"] == 0
