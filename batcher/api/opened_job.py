"""The Python API: the commands as methods of an opened job. `import batcher` offers it (`batcher.open`).

Each method does what the command of its name does, and returns its contract. It asks nothing and prints nothing: what
the command line asks a person is a parameter here, and what it prints while it works are events.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from batcher.commands.base.bounds import check_numbers
from batcher.commands.base.session import Host, Session
from batcher.commands.base.signals import EndRequest
from batcher.commands.planning.forget import run_forget
from batcher.commands.planning.plan import choose_options, choose_run_options, run_plan
from batcher.commands.planning.preview import run_preview
from batcher.commands.results.answers import run_answers
from batcher.commands.results.collect import run_collect
from batcher.commands.results.judge import run_judge
from batcher.commands.results.report import run_report
from batcher.commands.results.sql import ask_state
from batcher.commands.results.status import run_show, run_status
from batcher.commands.results.versions import compare_versions, list_versions
from batcher.commands.sending.cancel import run_cancel
from batcher.commands.sending.direct import DirectOptions, run_direct
from batcher.commands.sending.pause import run_pause, run_resume
from batcher.commands.sending.pilot import run_pilot
from batcher.commands.sending.poll import run_poll
from batcher.commands.sending.redo import RedoOptions, run_redo
from batcher.commands.sending.retry import run_retry
from batcher.commands.sending.run import RunFiles, run_all
from batcher.commands.sending.submit import run_submit
from batcher.commands.tools.bill import run_bill
from batcher.commands.tools.doctor import run_doctor
from batcher.config.loading import load_config
from batcher.config.sections import Config
from batcher.contracts.planning import ForgetAnswer, PlanAnswer, PreviewAnswer
from batcher.contracts.results import (
    AnswersAnswer,
    CollectAnswer,
    DifferenceAnswer,
    JudgeAnswer,
    ReportAnswer,
    ShowAnswer,
    SqlAnswer,
    VersionsAnswer,
)
from batcher.contracts.sending import (
    CancelAnswer,
    DirectAnswer,
    PauseAnswer,
    PilotAnswer,
    PollAnswer,
    RedoAnswer,
    ResumeAnswer,
    RetryAnswer,
    RunAnswer,
    SubmitAnswer,
)
from batcher.contracts.status import StatusAnswer
from batcher.contracts.tools import BillAnswer, DoctorAnswer
from batcher.core.events import Event
from batcher.errors import InputError, StateError, describe_disk_error, format_faulty_value
from batcher.job.job import leave_job_output_alone
from batcher.nouns import find_nouns, using_nouns
from batcher.plan.options import PlanWish
from batcher.state.db.store import Store
from batcher.views.progress import CleanConsole, Display

AnyPath = str | os.PathLike[str]


def open_job(
    config: AnyPath = "batcher.toml",
    *,
    on_event: Callable[[Event], None] | None = None,
    signals: bool = False,
    service_moved: bool = False,
    waits: bool = True,
) -> "OpenedJob":
    """Open the job of a configuration file. Raises ConfigError where the file cannot be used.

    on_event: is called with each event of a command, in the thread of the command; what it raises ends the command.
    signals: whether Ctrl-C, SIGTERM and SIGHUP end a command at a safe point, where it runs in the main thread.
    service_moved: the service of this job has a new address. waits: whether a command waits where another process or
    thread is at work; else it ends at once, as with --no-wait.
    """
    return OpenedJob(load_config(Path(config)), on_event, signals, service_moved, waits)


class OpenedJob:
    """A job and its state. It keeps no file open, and may be used from several threads.

    Methods raise BatcherError: ConfigError, JobError, InputError, StateError, SetupError where the service refuses us,
    and DecisionError where the command line would ask a person. Paths are relative to the working directory.
    """

    def __init__(
        self,
        config: Config,
        on_event: Callable[[Event], None] | None = None,
        signals: bool = False,
        service_moved: bool = False,
        waits: bool = True,
    ) -> None:
        self.config = config
        self._on_event, self._signals = on_event, signals
        self._service_moved, self._waits = service_moved, waits
        self._under_way: list[EndRequest] = []

    def end(self) -> None:
        """Have the commands that are under way, in other threads or around a callback, end at the next safe point."""
        for each in list(self._under_way):
            each.set()

    @contextmanager
    def _open_session(self, command: str, **counts: int | None) -> Iterator[Session]:
        """Yield the session of the command of this name. An error of the disk is raised as StateError.

        counts: parameters that the command line bounds. Raises InputError where one cannot be used.
        """
        check_numbers(counts)
        end = EndRequest()
        handles_signals = self._signals and threading.current_thread() is threading.main_thread()
        host = Host(self._on_event, end, handles_signals, asks=False)
        display = Display(CleanConsole(stderr=True, quiet=True, force_terminal=False))
        store = Store(self.config.state.dir, time.time, time.sleep)
        self._under_way.append(end)
        try:
            with leave_job_output_alone(), using_nouns(find_nouns(self.config.job.path)):
                yield Session(self.config, store, display, True, self._service_moved, command, self._waits, host=host)
        except OSError as error:
            sentence = describe_disk_error(error)
            if not sentence:
                raise
            raise StateError(sentence) from error
        finally:
            self._under_way.remove(end)

    # --- before anything is sent --------------------------------------------------------------------------------------

    def plan(
        self,
        *,
        input: AnyPath | None = None,
        done: AnyPath | None = None,
        limit: int | None = None,
        everything: bool = False,
        skip_bad_rows: bool = False,
        add: bool = False,
        replan: bool = False,
        reuse: AnyPath | None = None,
        dry_run: bool = False,
    ) -> PlanAnswer:
        """Read the table, render and count every line, cut shards. What is not named is as in the last plan.

        everything: all artists of the table, after a plan with a limit. add: artists of another table than that of the
        last plan may join. replan: cut everything unsent again. reuse: the state folder of an earlier job, whose
        answers are taken where the request is the same. dry_run: write nothing.
        """
        with self._open_session("plan", limit=limit) as session:
            wish = PlanWish(_as_path(input), _as_path(done), limit, everything, skip_bad_rows)
            options = choose_options(session, wish, add or dry_run)
            return run_plan(session, replace(options, replan=replan, reuse=_as_path(reuse), dry_run=dry_run)).describe()

    def preview(self, *artist_ids: str, sample: int | None = None, input: AnyPath | None = None) -> PreviewAnswer:
        """Return lines as they will be sent: of these artists, of `sample` ones, else of the most urgent one.

        input: take the rows from this table, and not from the plan.
        """
        with self._open_session("preview", sample=sample) as session:
            return run_preview(session, artist_ids, sample, _as_path(input)).describe()

    def forget(
        self,
        *artist_ids: str,
        not_in_table: bool = False,
        input: AnyPath | None = None,
        yes: bool = False,
    ) -> ForgetAnswer:
        """Take artists that were never sent out of the plan: these, or all that the table does not have."""
        with self._open_session("forget") as session:
            return run_forget(session, artist_ids, not_in_table, _as_path(input), yes).describe()

    # --- what sends ---------------------------------------------------------------------------------------------------

    def pilot(self, *, lines: int | None = None, seed: int | None = None) -> PilotAnswer:
        """Send a sample of the unsent lines first, and return what came of it."""
        check_numbers({"seed": seed}, least=0)
        with self._open_session("pilot", lines=lines) as session:
            return run_pilot(session, lines, seed).describe()

    def submit(self, *, shards: int | None = None) -> SubmitAnswer:
        """Release the most urgent planned shards (None: all), and start what fits into the headroom."""
        with self._open_session("submit", shards=shards) as session:
            return run_submit(session, shards).describe()

    def poll(self, *, once: bool = False) -> PollAnswer:
        """Follow everything released to its end; once: one round of it, without waiting."""
        with self._open_session("poll") as session:
            return run_poll(session, once).describe()

    def run(
        self,
        *,
        out: AnyPath | None = None,
        failed: AnyPath | None = None,
        report: AnyPath | None = None,
        overwrite: bool = False,
        tail: Literal["batch", "direct"] = "batch",
        input: AnyPath | None = None,
        done: AnyPath | None = None,
        limit: int | None = None,
        everything: bool = False,
        skip_bad_rows: bool = False,
        add: bool = False,
    ) -> RunAnswer:
        """Plan, release all, poll until every line is done, dead or held, and collect to `out`.

        report: a page that is written every few minutes and at the end. tail: "direct" has the direct lane do the last
        lines. The options of the plan are those of `plan`.
        """
        if tail not in {"batch", "direct"}:
            raise InputError(f"tail has to be 'batch' or 'direct', and is {format_faulty_value(tail)}")
        with self._open_session("run", limit=limit) as session:
            wish = PlanWish(_as_path(input), _as_path(done), limit, everything, skip_bad_rows)
            options = choose_run_options(session, wish, add)
            files = RunFiles(_as_path(out), _as_path(failed), _as_path(report), overwrite)
            return run_all(session, options, files, tail == "direct").describe()

    def direct(
        self,
        *,
        workers: str | int | None = None,
        priority: int | None = None,
        failure: str | None = None,
        limit: int | None = None,
        unreleased: bool = False,
        same_prompt: bool = False,
    ) -> DirectAnswer:
        """Ask for what is not in flight now, one call a line, at the standard price.

        failure: only lines that failed with this class. same_prompt: with the prompt that these lines had.
        """
        with self._open_session("direct", priority=priority, limit=limit) as session:
            options = DirectOptions(priority, failure, limit, unreleased, same_prompt)
            return run_direct(session, str(workers) if workers is not None else None, options).describe()

    def pause(self) -> PauseAnswer:
        """Send nothing new until `resume`; what is in flight is still followed."""
        with self._open_session("pause") as session:
            return run_pause(session).describe()

    def resume(self) -> ResumeAnswer:
        """End every pause, release the brake, and go on although too few answers of the pilot were accepted."""
        with self._open_session("resume") as session:
            return run_resume(session).describe()

    def cancel(self, *shards: int) -> CancelAnswer:
        """Cancel at OpenAI what is in flight (of these shards; none named: of all), and hold the rest."""
        with self._open_session("cancel") as session:
            return run_cancel(session, shards).describe()

    def retry(
        self,
        *,
        failure: str | None = None,
        artist: str | None = None,
        held: bool = False,
        dead: bool = False,
        same_prompt: bool = False,
    ) -> RetryAnswer:
        """Bring dead and held lines back, with today's prompt; perhaps paid ones only with failure="missing"."""
        with self._open_session("retry") as session:
            return run_retry(session, failure, artist, held, dead, same_prompt).describe()

    def redo(
        self,
        *artist_ids: str,
        version: int | None = None,
        where: str | None = None,
        yes: bool = False,
    ) -> RedoAnswer:
        """Ask for bios again that exist, with today's prompt; each stays until its new one is accepted.

        version: only bios of this prompt. where: only bios whose collected row fulfils a SQL condition. yes: the price
        is agreed to.
        """
        with self._open_session("redo", version=version) as session:
            return run_redo(session, RedoOptions(artist_ids or None, version, where), yes).describe()

    # --- what came ----------------------------------------------------------------------------------------------------

    def status(self) -> StatusAnswer:
        """Return the whole job at this moment."""
        with self._open_session("status") as session:
            return run_status(session).describe()

    def show(self, artist_id: str) -> ShowAnswer:
        """Return one artist's whole history."""
        with self._open_session("show") as session:
            return run_show(session, artist_id).describe()

    def collect(
        self, out: AnyPath, *, failed: AnyPath | None = None, only_new: bool = False, overwrite: bool = False
    ) -> CollectAnswer:
        """Write the bios, earlier ones included, to one file, and to `failed` what has none."""
        with self._open_session("collect") as session:
            return run_collect(session, Path(out), _as_path(failed), only_new, overwrite).describe()

    def report(self, out: AnyPath, *, overwrite: bool = False) -> ReportAnswer:
        """Write the job as one page for any browser."""
        with self._open_session("report") as session:
            return run_report(session, Path(out), overwrite).describe()

    def answers(
        self, artist_id: str | None = None, *, refused: bool = False, failure: str | None = None, limit: int = 20
    ) -> AnswersAnswer:
        """Return answers as they came, the newest first: of an artist, or with `refused` of all."""
        with self._open_session("answers", limit=limit) as session:
            return run_answers(session, artist_id, refused, failure, limit).describe()

    def judge(self, *, dry_run: bool = False, revoke: bool = False) -> JudgeAnswer:
        """Judge kept answers again with today's job; revoke: take bios that are refused now from their lines."""
        with self._open_session("judge") as session:
            return run_judge(session, dry_run, revoke).describe()

    def versions(self) -> VersionsAnswer:
        """Return the prompts that were asked with."""
        with self._open_session("versions") as session:
            return list_versions(session).describe()

    def difference(self, first: int, second: int | None = None) -> DifferenceAnswer:
        """Return what differs between two prompts; second None: today's."""
        with self._open_session("versions") as session:
            return compare_versions(session, first, second).describe()

    def sql(self, statement: str, *, limit: int | None = None) -> SqlAnswer:
        """Return what the documented views of the state answer to a SELECT; limit: rows at most."""
        with self._open_session("sql", limit=limit) as session:
            return ask_state(session, statement, limit).describe()

    def doctor(self) -> DoctorAnswer:
        """Check key, endpoint, model, limits, state and disk."""
        with self._open_session("doctor") as session:
            return run_doctor(session).describe()

    def bill(self) -> BillAnswer:
        """Compare what was counted with what OpenAI says was used and billed; needs OPENAI_ADMIN_KEY."""
        with self._open_session("bill") as session:
            return run_bill(session).describe()


def _as_path(path: AnyPath | None) -> Path | None:
    return Path(path) if path is not None else None
