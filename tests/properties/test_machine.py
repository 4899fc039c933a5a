"""Promises 1-4 and 6 as a state machine over random faults: the real store, runner and client against the sandbox.

Hypothesis picks the faults and their order; after every step the invariants are read from the state itself and from
the sandbox's own ledger.
"""

import atexit
import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from unittest import TestCase

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batcher.config.sections import Config
from batcher.core.remote import RemoteBatch
from batcher.lanes.batch.runner import BatchRunner
from batcher.plan.reversioning import give_todays_version
from batcher.sandbox import SandboxSettings
from batcher.service.service import CallError
from batcher.state import redo
from batcher.state.redo import RedoFilter
from batcher.state.snapshot import load_room
from batcher.state.wishes import RetryFilter, retry_lines
from tests.support.examples import SOAK
from tests.support.world import World, config_with, counter, kept_open, write_table

pytestmark = pytest.mark.slow("a state machine over the whole job")

LINES = 40
SHARED = 12
"""Rows that ask the same as others: row n asks the same as row n - LINES."""
ROWS = LINES + SHARED
LINE_KINDS = ("rate_limit", "server", "request_timeout", "refusal", "length", "content_policy", "status_0")


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and nothing is written after it."""


class KilledService:
    """The real service, whose process dies right after, or before, one of its calls."""

    def __init__(self, service: object, fuse: list[str]) -> None:
        self._service, self._fuse = service, fuse

    def __getattr__(self, name: str) -> object:
        call = getattr(self._service, name)

        def wrapped(*args: object) -> object:
            if self._fuse == [f"{name}.before"]:
                self._fuse.clear()
                raise Killed
            answer = call(*args)
            if self._fuse == [f"{name}.after"]:
                self._fuse.clear()
                raise Killed
            return answer

        return wrapped


def config_for(tokens: int) -> Config:
    """Plan shards of ten lines, under a queue of this many tokens."""
    return config_with(
        job={"dedupe": True},
        limits={"lines_per_shard": 10, "tokens_per_shard": 7_000, "enqueued_tokens": tokens},
        poll={"interval_s": 3_600},
        api={"reconcile_grace_s": 60},
    )


@cache
def planned(tokens: int) -> Path:
    """A folder with a planned and released job, to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="batcher-planned-"))
    atexit.register(shutil.rmtree, folder)
    world = World(folder, config=config_for(tokens))
    world.plan(write_repeating_table(folder / "table.csv"))
    assert world.rows("SELECT DISTINCT lines FROM shards") == [(10,)]  # by default a tight queue gets tiny ones
    world.release()
    shutil.rmtree(folder / "sandbox")
    return folder


def write_repeating_table(path: Path) -> Path:
    """Write a table of which some rows ask the same as others."""
    header, *rows = write_table(path, LINES, (1, 2)).read_text(encoding="utf-8").splitlines()
    repeated = [f"b{row[1:]}" for row in rows[:SHARED]]
    path.write_text("\n".join([header, *rows, *repeated]) + "\n", encoding="utf-8")
    return path


