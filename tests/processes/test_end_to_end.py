"""The commands as a user types them: real processes, real HTTP, a sandbox on the loopback interface."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.shop import KEY, Shop, open_shop
from tests.support.world import ROOT


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop in which nothing has been done."""
    with open_shop(tmp_path) as made:
        yield made


CHAIN = "batcher plan && batcher submit --shards 10 && batcher poll && batcher collect --out bios.parquet"
HOURS: Mapping[str, object] = {"service_s": (600, 5400)}
"""Batches long enough for something to happen beside them."""


@dataclass(frozen=True)
class Finished:
    """A shop in which the four commands have run, and what they said."""

    shop: Shop
    said: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """For tests that only look at what the four commands have left."""
    with open_shop(tmp_path_factory.mktemp("finished")) as made:
        yield Finished(made, made.shell(CHAIN + " --failed failed.parquet"))


def test_the_four_commands_exactly_so(finished: Finished) -> None:
    shop, done = finished.shop, finished.said
    assert done.returncode == 4, done.stderr  # dead lines, told by collect alone: the chain went through
    bios = shop.query("SELECT count(*), count(DISTINCT artist_id) FROM 'bios.parquet'")[0]
    failed = shop.query("SELECT count(*), min(class), max(code) FROM 'failed.parquet'")[0]
    assert bios[0] == bios[1]
    assert int(str(bios[0])) + int(str(failed[0])) == 410
    assert failed[1:] == ("invalid", "content_policy_violation")
    assert shop.sandbox.ledger.billing_totals()["usable_more_than_once"] == 0


