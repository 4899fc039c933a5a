"""`pilot` without a service: the report on a pilot that has failed."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from batcher.commands.base.session import Session
from batcher.commands.sending.pilot import run_pilot
from batcher.core.decide import decide_pilot_actions
from batcher.lanes.batch.runner import BatchRunner
from batcher.plan.pilot_draw import PilotWish
from batcher.state import pilots
from batcher.views.progress import Display
from tests.support.planner_kit import SLOW_POLLS, TEN_LINES, Desk
from tests.support.world import config_with


@pytest.mark.parametrize("days", [0, 10, -10])
def test_the_report_has_every_refused_answer_whatever_the_clock_was(tmp_path: Path, days: int) -> None:
    desk = Desk(tmp_path, config_with(limits=TEN_LINES, poll=SLOW_POLLS))
    world, rows = desk.world, "".join(f"a{n:02},Ana,Fact {n}\n" for n in range(20))
    world.config = world.config.model_copy(
        update={"job": world.config.job.model_copy(update={"path": desk.jobs, "input": tmp_path / "t.csv"})}
    )
    world.clock.now += days * 86_400
    desk.plan(desk.table(f"artist_id,artist_name,fact\n{rows}"), pilot=PilotWish(6, 1))
    world.clock.now -= days * 86_400
    with world.store.transaction("release_pilot") as tx:
        pilots.release_pilot(tx, 1)
    world.job = replace(world.job, accept=lambda *_: "no")
    runner = BatchRunner(world.tools())
    runner.prepare_run()
    runner.run_until_idle(how=decide_pilot_actions)
    told = run_pilot(Session(world.config, world.store, Display(Console(quiet=True)), False), 6, None).describe()
    assert [each.model_dump() for each in told.refused] == [{"code": "not_accepted", "reason": "no", "lines": 6}]
    answers = told.refused_answers
    assert [answer.reason for answer in answers] == ["no"] * 6
    assert len({answer.artist_id for answer in answers}) == 6
