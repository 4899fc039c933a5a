"""What the tests of the brake share: a job of which most answers are refused, and whether the brake trips."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from batcher.config.sections import Config
from batcher.sandbox import SandboxSettings
from batcher.state.snapshot import load_braked
from tests.support.world import World, config_with, write_table

BRAKE = {"max_unusable": 0.2, "window": 500, "first_wave": 0.1}
QUICK = SandboxSettings(validating_s=(10, 10), service_s=(100, 100), finalizing_s=(10, 10), cancelling_s=(5, 5))
"""Every batch has ended at the next poll."""


def _refuse_most(artist: Any, _bio: object) -> str | None:
    """Accept one in 17 answers, which is 6%."""
    return None if int(artist.artist_id[1:]) % 17 == 0 else "urgency is out of range"


def brake_config(per_shard: int = 20, brake: Mapping[str, object] = BRAKE) -> Config:
    return config_with(limits={"lines_per_shard": per_shard}, brake=brake, poll={"interval_s": 150})


def spoil(world: World) -> None:
    world.job = replace(world.job, accept=_refuse_most)


def refuse_every(world: World, nth: int) -> None:
    """Have every n-th line refused for good."""
    world.job = replace(world.job, accept=lambda artist, _: "no" if int(artist.artist_id[1:]) % nth == 0 else None)


def fix(world: World) -> None:
    world.job = replace(world.job, accept=lambda *_: None)


def bad_job(
    folder: Path, lines: int = 500, per_shard: int = 20, brake: Mapping[str, object] = BRAKE, kind: type[World] = World
) -> Any:
    """Return a released job of which 94% of the answers are refused."""
    world = kind(folder, QUICK, brake_config(per_shard, brake))
    spoil(world)
    world.plan(write_table(folder / "artists.csv", lines, (1, 2, 3, 4, 5)))
    world.release()
    return world


def count_executions(world: World) -> int:
    return int(str(world.rows("SELECT count(*) FROM attempts WHERE tokens_input > 0")[0][0]))


def trips(world: World) -> bool:
    with world.store.read_transaction() as tx:
        return bool(load_braked(tx, world.config))
