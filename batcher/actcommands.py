"""`submit`, `poll`, `run` and `collect`: the commands that act, and what they answer."""

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from batcher.collecting import Collected, check_targets, collect
from batcher.decide import Finish, Wait
from batcher.errors import ExitCode, SetupError
from batcher.plancommand import run_plan
from batcher.planner import PlanOptions
from batcher.prices import resolve
from batcher.report import read_status
from batcher.runner import INTERRUPTED
from batcher.session import Session, acting
from batcher.store.planned import count_by_state
from batcher.tables import draw_plan, draw_status, table

Answer = tuple[RenderableType, dict[str, Any]]
ALL_SHARDS = 1_000_000_000


def run_submit(session: Session, most: int | None) -> Answer:
    """Releases shards and starts what fits; prints each with its headroom, and why the rest waits."""
    with session.store.reading() as tx:
        before = int(tx.one("highest_submission")[0])
    with acting(session) as runner:
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
        Text(f"{released} shards released, {len(sent)} submitted; {_waits(waiting, ended)}{_planned(planned)}")
    )
    data = {"released": released, "submitted": sent, "waiting": [row[0] for row in waiting], "planned": planned}
    return Group(*parts), data


def _release(session: Session, most: int | None) -> int:
    with session.store.transaction("release") as tx:
        return len(tx.run("release_shards", most=most or ALL_SHARDS))


def _waits(waiting: list[tuple[Any, ...]], ended: Finish | Wait) -> str:
    if not waiting:
        return "none waits."
    reason = ended.reason if isinstance(ended, Wait) else "`batcher poll` goes on"
    return f"{len(waiting)} wait for room ({reason}): `batcher poll` starts them as it frees."


def _planned(planned: int) -> str:
    return f" {planned} are planned and not released." if planned else ""


def run_poll(session: Session, once: bool) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """Follows everything released to its end, or one round of it."""
    with acting(session) as runner, session.display.moving("lines done"):
        ended = runner.act(once)
    _raise_problem(ended)
    with session.store.reading() as tx:
        status = read_status(tx, session.config, resolve(session.config.model.name))
        states = count_by_state(tx)
    code = exit_code(states) if once else ExitCode.DONE
    if isinstance(ended, Finish) and ended.problem == INTERRUPTED:
        code = ExitCode.WORK_REMAINS
    return draw_status(status), {"states": states}, code


def run_all(session: Session, out: Path | None, failed: Path | None) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """The unattended mode."""
    check_targets(out, failed)
    job = session.config.job
    planned = run_plan(session, PlanOptions(job.input, Path(job.done) if job.done else None))
    if not session.json:
        session.display.console.print(draw_plan(*planned))
    with acting(session) as runner, session.display.moving("lines done"):
        _release(session, None)
        ended = runner.act()
    _raise_problem(ended)
    with session.store.reading() as tx:
        status, states = read_status(tx, session.config, resolve(session.config.model.name)), count_by_state(tx)
    parts: list[RenderableType] = [draw_status(status)]
    data: dict[str, Any] = {"states": states}
    if out is not None:
        collected = collect(session.store, session.job(), out, failed, only_new=False)
        parts.append(_collected_text(collected, out, failed))
        data["collected"] = _collected_json(collected)
    return Group(*parts), data, exit_code(states)


def run_collect(
    session: Session, out: Path, failed: Path | None, only_new: bool
) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """Writes the bios; incomplete work is not refused, it is said."""
    collected = collect(session.store, session.job(), out, failed, only_new)
    code = ExitCode.DONE
    if collected.open or collected.held:
        code = ExitCode.WORK_REMAINS
    elif collected.dead:
        code = ExitCode.DEAD_LINES
    return _collected_text(collected, out, failed), _collected_json(collected), code


def _collected_text(collected: Collected, out: Path, failed: Path | None) -> Text:
    lines = [f"{collected.bios:,} bios written to {out}."]
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
    return {name: getattr(collected, name) for name in ("bios", "failed", "dead", "held", "open", "skipped")}


def exit_code(states: dict[str, int] | Any) -> ExitCode:
    """3 when work remains, 4 when it is over with dead lines, else 0."""
    if any(states.get(state) for state in ("ready", "waiting", "in_batch", "in_direct", "held")):
        return ExitCode.WORK_REMAINS
    return ExitCode.DEAD_LINES if states.get("dead") else ExitCode.DONE


def _raise_problem(ended: Finish | Wait) -> None:
    """What only the user can mend ends the command with exit code 2."""
    if isinstance(ended, Finish) and ended.problem and ended.problem != INTERRUPTED:
        raise SetupError(ended.problem)
