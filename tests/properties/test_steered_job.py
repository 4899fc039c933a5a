"""Promises 1, 2 and 6 while the user steers: edits prompts and checks, retries, redoes, judges again, pilots, forgets.

The machine of tests/properties/test_machine.py, with a job folder of its own and the calls behind the commands. After
every step each artist is in one state, each answer that was accepted is asked for again only where the user said so,
and a bio exists for each artist that is done.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from unittest import TestCase, mock

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, precondition, rule

from batcher.catalog.tokens import TokenCounter
from batcher.commands.base.session import Session
from batcher.commands.planning.forget import run_forget
from batcher.commands.planning.plan import choose_options, run_plan
from batcher.commands.results.judge import run_judge
from batcher.commands.sending.pause import run_pause, run_resume
from batcher.commands.sending.redo import RedoOptions, run_redo
from batcher.commands.sending.retry import run_retry
from batcher.core.actions import Finish
from batcher.errors import ConfigError, InputError
from batcher.job.loading import load_job
from batcher.plan.checks import build_todays_version, check_unsent_lines
from batcher.plan.options import PlanWish
from batcher.plan.pilot_draw import PilotWish
from batcher.plan.pilot_plan import recut_with_pilot
from batcher.sandbox import SandboxSettings
from batcher.state import pilots
from batcher.views.progress import CleanConsole, Display
from tests.properties.test_machine import DEEP, LINES, JobMachine, case, no_faults
from tests.support.examples import SOAK
from tests.support.job_kit import JOB, write_small_job
from tests.support.world import World, config_with, counter, kept_open, write_table

pytestmark = pytest.mark.slow("a state machine over the whole job")

CHECK = """

def accept(artist, bio):
    return "refused" if int(artist.artist_id[1:]) % 10 < {strictness} else None
