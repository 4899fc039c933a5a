"""What `status`, `resume` and `doctor` report about the brake and the first wave."""

import io
from pathlib import Path

from batcher.catalog.prices import resolve_prices
from batcher.commands.base.session import Session
from batcher.commands.sending.pause import run_resume
from batcher.commands.tools.doctor import run_health_checks
from batcher.core.brake import REMEDIES
from batcher.core.forecast import BEST_BATCH_S
from batcher.state.reports.status import Status, read_status
from batcher.state.snapshot import release_brake
from batcher.views.progress import CleanConsole, Display
from batcher.views.status import draw_status
from tests.support.brake_kit import QUICK, bad_job, brake_config, trips
from tests.support.world import World, write_table


def _told(world: World) -> tuple[Status, str]:
    with world.store.read_transaction() as tx:
        status = read_status(tx, world.config, resolve_prices)
    console = CleanConsole(file=io.StringIO(), width=400)
    console.print(draw_status(status))
    return status, console.file.getvalue()  # type: ignore[attr-defined]


def test_status_tells_the_brake_and_what_to_do(tmp_path: Path) -> None:
    world = bad_job(tmp_path, 100)
    world.act()
    status, text = _told(world)
    (brake,) = status.brakes
    assert (brake.prompt, brake.answers, brake.unusable, brake.share) == (1, 20, 18, 0.9)
    assert [tuple(reason) for reason in brake.reasons] == [("not_accepted", 18)]
    assert "The brake: 18 of the newest 20 answers of prompt 1 (90%) were unusable (not_accepted 18)" in text
    assert f"{REMEDIES}." in text
    assert "End: not before the brake is released; from then on in" in text
    with world.store.transaction("resume") as tx:
        release_brake(tx)
    status, text = _told(world)
    assert not status.brakes
    assert "brake" not in text


def test_status_tells_and_forecasts_the_first_wave(tmp_path: Path) -> None:
    world = World(tmp_path, QUICK, brake_config())
    world.plan(write_table(tmp_path / "artists.csv", 300, (1,)))
    world.release()
    before, text = _told(world)
    assert before.expectation.forecast.best_s == 2 * BEST_BATCH_S
    assert "first wave" not in text
    world.act(once=True)
    status, text = _told(world)
    assert status.first_wave == 30
    assert "A first wave is in flight; 280 released lines wait until some of its answers were judged." in text


def test_resume_says_which_brake_it_releases(tmp_path: Path) -> None:
    world = bad_job(tmp_path, 100)
    world.act()
    session = Session(world.config, world.store, Display(CleanConsole(stderr=True)), json=False)
    told = run_resume(session)
    assert told.describe().brake_released == [1]
    assert told.draw() == "0 pauses ended; the brake is released for prompt 1: only answers from now on count"
    assert not trips(world)
    assert run_resume(session).describe().brake_released == []


def test_the_doctor_tells_the_brake(tmp_path: Path) -> None:
    world = bad_job(tmp_path, 100)
    assert not [f for f in run_health_checks(world.config, world.store, world.clock) if f.what == "brake"]
    world.act()
    (found,) = [f for f in run_health_checks(world.config, world.store, world.clock) if f.what == "brake"]
    assert found.level == "wrong"
    assert found.found.startswith("The brake: 18 of the newest 20 answers")
    assert found.found.endswith(f"{REMEDIES}.")
    assert found.todo == "`batcher answers --refused`"
