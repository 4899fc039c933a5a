"""Whole jobs at other hosts, over real HTTP: plan, run, collect; a lost create; an expired batch; odd errors."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tomllib import loads

import pytest

from batcher.collect.collect import collect_bios
from batcher.config.services import find_service_profile
from batcher.core.actions import Finish
from batcher.core.failures import FailureClass
from batcher.sandbox import SandboxSettings
from batcher.service.connecting import connect_service
from batcher.service.openai_service import OpenAIService
from batcher.state import wishes
from tests.support.hosts import HOSTS, UNLISTED, Host, Played, played_host
from tests.support.world import World, config_with, kept_open, write_table

pytestmark = pytest.mark.slow("whole jobs at a dozen hosts")

QUICK = SandboxSettings(validating_s=(10, 10), service_s=(100, 100), finalizing_s=(10, 10), cancelling_s=(5, 5))
VARIABLES = (
    "OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_API_VERSION", "AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_AD_TOKEN",
)  # fmt: skip
LINES, PER_SHARD = 12, 6
HOUR = 3600.0


class HostWorld(World):
    """A job at a host, reached as a user's environment says."""

    played: Played
    connected: OpenAIService | None = None

    def service(self) -> OpenAIService:
        self.close()
        rules, profile = self.config.retry.to_rules(), find_service_profile(self.config)
        self.connected = connect_service(5, rules, self.clock.sleep, self.random.random, profile=profile)
        return self.connected

    def close(self) -> None:
        if self.connected is not None:
            self.connected.close()


Open = Callable[..., HostWorld]


@pytest.fixture
def open_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Return what opens a planned and released job at a host."""
    with ExitStack() as stack:

        def open_at(host: Host, interval_s: float = 30, **faults: object) -> HostWorld:
            service = loads(f"[service]\n{host.settings}")["service"]
            sections = {
                "poll": {"interval_s": interval_s},
                "limits": {"lines_per_shard": PER_SHARD},
                "service": service,
            }
            world = HostWorld(tmp_path, QUICK, config_with(**sections))
            world.played = stack.enter_context(played_host(host, world.sandbox))
            stack.callback(world.close)
            world.sandbox.update_faults(faults)
            for name in VARIABLES:
                monkeypatch.delenv(name, raising=False)
            for name, value in world.played.environment.items():
                monkeypatch.setenv(name, value)
            world.plan(write_table(tmp_path / "artists.csv", LINES, (1,)))
            world.release()
            stack.enter_context(kept_open(world.store))
            return world

        yield open_at


def finish(world: HostWorld) -> dict[str, int]:
    """Run the job to its end; nothing that was sent was refused for its shape."""
    assert world.act() == Finish()
    assert not world.played.refused
    return world.states()


def times_paid_again(world: HostWorld) -> int:
    return int(world.sandbox.ledger.billing_totals()["usable_more_than_once"])


every_host = pytest.mark.parametrize("host", (*HOSTS, *UNLISTED), ids=lambda host: host.name)
listing_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
unlisted_host = pytest.mark.parametrize("host", UNLISTED, ids=lambda host: host.name)


@every_host
def test_the_whole_cycle(open_at: Open, host: Host) -> None:
    world = open_at(host)
    assert finish(world) == {"done": LINES}
    assert times_paid_again(world) == 0
    assert collect_bios(world.store, world.job, world.folder / "bios.csv", None, False, False).bios == LINES


@listing_host
def test_a_lost_create_is_found(open_at: Open, host: Host) -> None:
    world = open_at(host)
    world.played.lose_creates = 1
    assert finish(world) == {"done": LINES}
    assert times_paid_again(world) == 0 and world.played.calls.count("POST batches") == 2


@unlisted_host
def test_a_lost_create_is_held_where_absence_cannot_be_shown(open_at: Open, host: Host) -> None:
    world = open_at(host)
    world.played.lose_creates = 1
    begun = world.clock()
    states = finish(world)
    if host.name == "no-delete":  # it lists batches, so that one that was made is found
        assert states == {"done": LINES}
    else:
        assert states == {"done": LINES - PER_SHARD, "held": PER_SHARD}
        assert world.clock() - begun < 3600  # not after a day of looking
        with world.store.transaction("retry") as tx:
            wishes.retry_lines(tx, wishes.RetryFilter(FailureClass.MISSING))
        assert finish(world) == {"done": LINES}
    assert times_paid_again(world) == (0 if host.name == "no-delete" else PER_SHARD)


def test_a_create_without_effect_is_held_where_no_file_is_deleted(open_at: Open) -> None:
    """Its file is still there, so that a create which is late could use it."""
    world = open_at(UNLISTED[-1], reset_before={"create": 1.0})
    begun = world.clock()
    states = finish(world)
    assert states == {"held": LINES} and times_paid_again(world) == 0
    assert world.clock() - begun < HOUR


@every_host
def test_an_expired_batch(open_at: Open, host: Host) -> None:
    world = open_at(host, interval_s=3 * HOUR, expire_batches=(1,))
    assert finish(world) == {"done": LINES}
    assert times_paid_again(world) == 0


@every_host
def test_odd_errors(open_at: Open, host: Host) -> None:
    """Refusals of calls and failures of lines in the host's own shape are waited for, and nothing dies of them."""
    world = open_at(host, line_failures={"rate_limit": 0.4})
    world.played.refuse = {"upload": (429, "slow down", "429"), "create": (429, "too many", "429")}
    assert finish(world) == {"done": LINES}
    assert times_paid_again(world) == 0


def test_a_full_queue_at_azure_is_waited_for(open_at: Open) -> None:
    """Regions that fail fast refuse the create itself, with 400."""
    world = open_at(next(host for host in HOSTS if host.name == "azure"))
    words = "The number of enqueued tokens has surpassed the configured limit of 30K for the deployment."
    world.played.refuse = {"create": (400, words, "token_limit_exceeded")}
    assert finish(world) == {"done": LINES}


def test_a_missing_deployment_stops_the_job(open_at: Open) -> None:
    world = open_at(next(host for host in HOSTS if host.name == "azure"))
    world.played.refuse = {"create": (404, "The API deployment does not exist.", "DeploymentNotFound")}
    ended = world.act()
    assert isinstance(ended, Finish) and "deployment" in ended.problem


def test_a_batch_at_azure_may_run_over_its_window(open_at: Open) -> None:
    """After its window it is not given up: nobody ends it but the user."""
    azure = next(host for host in HOSTS if host.name == "azure")
    world = open_at(azure, interval_s=3 * HOUR, stuck_finalizing_s=40 * HOUR)
    assert finish(world) == {"done": LINES}
    created = min(batch.created_at for batch in world.sandbox.lifecycle.batches.values())
    assert world.clock() - created > 30 * HOUR