class JobMachine(RuleBasedStateMachine):
    """One job against one sandbox; rules are what can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="batcher-machine-"))
        self.fuse: list[str] = []
        self.redone: Counter[str] = Counter()
        """How often each bio was asked for again."""
        self.open = contextlib.ExitStack()

    def teardown(self) -> None:
        """Remove the folder."""
        self.open.close()
        shutil.rmtree(self.folder)

    @initialize(tokens=st.sampled_from([9_000, 18_000, 60_000]))
    def begin(self, tokens: int) -> None:
        """A planned and released job; the queue holds one, two or all shards."""
        config = config_for(tokens)
        shutil.copytree(planned(tokens), self.folder, dirs_exist_ok=True)
        self.world = World(self.folder, SandboxSettings(enqueued_tokens=tokens), config)
        self.open.enter_context(kept_open(self.world.store))

    # --- what can happen --------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(LINE_KINDS), share=st.sampled_from([0.0, 0.1, 0.5]))
    def lines_fail(self, kind: str, share: float) -> None:
        """Make a share of the lines fail at its first execution from now on."""
        self.world.sandbox.update_faults({"line_failures": {kind: share}})

    @rule(call=st.sampled_from(["create", "upload"]), share=st.sampled_from([0.0, 0.5, 1.0]))
    def answers_get_lost(self, call: str, share: float) -> None:
        """Lose the answers of calls that act."""
        self.world.sandbox.update_faults({"lose_answer": {call: share}})

    @rule(call=st.sampled_from(["create", "list", "content"]), share=st.sampled_from([0.0, 0.6]))
    def calls_are_refused(self, call: str, share: float) -> None:
        """Answer calls with 503, without effect."""
        self.world.sandbox.update_faults({"refuse_before": {call: share}})

    @rule(seconds=st.sampled_from([0.0, 30.0]))
    def listings_lag(self, seconds: float) -> None:
        """Show a batch in listings only this long after its creation."""
        self.world.sandbox.update_faults({"list_lag_s": seconds})

    @rule(tokens=st.sampled_from([0, 4_000]))
    def others_use_the_queue(self, tokens: int) -> None:
        """Have other users of the organisation hold part of the queue."""
        self.world.sandbox.update_settings({"phantom_tokens": tokens})

    @rule(data=st.data())
    def cancelled_from_outside(self, data: st.DataObject) -> None:
        """Cancel one of our batches as a user does on the website."""
        running = [b for b in self._batches() if b.status in {"validating", "in_progress"}]
        if running:
            self.world.service().cancel_batch(data.draw(st.sampled_from(sorted(b.batch_id for b in running))))

    @rule(seconds=st.sampled_from([60.0, 3_600.0, 90_000.0]))
    def time_passes(self, seconds: float) -> None:
        """Advance the clock while no process runs."""
        self.world.clock.now += seconds

    @rule()
    def a_round(self) -> None:
        """Run one acting process until there is something to wait for."""
        self.world.act(once=True)

    @rule(
        call=st.sampled_from(["upload_file", "create_batch", "list_batches", "download_file", "delete_file"]),
        after=st.booleans(),
    )
    def a_killed_round(self, call: str, after: bool) -> None:
        """Run an acting process that dies at one of its calls."""
        self.fuse[:] = [f"{call}.{'after' if after else 'before'}"]
        tools = self.world.tools()
        object.__setattr__(tools, "service", KilledService(tools.service, self.fuse))
        runner = BatchRunner(tools)
        runner.prepare_run()
        with contextlib.suppress(Killed):
            runner.run_until_idle(once=True)
        self.fuse.clear()

    @rule(data=st.data())
    def bios_are_asked_for_again(self, data: st.DataObject) -> None:
        """Ask for some bios again, as `redo` does where the prompt is the same."""
        done = [str(row[0]) for row in self.world.rows("SELECT artist_id FROM artists WHERE state = 'done' ORDER BY 1")]
        if done:
            first = data.draw(st.integers(0, len(done) - 1))
            chosen = done[first : first + data.draw(st.sampled_from([1, 15]))]
            with self.world.store.transaction("redo") as tx:
                assert redo.choose_redos(tx, RedoFilter(artists=chosen)) == redo.redo_lines(tx) == len(chosen)
                give_todays_version(tx, self.world.config, self.world.job, counter())
            self.redone.update(chosen)

    @rule()
    def lines_are_brought_back(self) -> None:
        """Bring dead and held lines back that are not perhaps paid."""
        with self.world.store.transaction("retry") as tx:
            retry_lines(tx, RetryFilter())

    def _batches(self) -> tuple[RemoteBatch, ...]:
        try:
            return self.world.service().list_batches(0).batches
        except CallError:
            return ()

    # --- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def every_artist_is_in_one_state(self) -> None:
        """Promise 1."""
        assert sum(self.world.states().values()) == ROWS

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def the_limit_holds(self) -> None:
        """Promise 3: what was reserved when something was sent never passed limit x threshold."""
        rows = self.world.rows("SELECT reserved_before + reserved, limit_tokens FROM submissions")
        threshold = self.world.config.limits.threshold
        assert all(int(str(used)) <= int(str(limit)) * threshold for used, limit in rows)
        with self.world.store.read_transaction() as tx:
            assert load_room(tx, self.world.config).ceiling >= 0

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def nothing_usable_is_paid_twice(self) -> None:
        """Promise 2: no line is executed again after a usable result, unless its bio was asked for again."""
        usable = self.world.sandbox.ledger.usable_counts()
        twice = {line: n for line, n in usable.items() if n > 1 + self.redone[line]}
        assert not twice
        of_request: Counter[str] = Counter()
        for line, n in usable.items():
            of_request[line[1:]] += n - self.redone[line]
        of_request.subtract({line[1:]: n for line, n in self.redone.items() if line not in usable})
        assert max(of_request.values(), default=0) <= 1

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def bios_are_of_done_artists(self) -> None:
        """Promise 6: one verdict a line. A bio that was asked for again stays until another one is accepted."""
        wrong = self.world.rows(
            "SELECT count(*) FROM artists AS a FULL JOIN bios AS b USING (artist_id) WHERE a.artist_id IS NULL "
            "OR (a.state = 'done' OR a.redo_after IS NOT NULL) <> (b.artist_id IS NOT NULL) "
            "OR (a.state = 'done' AND a.redo_after IS NOT NULL)"
        )
        assert wrong == [(0,)]

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def nobody_follows_a_line_that_is_over(self) -> None:
        """Each row has, or waits for, the answer to its request; nothing of a follower is to be sent."""
        wrong = self.world.rows(
            "SELECT f.artist_id, f.state, l.state FROM artists AS f LEFT JOIN artists AS l ON l.artist_id = f.follows "
            "WHERE f.follows IS NOT NULL AND ((f.state = 'ready' AND (f.version IS NOT NULL OR f.shard IS NOT NULL "
            "OR coalesce(l.state IN ('done', 'dead', 'held'), true))) "
            "OR (f.state <> 'done' AND l.state = 'done' AND f.request_hash = l.request_hash))"
        )
        assert wrong == []

    @rule()
    def the_end(self) -> None:
        """Check that without faults every job ends, each artist done, dead or held; a dead one had failures."""
        self.world.sandbox.update_faults(no_faults())
        self.world.sandbox.update_settings({"phantom_tokens": 0})
        ended = self.world.act()
        assert not getattr(ended, "problem", "not finished")
        states = self.world.states()
        assert set(states) <= {"done", "dead", "held"}
        classes = {row[0] for row in self.world.rows("SELECT failure FROM artists WHERE state IN ('dead', 'held')")}
        assert classes <= {"invalid", "unusable", "server", "expired", "cancelled", "missing", "rate_limit"}


def no_faults() -> Mapping[str, object]:
    """Faults as they are by default."""
    return {"line_failures": {}, "lose_answer": {}, "refuse_before": {}, "list_lag_s": 0.0}


DEEP = settings(
    max_examples=1_000 if SOAK > 1 else 20,  # few and long: a fault matters in what comes after it
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


def quarter(name: str) -> type[JobMachine]:
    """Return the same machine under another name: workers share the examples, each with a seed of its own."""
    return type(name, (JobMachine,), {"__doc__": "A quarter of the examples."})


def case(machine: type[JobMachine]) -> type[TestCase]:
    """The machine as a test, with the time that it takes on a busy computer."""
    made: type[TestCase] = machine.TestCase
    made.settings = DEEP  # type: ignore[attr-defined]
    made.pytestmark = [pytest.mark.timeout(1800 * SOAK)]  # type: ignore[attr-defined]
    return made


TestFirst = case(quarter("First"))
TestSecond = case(quarter("Second"))
TestThird = case(quarter("Third"))
TestFourth = case(quarter("Fourth"))