def test_the_block_for_ones_own_table_buys_only_its_artists(shop: Shop) -> None:
    """Run it as README prints it, in a folder whose settings are for the demo."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Try it on a table of your own\n\n")[2]
    lines = [line.strip() for line in section.partition("\n\n")[0].splitlines()]
    block = [line for line in lines if not line.startswith(("pip ", "export "))]
    assert block[0].startswith("batcher init")
    quick = {"POLL__INTERVAL_S": "0.2", "API__RECONCILE_GRACE_S": "0.5", "RETRY__RATE_LIMIT__BASE_S": "0.2"}
    shop.environment.update({f"BATCHER_{key}": value for key, value in quick.items()})
    done = shop.shell("set -e\n" + "\n".join(block))
    assert done.returncode in {0, 4}, done.stderr
    assert shop.query("SELECT count(*) FROM 'my-job/jobs/example/artists.csv'") == [(5,)]
    assert len(shop.sandbox.ledger.attempt_counts()) == 5
    assert (shop.folder / "my-job" / "bios.parquet").exists()


def test_every_bio_is_its_artists_own(finished: Finished) -> None:
    rows = finished.shop.query(
        "SELECT artist_name, bio, priority, lane, attempts, cost_usd, batch_id, model FROM 'bios.parquet'"
    )
    assert rows
    for name, bio, priority, lane, attempts, cost, batch_id, model in rows:
        assert str(name) in str(bio)
        assert priority in {1, 2, 3, 4, 5}
        assert (lane, str(batch_id)[:6], model) == ("batch", "batch_", "gpt-6-luna-sandbox")
        assert int(str(attempts)) >= 1
        assert float(str(cost)) > 0


def test_urgent_priorities_are_submitted_first(shop: Shop) -> None:
    answer = shop.shell("batcher plan --json && batcher submit --shards 3 --json").stdout.splitlines()
    submitted = json.loads(answer[-1])["submitted"][:3]  # retries may follow already, on so fast a clock
    assert [s["priority"] for s in submitted] == [1, 2, 3]
    assert json.loads(answer[-1])["planned"] == 2
    assert [s["headroom_after"] for s in submitted] == sorted((s["headroom_after"] for s in submitted), reverse=True)


def test_poll_sends_nothing_that_was_not_released(shop: Shop) -> None:
    shop.shell("batcher plan && batcher submit --shards 2 && batcher poll")
    states = json.loads(shop.shell("batcher status --json").stdout)["states"]
    assert states["ready"] == 410 - 46 - 78
    again = shop.shell("batcher submit && batcher poll && batcher collect --out bios.csv")
    assert again.returncode == 4, again.stderr


def test_run_does_it_all(shop: Shop) -> None:
    done = shop.shell("batcher run --out bios.jsonl --failed failed.csv --json")
    assert done.returncode == 4, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])  # events and progress come before it
    lines = (shop.folder / "bios.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == answer["collected"]["bios"] == answer["states"]["done"]
    assert shop.shell("batcher run --out bios.jsonl").returncode == 4  # nothing is left to do, and nothing is sent
    assert shop.sandbox.ledger.billing_totals()["usable_more_than_once"] == 0


def test_run_goes_on_with_what_was_planned_and_sends_no_more(shop: Shop) -> None:
    done = shop.shell("batcher plan --limit 3 && batcher run --out bios.csv --json")
    assert json.loads(done.stdout.splitlines()[-1])["states"] == {"done": 3}
    assert "going on with what was planned" in done.stderr
    more = shop.shell("batcher run --limit 2 --out bios.csv --json")
    assert json.loads(more.stdout.splitlines()[-1])["states"] == {"done": 5}


def test_submit_says_why_the_rest_waits(shop: Shop) -> None:
    shop.environment |= {"BATCHER_BUDGET__MAX_USD": "0.02", "BATCHER_MODEL__MAX_OUTPUT_TOKENS": "600"}
    shop.sandbox.update_settings({"service_s": (1e6, 1e6)})  # what is in flight stays there
    told = " ".join(shop.shell("batcher plan && batcher submit").stdout.split())
    assert "may cost $0.0" in told
    assert "of the budget of $0.0200 is left; raise [budget] max_usd to at least $" in told
    assert "): `batcher poll` sends the rest" in told


def test_ctrl_c_ends_at_a_safe_point_and_the_next_start_goes_on(shop: Shop) -> None:
    shop.sandbox.update_settings(HOURS)
    shop.shell("batcher plan")
    command = [sys.executable, "-m", "batcher", "run", "--out", "bios.parquet"]
    with subprocess.Popen(command, cwd=shop.folder, env=shop.environment, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if "created" in line:
                break
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
    assert "safe point" in rest
    assert child.returncode == 3
    assert shop.shell("batcher run --out bios.parquet").returncode == 4
    assert shop.sandbox.ledger.billing_totals()["usable_more_than_once"] == 0


def test_the_key_stands_nowhere(finished: Finished) -> None:
    shop = finished.shop
    looks = shop.shell("batcher status ; batcher show picasso-pablo ; batcher doctor")
    for said in (finished.said, looks):
        assert said.stdout
        assert KEY not in said.stdout + said.stderr
    for path in shop.folder.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    shop.sandbox.update_settings({"api_key": "another"})
    answer = shop.shell("batcher submit")
    shop.sandbox.update_settings({"api_key": None})
    assert answer.returncode == 2
    assert "sk-this" not in answer.stderr


def test_status_works_beside_a_running_poll(shop: Shop) -> None:
    shop.sandbox.update_settings(HOURS)
    shop.shell("batcher plan && batcher submit")
    command = [sys.executable, "-m", "batcher", "poll"]
    with subprocess.Popen(command, cwd=shop.folder, env=shop.environment, stderr=subprocess.DEVNULL) as child:
        looks = [shop.shell("batcher status --json") for _ in range(4)]
        child.wait()
    assert [look.returncode for look in looks] == [0, 0, 0, 0]
    assert all(sum(json.loads(look.stdout)["states"].values()) == 410 for look in looks)


def test_plain_lines_away_from_a_terminal(finished: Finished) -> None:
    said = finished.said.stdout + finished.said.stderr
    assert said
    assert not re.search(r"\x1b\[", said)


def test_a_job_stays_with_the_service_that_has_its_work(finished: Finished) -> None:
    """The state of a rehearsal must not take the real service's bios for its own, nor the other way round."""
    shop, home = finished.shop, finished.shop.environment["OPENAI_BASE_URL"]
    first_line = f"gpt-6-luna at {home}"
    assert finished.said.stdout.startswith(first_line)
    assert f"\n{first_line}\n" in finished.said.stdout  # of `submit`
    assert shop.shell("batcher status").stdout.startswith(first_line)
    for command in ("poll", "submit", "direct", "run", "cancel"):
        done = shop.shell(f"OPENAI_BASE_URL=http://127.0.0.1:9/v1 batcher {command}")
        assert (done.returncode, done.stderr) == (
            2,
            f"batcher: this job's work is at {home}, and the address set now is http://127.0.0.1:9/v1; set "
            "OPENAI_BASE_URL back, or give this service a [state] dir of its own (where it is the same service at a "
            "new address: --service-moved)\n",
        )
    elsewhere = json.loads(shop.shell("OPENAI_BASE_URL=http://127.0.0.1:9/v1 batcher status --json").stdout)
    assert (elsewhere["model"], elsewhere["service"]) == ("gpt-6-luna", home)
    alias = home.replace("127.0.0.1", "localhost")
    assert shop.shell(f"OPENAI_BASE_URL={alias} batcher poll").returncode == 2
    assert shop.shell(f"OPENAI_BASE_URL={alias} batcher poll --service-moved").returncode == 0
    assert shop.shell(f"OPENAI_BASE_URL={alias} batcher poll").returncode == 0
    assert shop.shell("batcher poll --service-moved").returncode == 0


@pytest.mark.parametrize("user", ["ana:hunter2", "ana:hunt/er2", "ana:hunter2@x"])
def test_a_password_in_the_address_is_never_printed(finished: Finished, user: str) -> None:
    shop = finished.shop
    address = shop.environment["OPENAI_BASE_URL"].replace("://", f"://{user}@")
    for command in ("doctor", "status", "plan", "submit"):
        done = shop.shell(f"OPENAI_BASE_URL='{address}' batcher {command}")
        assert done.stdout + done.stderr
        assert "hunt" not in done.stdout + done.stderr
        assert "er2" not in done.stdout + done.stderr
