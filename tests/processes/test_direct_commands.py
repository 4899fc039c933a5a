"""`batcher direct` and `batcher run --tail direct` as processes over HTTP, alone and beside the batch lane."""

import json
import re
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from tests.support.kill_harness import Killing, Scenario, wait_until
from tests.support.world import ROOT

SLOW = {"service_s": [600, 900]}
THREE_AT_ONCE = "enqueued_tokens = 60_000\ntokens_per_shard = 14_000"


def said(job: Killing, command: Sequence[str]) -> tuple[int, str]:
    """Run one command to its end; return its exit code and its output."""
    job.output.unlink(missing_ok=True)
    return job.done(command), job.output.read_text(encoding="utf-8")


def test_a_few_urgent_ones_now_and_the_rest_by_batch(tmp_path: Path) -> None:
    job = Killing(tmp_path, Scenario(lines=30, per_shard=10))
    with job.serving():
        assert job.done(("plan",)) == 0
        code, text = said(job, ("direct", "--limit", "8", "--workers", "aggressive", "--json"))
        assert code == 3  # work remains
        answer = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
        assert (answer["calls"], answer["states"]) == ({"bio": 8}, {"done": 8, "ready": 22})
        assert job.done(("run", "--out", "bios.csv")) == 0
    lanes = Counter(str(lane) for (lane,) in job.query("SELECT lane FROM bios"))
    assert lanes == {"direct": 8, "batch": 22}
    assert set(job.outcome().executions.values()) == {1}


def test_what_was_not_released_is_not_bought_unasked(tmp_path: Path) -> None:
    """Without a filter: a line costs twice what the plan said of it. The price is told before anything is sent."""
    job = Killing(tmp_path, Scenario(lines=12, per_shard=6, settings={"enqueued_tokens": 10_000}))
    with job.serving():
        assert job.done(("plan",)) == 0
        code, text = said(job, ("direct",))
        assert code == 3
        left_out = "lines that were planned and not released: 12 (--unreleased takes them too)\n"
        assert text.startswith(f"0 lines at the standard price, at most $0; {left_out}")
        assert not job.sandbox.ledger.attempt_counts()
        code, text = said(job, ("direct", "--unreleased"))
        assert code == 0
    assert re.match(r"12 lines at the standard price, at most \$0\.0\d+\n", text)
    assert set(job.outcome().executions.values()) == {1}


def test_a_run_hands_its_last_lines_over(tmp_path: Path) -> None:
    scenario = Scenario(
        lines=60, per_shard=20, direct="tail_lines = 15", settings=SLOW, faults={"line_failures": {"refusal": 0.15}}
    )
    job = Killing(tmp_path, scenario)
    with job.serving():
        assert job.done(("run", "--tail", "direct", "--out", "bios.csv")) == 0
    outcome = job.outcome()
    assert set(outcome.states.values()) == {"done"}
    lanes = Counter(str(lane) for (lane,) in job.query("SELECT lane FROM bios"))
    assert lanes["batch"] >= 40
    assert lanes["direct"] == sum(n - 1 for n in outcome.executions.values()) > 0  # each of them failed once in a batch


def test_lines_of_a_class_come_back_and_are_asked_for_now(tmp_path: Path) -> None:
    scenario = Scenario(
        lines=20,
        per_shard=20,
        faults={"line_failures": {"refusal": 0.3}},
        retry="unusable = { tries = 0 }",
        codes=(0, 4),
    )
    job = Killing(tmp_path, scenario)
    with job.serving():
        assert job.done(("run",)) == 4
        dead = sum(state == "dead" for state in job.outcome().states.values())
        assert dead > 0
        assert job.done(("direct", "--class", "unusable")) == 0
    assert set(job.outcome().states.values()) == {"done"}
    assert len(job.query("SELECT 1 FROM bios WHERE lane = 'direct'")) == dead


def test_both_lanes_at_once_ask_for_no_line_twice(tmp_path: Path) -> None:
    job = Killing(tmp_path, Scenario(lines=200, per_shard=20, limits=THREE_AT_ONCE, settings=SLOW))
    with job.serving():
        assert job.done(("plan",)) == 0
        batch, direct = job.start(("run",)), job.start(("direct", "--unreleased", "--workers", "4"))
        assert job.finish(direct) in {0, 3}  # whichever ends first says that the other has work yet
        assert job.finish(batch) in {0, 3}
        assert job.done(("run",)) == 0
    outcome = job.outcome()
    assert Counter(outcome.states.values()) == {"done": 200}
    assert set(outcome.executions.values()) == {1}
    assert outcome.twice == 0


