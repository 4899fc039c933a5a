"""The page of a run: written when it is due, and never the end of the run."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from batcher.commands.base.session import Session
from batcher.commands.results.report import REPORT_EVERY_S, RunReport
from batcher.core.actions import Action, Finish
from batcher.core.snapshot import Snapshot
from batcher.errors import InputError
from batcher.views.progress import Display
from tests.support.report_kit import make_world
from tests.support.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield make_world(tmp_path, 12)


@pytest.fixture
def said() -> Console:
    return Console(record=True, file=StringIO(), width=300)


def report_of(world: World, said: Console, out: Path | None) -> RunReport:
    return RunReport(Session(world.config, world.store, Display(said), False), out, overwrite=False)


def decide_nothing(_snapshot: Snapshot, _now: float) -> list[Action]:
    return [Finish("")]


def play_round(world: World, report: RunReport) -> list[Action]:
    return report.follow(decide_nothing)(cast(Any, None), world.clock.now)


def test_it_is_written_every_few_minutes_and_loads_itself_again(world: World, said: Console, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    report = report_of(world, said, out)
    assert play_round(world, report) == [Finish("")]
    first = out.read_text(encoding="utf-8")
    assert '<meta http-equiv="refresh" content="60">' in first
    world.clock.sleep(REPORT_EVERY_S - 1)
    play_round(world, report)
    assert out.read_text(encoding="utf-8") == first
    world.clock.sleep(1)
    play_round(world, report)
    assert out.read_text(encoding="utf-8") != first
    report.write_last()
    assert 'http-equiv="refresh"' not in out.read_text(encoding="utf-8")


def test_what_was_just_planned_is_not_written_twice(world: World, said: Console, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    report = report_of(world, said, out)
    report.write_first()
    out.unlink()
    world.clock.sleep(REPORT_EVERY_S - 1)
    play_round(world, report)
    assert not out.exists()
    world.clock.sleep(1)
    play_round(world, report)
    assert out.exists()


def test_a_clock_that_goes_back_does_not_stop_it(world: World, said: Console, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    report = report_of(world, said, out)
    play_round(world, report)
    out.unlink()
    world.clock.sleep(-REPORT_EVERY_S)
    play_round(world, report)
    assert out.exists()


def test_what_the_user_made_meanwhile_is_kept_and_told_once(world: World, said: Console, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    report = report_of(world, said, out)
    report.check_target()
    out.write_text("mine", encoding="utf-8")
    play_round(world, report)
    world.clock.sleep(REPORT_EVERY_S)
    play_round(world, report)
    report.write_last()
    assert out.read_text(encoding="utf-8") == "mine"
    assert said.export_text().count("the report was not written: ") == 1
    with pytest.raises(InputError, match="is not as this job's `report` wrote it"):
        report.check_target()


def test_without_the_option_nothing_is_written(world: World, said: Console) -> None:
    report = report_of(world, said, None)
    report.check_target()
    report.write_first()
    report.write_last()
    assert report.follow(decide_nothing) is decide_nothing
