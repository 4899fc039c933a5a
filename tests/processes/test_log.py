"""The log of a job, as real commands write it, and `batcher log`."""

import json
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.contracts.tools import LogAnswer
from batcher.disk.log_files import append_line
from tests.support.shop import KEY, Shop, open_small_shop, run


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_small_shop(tmp_path, lines=12, per_shard=6) as made:
        yield made


def log_of(shop: Shop) -> str:
    return (shop.folder / ".batcher" / "batcher.log").read_text(encoding="utf-8")


def test_acting_commands_write_times_events_and_ends_and_nothing_secret(shop: Shop) -> None:
    run(shop, "plan")
    run(shop, "poll --once", 3)
    run(shop, "run --out bios.csv")
    run(shop, ["retry", "--class", "no such"], 2)
    run(shop, "status")
    log = log_of(shop)
    assert stat.S_IMODE((shop.folder / ".batcher" / "batcher.log").stat().st_mode) == 0o600
    lines = [line.split(" ", 3) for line in log.splitlines()]
    assert [command.partition("[")[0] for _, _, command, sentence in lines if sentence.startswith("started: ")] == [
        "plan", "poll", "run", "retry",
    ]  # fmt: skip
    ends = [f"{level} {sentence}" for _, level, _, sentence in lines if sentence.startswith("ended with ")]
    assert ends[0].startswith("info ended with 0 after ")
    assert ends[1].startswith("warning ended with 3 after ") and ends[1].endswith("s: work remains")
    assert ends[3].startswith("error ended with 2 after ") and "'no such' is no class of failure" in ends[3]
    assert "] shard 1: uploading 6 lines" in log
    assert "] shard 2: completed, 6 bios\n" in log
    assert "Nothing is left to send: 12 bios, 0 dead, 0 held, $0.000" in log
    bios = (shop.folder / "bios.csv").read_text(encoding="utf-8")
    prompt = (shop.folder / "jobs" / "bios" / "system.md").read_text(encoding="utf-8")
    assert KEY not in log
    assert "Sandbox text on" in bios and "Sandbox text" not in log
    assert not any(line in log for line in prompt.splitlines() if len(line) > 20)


def test_what_job_py_says_of_an_answer_is_printed_and_not_written(shop: Shop) -> None:
    job = shop.folder / "jobs" / "bios" / "job.py"
    refuses = 'def accept(artist: Artist, bio: Bio) -> str | None:\n    raise ValueError("it is " + bio.bio)\n'
    job.write_text(job.read_text(encoding="utf-8") + "\n\n" + refuses, encoding="utf-8")
    command = 'command = "cat >> notices.jsonl"'
    with (shop.folder / "batcher.toml").open("a", encoding="utf-8") as file:
        file.write(f"[notify]\n{command}\n")
    told = run(shop, "run", 2)[1]
    assert "ValueError: it is Sandbox text on" in told
    log = log_of(shop)
    assert ": ValueError; fix job.py" in log
    assert "Sandbox text" not in log


def test_the_log_is_shown_by_time_and_shard_and_as_json(shop: Shop) -> None:
    assert "there is no log in" in run(shop, "log", 2)[1]
    run(shop, "run")
    shown, _ = run(shop, "log")
    assert len(shown.splitlines()) == len(log_of(shop).splitlines())
    assert run(shop, "log --lines 1")[0] == shown.splitlines(keepends=True)[-1]
    found = [json.loads(line) for line in run(shop, "log --shard 2 --json")[0].splitlines()]
    assert found and {line["shard"] for line in found} == {2}
    assert LogAnswer.model_validate(found[0]).sentence.startswith("shard 2: ")
    assert run(shop, "log --since 1h")[0] == shown
    assert run(shop, "log --since 2100-01-01")[0] == ""
    assert "--since 'soon' is neither a span nor a time" in run(shop, "log --since soon", 2)[1]


def test_what_a_pilot_has_shown_is_written(shop: Shop) -> None:
    run(shop, "plan")
    run(shop, "pilot --lines 4")
    assert "pilot 1: 4 of 4 judged answers accepted, 4 lines, passed\n" in log_of(shop)


def test_the_log_is_followed_over_a_rotation(shop: Shop) -> None:
    run(shop, "plan")
    path = shop.folder / ".batcher" / "batcher.log"
    with subprocess.Popen(
        ["batcher", "log", "-f"], cwd=shop.folder, env=shop.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "started: batcher plan" in process.stdout.readline()
        assert "ended with 0" in process.stdout.readline()
        for number in range(200):
            line = f"2026-11-27T07:38:50+00:00 info poll[1] line {number}\n"
            append_line(path, line.encode(), most_bytes=3_000)
        assert (shop.folder / ".batcher" / "batcher.log.1").exists()
        seen = [process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert seen == [f"2026-11-27T07:38:50+00:00 poll[1] line {number}\n" for number in range(200)]


def test_a_log_that_cannot_be_written_ends_no_job_and_is_told_once(shop: Shop) -> None:
    run(shop, "plan")
    (shop.folder / ".batcher" / "batcher.log").unlink()
    (shop.folder / ".batcher" / "batcher.log").mkdir()
    _, told = run(shop, "run")
    assert told.count("cannot be written (Is a directory); the job goes on without it") == 1


def test_a_plan_that_is_refused_leaves_no_folder(shop: Shop) -> None:
    run(shop, "plan --input nothing.csv", 2)
    assert not (shop.folder / ".batcher").exists()
