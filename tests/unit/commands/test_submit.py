"""An interrupted `submit --shards N` goes on with the N shards that it has released, and buys no others."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from batcher.commands.base.session import Session
from batcher.commands.sending.cancel import run_cancel
from batcher.commands.sending.submit import Release, end_open_submit, release_shards
from batcher.sandbox import SandboxSettings
from batcher.views.progress import Display
from tests.support.world import World, config_with, write_table


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Six planned shards."""
    world = World(tmp_path, SandboxSettings(), config_with(limits={"lines_per_shard": 2}))
    world.plan(write_table(tmp_path / "artists.csv", 12, priorities=(1,)))
    return Session(world.config, world.store, Display(Console(quiet=True)), False)


def test_an_interrupted_one_goes_on_with_the_same_shards(session: Session) -> None:
    assert release_shards(session, 2) == Release(2)
    for _ in range(2):  # interrupted, and interrupted again
        assert release_shards(session, 2) == Release(2, is_earlier=True)
    end_open_submit(session)
    assert release_shards(session, 2) == Release(2)


@pytest.mark.parametrize("most", [1, 3, None])
def test_another_number_is_another_command(session: Session, most: int | None) -> None:
    release_shards(session, 2)
    assert release_shards(session, most) == Release(most or 4)
    assert release_shards(session, 2).is_earlier is False


@pytest.mark.parametrize(
    "act", [end_open_submit, lambda session: release_shards(session, None), lambda session: run_cancel(session, [])]
)
def test_commands_that_take_over_what_was_released_end_it(session: Session, act: Callable[[Session], object]) -> None:
    """After them the same command releases others: `poll` has followed the first ones, `cancel` has taken them back."""
    release_shards(session, 2)
    act(session)
    assert release_shards(session, 2).is_earlier is False


def test_fewer_than_were_asked_for(session: Session) -> None:
    assert release_shards(session, 10) == Release(6)
    assert release_shards(session, 10) == Release(6, is_earlier=True)