def test_a_second_direct_waits_for_the_first(tmp_path: Path) -> None:
    job = Killing(tmp_path, Scenario(lines=40, per_shard=20, faults={"slow_s": 0.1}))
    with job.serving():
        assert job.done(("plan",)) == 0
        first, second = job.start(("direct", "--unreleased")), job.start(("direct", "--unreleased"))
        assert job.finish(first) == job.finish(second) == 0
    assert "is at work on this state; waiting for it to end" in job.output.read_text(encoding="utf-8")
    assert set(job.outcome().executions.values()) == {1}


def test_a_signal_waits_for_what_is_under_way(tmp_path: Path) -> None:
    """End as systemd and docker ask for it: the calls under way are paid for, so their answers are recorded."""
    job = Killing(tmp_path, Scenario(lines=400, per_shard=100, faults={"slow_s": 0.05}))
    with job.serving():
        assert job.done(("plan",)) == 0
        process = job.start(("direct", "--unreleased"))
        while not job.sandbox.ledger.attempt_counts():
            assert process.poll() is None, job.output.read_text()
        process.send_signal(signal.SIGTERM)
        assert job.finish(process) == 128 + signal.SIGTERM
    assert job.query("SELECT count(*) FROM direct_calls WHERE ended_at IS NULL") == [(0,)]
    assert job.query("SELECT count(*) FROM artists WHERE state = 'in_direct'") == [(0,)]


def test_a_pause_survives_a_kill(tmp_path: Path) -> None:
    """Pause at 80% of the day's ten requests; a restarted process waits for the same day."""
    job = Killing(tmp_path, Scenario(lines=12, per_shard=12, direct="daily_requests = 10"))
    pauses = "SELECT reason, until FROM pauses WHERE ended_at IS NULL"

    def open_pauses() -> list[tuple[object, ...]]:
        try:
            return job.query(pauses)
        except duckdb.IOException:  # the lane has the state just now
            return []

    with job.serving():
        assert job.done(("plan",)) == 0
        process = job.start(("direct", "--unreleased"))
        wait_until(lambda: bool(open_pauses()))
        process.kill()
        process.wait()
        before = job.query(pauses)
        second = job.start(("direct", "--unreleased"), output=tmp_path / "second.txt")
        wait_until(lambda: "paused: daily requests" in (tmp_path / "second.txt").read_text(encoding="utf-8"))
        second.kill()
        second.wait()
    assert job.query(pauses) == before
    assert [reason for reason, _ in before] == ["daily requests"]
    assert sum(job.outcome().executions.values()) == 8


@pytest.mark.shared
def test_a_small_run_on_500_real_artists(tmp_path: Path) -> None:
    """Run the small job that the original plan has before the full one."""
    table = ROOT.parent / "shared" / "artists" / "artists_500.csv"
    if not table.exists():
        pytest.skip("reference data is not beside the repository")
    job = Killing(tmp_path, Scenario(lines=500, per_shard=500, table=table))
    with job.serving():
        assert job.done(("plan",)) == 0
        assert job.done(("direct", "--workers", "aggressive", "--limit", "100")) == 3
        assert job.done(("run", "--out", "bios.parquet")) == 0
    outcome = job.outcome()
    assert Counter(outcome.states.values()) == {"done": 500}
    assert set(outcome.executions.values()) == {1}


def test_ctrl_c_in_the_tail_ends_the_run(tmp_path: Path) -> None:
    job = Killing(tmp_path, Scenario(lines=60, per_shard=20, faults={"slow_s": 0.1}))
    with job.serving():
        assert job.done(("plan",)) == 0
        process = job.start(("run", "--tail", "direct"))
        while not job.sandbox.ledger.attempt_counts():
            assert process.poll() is None, job.output.read_text()
        process.send_signal(signal.SIGINT)
        assert job.finish(process) == 3
    assert 0 < len(job.outcome().executions) < 60
    assert job.query("SELECT count(*) FROM artists WHERE state IN ('in_direct', 'in_batch')") == [(0,)]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            ("direct", "--workers", "many"),
            "workers are conservative, moderate, aggressive, auto, or a number from 1 to 16",
        ),
        (
            ("direct", "--workers", "17"),
            "workers are conservative, moderate, aggressive, auto, or a number from 1 to 16",
        ),
        (("direct", "--class", "bad_luck"), "'bad_luck' is no class of failure; there are rate_limit, call,"),
        (("direct",), "there is no plan in "),
        (("run", "--tail", "both"), "invalid value for '--tail': 'both' is not one of 'batch', 'direct'"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, command: Sequence[str], sentence: str) -> None:
    job = Killing(tmp_path, Scenario())
    with job.serving():
        code, text = said(job, command)
    assert code == 2
    assert sentence in " ".join(text.split())
    assert "Traceback" not in text
