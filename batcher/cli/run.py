"""`submit`, `poll`, `run` and `collect`: the commands that act, and what they answer."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.catalog.prices import resolve
from batcher.cli.direct import run_lane
from batcher.cli.plan import configured, run_plan
from batcher.cli.process import acting, check_reachable
from batcher.cli.session import Session
from batcher.collect.collect import Collected, check_targets, collect, tables_read
from batcher.core.decide import INTERRUPTED, Finish, Wait, decide
from batcher.core.decide_direct import HAND_OVER, decide_tail
from batcher.errors import ExitCode, SetupError, StateError, exit_code
from batcher.lanes.batch.runner import Decide
from batcher.plan.planner import PlanOptions, planned_with
from batcher.state.direct_calls import Selection
from batcher.state.status import Status, read_status
from batcher.views.status import draw_plan, draw_status, table

Answer = tuple[RenderableType, dict[str, Any]]
COLLECTED = ("bios", "failed", "dead", "held", "open", "skipped", "kept", "notes")
ALL_SHARDS = 1_000_000_000


def run_submit(session: Session, most: int | None) -> Answer:
    """Releases shards and starts what fits; prints each with its headroom, and why the rest waits."""
    with session.store.reading() as tx:
        before = int(tx.one("highest_submission")[0])
    with acting(session) as runner, session.display.moving("sending"):
        released = _release(session, most)
        ended = runner.act(once=True)
    _raise_problem(ended)
    with session.store.reading() as tx:
        sent = tx.dicts("submissions_since", after=before)
        waiting = tx.run("shards_not_sent")
        planned = int(tx.one("count_planned")[0])
    columns = ["shard", "priority", "batch", "lines", "tokens", "reserved", "headroom after"]
    keys = ["shard", "priority", "batch_id", "lines", "tokens", "reserved", "headroom_after"]
    rows = [[str(s[k]) if k in {"shard", "priority"} else s[k] or "" for k in keys] for s in sent]
    parts: list[RenderableType] = [table("Submitted", columns, rows, 3, ["reserved", "tokens"])] if sent else []
    parts.append(
        Text(f"Shards: {released} released, {len(sent)} submitted; {_waits(len(waiting), ended)}{_planned(planned)}")
    )
    reason = ended.reason if isinstance(ended, Wait) and waiting else ""
    data = {
        "released": released, "submitted": sent, "waiting": [row[0] for row in waiting], "why": reason,
        "planned": planned,
    }  # fmt: skip
    return Group(*parts, *_interrupted(ended)), data


def _release(session: Session, most: int | None) -> int:
    with session.store.transaction("release") as tx:
        return len(tx.run("release_shards", most=most or ALL_SHARDS))


def _waits(waiting: int, ended: Finish | Wait) -> str:
    if not waiting:
        return "none waits."
    reason = f" ({ended.reason})" if isinstance(ended, Wait) else ""
    verb = "waits" if waiting == 1 else "wait"
    return f"{waiting} {verb}{reason}: `batcher poll` sends the rest as soon as it may."


def _planned(planned: int) -> str:
    return f" Not released: {planned}." if planned else ""


def run_poll(session: Session, once: bool) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """Follows everything released to its end, or one round of it."""
    with acting(session) as runner, session.display.moving("lines done"):
        ended = runner.act(once)
    _raise_problem(ended)
    status = _status(session)
    code = exit_code(status.states) if once else ExitCode.DONE
    if _is_interrupted(ended):
        code = ExitCode.WORK_REMAINS
    return Group(draw_status(status), *_interrupted(ended)), {"states": status.states}, code


def _status(session: Session) -> Status:
    with session.store.reading() as tx:
        return read_status(tx, session.config, resolve)


def _is_interrupted(ended: Finish | Wait) -> bool:
    return isinstance(ended, Finish) and ended.problem == INTERRUPTED


def _interrupted(ended: Finish | Wait) -> list[Text]:
    """How to go on after Ctrl-C."""
    if not _is_interrupted(ended):
        return []
    return [Text("Ended by Ctrl-C. What is in flight goes on at the service; the same command goes on from here.")]


def run_all(
    session: Session, options: PlanOptions | None, out: Path | None, failed: Path | None, tail: bool
) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """The unattended mode. options: what to plan; None: what the state was planned with last, else the settings'.

    tail: the direct lane takes the last lines.
    """
    check_targets(out, failed, protected_tables(session))
    check_reachable(session)
    _plan_for_run(session, options)
    ended = _run_released(session, _handing_over(session) if tail else decide)
    while ended == Finish(HAND_OVER):
        ended, calls = run_lane(session, Selection(), session.config.direct.workers, patient=False)
        if not _is_interrupted(ended):  # where the lane can do nothing now, the batches go on
            ended = _run_released(session, _handing_over(session) if calls else decide)
    _raise_problem(ended)
    status = _status(session)
    parts: list[RenderableType] = [draw_status(status), *_interrupted(ended)]
    data: dict[str, Any] = {"states": status.states}
    if out is not None:
        with session.display.moving("writing"):
            collected = collect(session.store, session.job(), out, failed, only_new=False)
        parts.append(_collected_text(collected, out, failed))
        data["collected"] = _collected_json(collected)
    return Group(*parts), data, exit_code(status.states)


def _run_released(session: Session, how: Decide) -> Finish | Wait:
    with acting(session) as runner, session.display.moving("lines done"):
        _release(session, None)
        return runner.act(how=how)


def _handing_over(session: Session) -> Decide:
    """The decisions of a run whose last lines the direct lane takes."""
    with session.store.reading() as tx:
        deadline = float(tx.one("run")[1]) + session.config.deadline.hours * 3600
    return partial(decide_tail, fewer_than=session.config.direct.tail_lines, deadline=deadline)


def _plan_for_run(session: Session, options: PlanOptions | None) -> None:
    """Plans what the user asked for. A plan of a part of the table is not widened by a command that only goes on."""
    earlier = _planned_before(session)
    if options is None and earlier is not None and earlier.limit is not None:
        told = f"going on with the plan of {earlier.limit:,} artists; `batcher plan` takes in more"
        session.display.console.print(told, highlight=False, markup=False)
        return
    planned = run_plan(session, options or earlier or configured(session))
    if not session.json:
        session.display.console.print(draw_plan(*planned))


def _planned_before(session: Session) -> PlanOptions | None:
    with suppress(StateError), session.store.reading() as tx:  # there may be none, or a file that a killed plan left
        return planned_with(tx)
    return None


def protected_tables(session: Session) -> list[Path]:
    """The tables that were read, and those that would be: no output may replace them."""
    options = configured(session)
    found = [path for path in (options.input, options.done) if path is not None]
    with suppress(StateError):
        found += tables_read(session.store)
    return found


def run_collect(
    session: Session, out: Path, failed: Path | None, only_new: bool
) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """Writes the bios; incomplete work is not refused, it is said."""
    check_targets(out, failed, protected_tables(session))
    with session.display.moving("writing"):
        collected = collect(session.store, session.job(), out, failed, only_new)
    code = exit_code({"ready": collected.open, "held": collected.held, "dead": collected.dead})
    return _collected_text(collected, out, failed), _collected_json(collected), code


def _collected_text(collected: Collected, out: Path, failed: Path | None) -> Text:
    lines = [] if collected.kept else [f"{collected.bios:,} bios written to {out}."]
    lines += [f"{note[:1].upper()}{note[1:]}." for note in collected.notes]
    if failed is not None:
        lines.append(f"{collected.failed:,} artists without a bio written to {failed}.")
    missing = [
        f"{count:,} {what}"
        for count, what in (
            (collected.open, "still open"),
            (collected.held, "held"),
            (collected.dead, "dead"),
            (collected.skipped, "skipped rows"),
        )
        if count
    ]
    if missing:
        lines.append(f"Not among the bios: {', '.join(missing)}.")
    return Text("\n".join(lines))


def _collected_json(collected: Collected) -> dict[str, Any]:
    return {name: getattr(collected, name) for name in COLLECTED}


def _raise_problem(ended: Finish | Wait) -> None:
    """What only the user can mend ends the command with exit code 2."""
    if isinstance(ended, Finish) and ended.problem and not _is_interrupted(ended):
        raise SetupError(ended.problem)