"""
TAKES_COUNTERS = ("commands.sending.retry", "commands.sending.redo", "commands.planning.plan")


@contextlib.contextmanager
def shared_counter() -> Iterator[None]:
    """Let commands use the counter of this process: each of them would wait half a second for its own."""
    with contextlib.ExitStack() as stack:
        for module in TAKES_COUNTERS:
            stack.enter_context(mock.patch(f"batcher.{module}.TokenCounter", _open_counter))
        yield


@contextlib.contextmanager
def _open_counter() -> Iterator[TokenCounter]:
    yield counter()


class SteeredJob(JobMachine):
    """One job whose user changes his mind."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed: Counter[str] = Counter()
        """How often the user has asked for a bio again that was accepted, by artist."""
        self.forgotten = 0

    @initialize(tokens=st.sampled_from([9_000, 60_000]), strictness=st.sampled_from([0, 3]))
    def begin(self, tokens: int, strictness: int = 0) -> None:
        """A job that is planned and released; its check refuses some tenths of the answers."""
        config = config_with(
            job={"path": self.folder / "painters", "input": self.folder / "table.csv"},
            limits={"lines_per_shard": 10, "tokens_per_shard": 7_000, "enqueued_tokens": tokens},
            poll={"interval_s": 3_600},
            brake={"max_unusable": 0.5, "window": 20, "first_wave": 0.3},
            api={"reconcile_grace_s": 60},
        )
        write_small_job(self.folder, self._source(strictness))
        write_table(self.folder / "table.csv", LINES, (1, 2))
        self.world = World(self.folder, SandboxSettings(enqueued_tokens=tokens), config)
        self._load()
        self.world.plan(self.folder / "table.csv")
        self.open.enter_context(kept_open(self.world.store))
        self.open.enter_context(shared_counter())
        self.world.release()

    def _source(self, strictness: int) -> str:
        return JOB.partition("\n\ndef accept")[0] + CHECK.format(strictness=strictness)

    def _load(self) -> None:
        self.world.job = load_job(self.folder / "painters")

    def _session(self) -> Session:
        display = Display(CleanConsole(stderr=True, quiet=True))
        return Session(self.world.config, self.world.store, display, json=True)

    def _may_send(self) -> bool:
        """Return whether the sending commands would start: unsent lines are of today's prompt."""
        try:
            with self.world.store.read_transaction() as tx:
                check_unsent_lines(tx, build_todays_version(self.world.config, self.world.job))
        except ConfigError:
            return False
        return True

    # --- what the user does -----------------------------------------------------------------------------------------

    @rule(text=st.sampled_from(["Be brief.", "Be exact.", "Be kind."]))
    def prompt_is_edited(self, text: str) -> None:
        """Change the prompt in the job's folder."""
        (self.folder / "painters" / "system.md").write_text(text, encoding="utf-8")
        self._load()

    @rule(strictness=st.sampled_from([0, 3, 10]))
    def check_is_edited(self, strictness: int) -> None:
        """Have the check refuse other answers than before."""
        (self.folder / "painters" / "job.py").write_text(self._source(strictness), encoding="utf-8")
        self._load()

    @rule()
    def plan_is_made_again(self) -> None:
        """Cut what is unsent again, with the job as it is, and release it; the table still has those forgotten."""
        session = self._session()
        options = choose_options(session, PlanWish(), add=False)
        run_plan(session, options.__class__(options.input, replan=True, settings=options.settings))
        self.world.release()
        self.forgotten = 0

    @rule(lines=st.sampled_from([4, 100]), seed=st.integers(1, 3))
    def pilot_is_sent(self, lines: int, seed: int) -> None:
        """Cut a pilot in front of what is unsent, and release it alone."""
        world = self.world
        recut_with_pilot(world.config, world.job, world.store, PilotWish(lines, seed), counter(), lambda *_: None)
        with world.store.transaction("release_pilot") as tx:
            pilot = pilots.load_newest_pilot(tx)
            if pilot is not None:
                pilots.release_pilot(tx, pilot.pilot)

    @rule()
    def the_rest_is_released(self) -> None:
        """Release what is planned."""
        self.world.release()

    @rule(same_prompt=st.booleans(), missing=st.booleans())
    def lines_are_retried(self, same_prompt: bool, missing: bool) -> None:
        """Bring dead and held lines back, also the perhaps paid ones."""
        if not same_prompt and not self._may_send():
            return
        if missing:  # what the user accepts to pay a second time
            rows = self.world.rows("SELECT artist_id FROM artists WHERE state = 'held' AND failure = 'missing'")
            self.allowed.update(str(row[0]) for row in rows)
        failure = "missing" if missing else None
        run_retry(self._session(), failure, None, held=False, dead=False, same_prompt=same_prompt)

    @rule(dry_run=st.booleans(), revoke=st.booleans())
    def answers_are_judged_again(self, dry_run: bool, revoke: bool) -> None:
        """Judge the kept answers with the check as it is."""
        before = {str(row[0]) for row in self.world.rows("SELECT artist_id FROM bios")}
        run_judge(self._session(), dry_run, revoke)
        after = {str(row[0]) for row in self.world.rows("SELECT artist_id FROM bios")}
        assert before <= after or (revoke and not dry_run)
        self.allowed.update(before - after)

    @rule(artists=st.sets(st.integers(0, LINES - 1), min_size=1, max_size=12))
    def bios_are_redone(self, artists: set[int]) -> None:
        """Ask for bios again that exist; those of other artists, and those in flight, are left alone."""
        if not self._may_send():
            return
        done = {str(row[0]) for row in self.world.rows("SELECT artist_id FROM artists WHERE state = 'done'")}
        chosen = sorted(done & {f"a{number:05d}" for number in artists})
        if chosen:
            run_redo(self._session(), RedoOptions(tuple(chosen), None, None), yes=True)
            self.allowed.update(chosen)

    @rule(priority=st.sampled_from([1, 2]), most=st.integers(1, 3))
    def artists_are_forgotten(self, priority: int, most: int) -> None:
        """Take artists out of the plan that were never sent."""
        rows = self.world.rows(
            "SELECT artist_id FROM artists WHERE state = 'ready' AND attempts = 0 AND failure IS NULL "
            f"AND redo_after IS NULL AND priority = {priority} "
            f"AND artist_id NOT IN (SELECT artist_id FROM attempts) ORDER BY seq LIMIT {most}"
        )
        artists = [str(row[0]) for row in rows]
        if artists:
            with contextlib.suppress(InputError):  # the last ones that were sent, and were given back
                run_forget(self._session(), artists, not_in_table=False, table=None, yes=True)
        self.forgotten = LINES - int(str(self.world.rows("SELECT count(*) FROM artists")[0][0]))
        assert self.forgotten <= LINES

    @rule(pause=st.booleans())
    def sending_is_paused_or_resumed(self, pause: bool) -> None:
        """Pause, or end every pause and release the brake."""
        (run_pause if pause else run_resume)(self._session())

    @rule()
    def a_round(self) -> None:
        """Run one acting process until there is something to wait for, where its command would start."""
        if self._may_send():
            self.world.act(once=True)

    @rule(
        call=st.sampled_from(["upload_file", "create_batch", "list_batches", "download_file", "delete_file"]),
        after=st.booleans(),
    )
    def a_killed_round(self, call: str, after: bool) -> None:
        """Run an acting process that dies at one of its calls, where its command would start."""
        if self._may_send():
            super().a_killed_round(call, after)

    # --- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def every_artist_is_in_one_state(self) -> None:
        """Promise 1, of the artists that the user has not taken out of the plan."""
        assert sum(self.world.states().values()) == LINES - self.forgotten

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def nothing_usable_is_paid_twice(self) -> None:
        """Promise 2: a line whose answer was accepted is asked for again only where the user said so."""
        rows = self.world.rows(
            "SELECT a.custom_id, a.artist_id, count(*) FILTER (t.outcome = 'unusable') FROM artists AS a "
            "LEFT JOIN attempts AS t USING (artist_id) GROUP BY ALL"
        )
        usable = self.world.sandbox.ledger.usable_counts()
        wrong = {
            line: (usable.get(str(line), 0), refused)
            for line, artist, refused in rows
            if usable.get(str(line), 0) > 1 + int(str(refused)) + self.allowed[str(artist)] + self.redone[str(artist)]
        }
        assert not wrong

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def bios_are_of_done_artists(self) -> None:
        """Promise 6: one verdict a line. A bio that is asked for again stays until the next one is accepted."""
        wrong = self.world.rows(
            "SELECT artist_id, a.state, a.redo_after FROM artists AS a FULL JOIN bios AS b USING (artist_id) "
            "WHERE (a.state = 'done') <> (b.artist_id IS NOT NULL) AND a.redo_after IS NULL"
        )
        assert wrong == []

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def each_bio_says_of_which_version_it_is(self) -> None:
        """A bio is of the version that its answer was asked with, and one answer of its artist made it."""
        wrong = self.world.rows(
            "SELECT b.artist_id, b.version, b.batch_id FROM bios AS b WHERE b.version IS NULL OR NOT EXISTS ("
            "SELECT 1 FROM attempts AS t WHERE t.artist_id = b.artist_id AND t.outcome = 'bio' "
            "AND t.version = b.version AND t.batch_id IS NOT DISTINCT FROM b.batch_id)"
        )
        assert wrong == []

    @rule()
    def the_end(self) -> None:
        """Check that without faults, with a check that accepts, and resumed where it asks, every job ends."""
        self.world.sandbox.update_faults(no_faults())
        self.world.sandbox.update_settings({"phantom_tokens": 0})
        self.check_is_edited(0)
        if not self._may_send():
            self.plan_is_made_again()
        run_resume(self._session())
        self.world.release()
        ended = self.world.act()
        if isinstance(ended, Finish) and ended.asks:
            run_resume(self._session())
            ended = self.world.act()
        assert not getattr(ended, "problem", "not finished")
        assert set(self.world.states()) <= {"done", "dead", "held"}


def part(name: str) -> type[SteeredJob]:
    """Return the same machine under another name: workers share the examples, each with a seed of its own."""
    return type(name, (SteeredJob,), {"__doc__": "A part of the examples."})


FEWER = settings(DEEP, max_examples=500 if SOAK > 1 else 6)


def steered_case(name: str) -> type[TestCase]:
    """Return a part as a test, with fewer examples than the machine that it extends: its steps take longer."""
    made = case(part(name))
    made.settings = FEWER  # type: ignore[attr-defined]
    return made


TestSteeredFirst = steered_case("SteeredFirst")
TestSteeredSecond = steered_case("SteeredSecond")
TestSteeredThird = steered_case("SteeredThird")
