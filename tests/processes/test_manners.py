"""How commands behave: version, quiet, another process at work, questions on a terminal, Ctrl-C at once."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher import __version__
from batcher.cli.interrupts import INTERRUPTED, LAST_WORDS
from batcher.disk.locks import LockOwner, lane_lock
from tests.support.shop import Shop, open_shop, open_small_shop, run
from tests.support.terminal import run_at_terminal


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop in which nothing has been done."""
    with open_shop(tmp_path) as made:
        yield made


def at_terminal(shop: Shop, line: str, *answers: str) -> tuple[int, list[str]]:
    """Run a line at a terminal of 24 x 80; return its exit code and the lines that it shows."""
    code, shown = run_at_terminal(shop, shlex.split(line), answers)
    return code, shown.replace("\r", "").splitlines()


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_an_option_too(shop: Shop, option: str) -> None:
    ended = shop.shell(f"batcher {option}")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"batcher {__version__}\n", "")


@pytest.mark.parametrize("command", ["poll --once", "submit", "run", "direct", "pilot"])
def test_where_another_process_is_at_work_it_need_not_be_waited_for(shop: Shop, command: str) -> None:
    assert shop.shell("batcher plan").returncode == 0
    lane = "direct" if command == "direct" else "batch"
    owner = LockOwner(os.getpid(), "poll", 1_795_700_000.0)
    with lane_lock(shop.folder / ".batcher", lane, print, time.sleep, 0.0, owner):
        ended = shop.shell(f"batcher {command} --no-wait")
    assert ended.returncode == 3
    told = ended.stderr.splitlines()[-1]
    assert told.startswith(f"batcher: process {os.getpid()} (`batcher poll`, since 2026-11-2")
    assert told.endswith("is at work on this state; `batcher status` shows it")


def test_quiet_leaves_only_the_answer_and_the_errors(shop: Shop) -> None:
    ended = shop.shell("batcher plan -q && batcher submit --quiet --shards 1 && batcher poll -q && batcher show nobody")
    assert ended.returncode == 2
    assert "Shards: 1 released, 1 submitted" in ended.stdout
    assert ended.stderr.splitlines() == ["batcher: the plan has no artist 'nobody'"]


def test_a_terminal_folds_an_error_between_words(shop: Shop) -> None:
    code, lines = at_terminal(shop, "batcher plan --input nowhere/a_table_of_a_rather_long_name.csv --limit 3")
    assert code == 2
    assert max(map(len, lines)) <= 80
    assert " ".join(lines).strip() == (
        "batcher: nowhere/a_table_of_a_rather_long_name.csv does not exist; check the name, or [job] input in "
        "batcher.toml"
    )


def test_a_person_is_asked_before_a_cancel_and_may_decline(shop: Shop) -> None:
    shop.sandbox.update_settings({"service_s": (300_000, 400_000)})
    assert shop.shell("batcher plan && batcher submit --shards 2").returncode == 0
    code, lines = at_terminal(shop, "batcher cancel", "n")
    told = " ".join(lines)
    assert code == 3
    assert "124 lines in 2 batches would be cancelled, for which at most $" in told
    assert "batcher: nothing was done" in told
    assert shop.query("SELECT count(*) FROM 'jobs/bios/artists.csv'") == [(410,)]
    ended = shop.shell("batcher status --json")
    assert '"cancelling"' not in ended.stdout
    assert shop.shell("batcher cancel --yes").returncode in {0, 3}


def test_a_person_is_asked_before_direct_buys_and_may_decline(shop: Shop) -> None:
    assert shop.shell("batcher plan --limit 3").returncode == 0
    code, lines = at_terminal(shop, "batcher direct --unreleased", "n")
    assert code == 3
    assert "3 lines at the standard price, at most $" in " ".join(lines)
    assert shop.sandbox.ledger.attempt_counts() == {}
    code, lines = at_terminal(shop, "batcher direct --unreleased", "y")
    assert code == 0
    assert len(shop.sandbox.ledger.attempt_counts()) == 3


def test_failed_lines_do_not_come_back_where_a_person_declines_to_buy_them(shop: Shop) -> None:
    shop.sandbox.update_settings({"faults": {"line_failures": {"refusal": 1.0}}})
    run_once = "BATCHER_RETRY__UNUSABLE__TRIES=0 BATCHER_BRAKE__MAX_UNUSABLE=1 batcher run --out bios.csv"
    assert shop.shell(f"batcher plan --limit 3 && {run_once}").returncode == 4
    code, lines = at_terminal(shop, "batcher direct --class unusable", "n")
    assert (code, lines[-1]) == (3, "batcher: nothing was done")
    assert "3 lines at the standard price, at most $" in " ".join(lines)
    assert json.loads(shop.shell("batcher status --json").stdout)["states"] == {"dead": 3}


@pytest.mark.parametrize("line", ["direct --unreleased", "forget --artist turner-j-m-w"])
def test_who_leaves_a_question_does_not_agree(shop: Shop, line: str) -> None:
    assert shop.shell("batcher plan --limit 3").returncode == 0
    code, lines = at_terminal(shop, f"batcher {line}")  # no answer: the input is at its end, as with Ctrl-D
    assert (code, lines[-1]) in [(3, "batcher: nothing was done"), (3, "batcher: nothing was changed")], lines
    assert shop.sandbox.ledger.attempt_counts() == {}


ONE_ARTIST = [
    "preview", "plan", "pilot --lines 1", "run --out bios.csv --failed failed.csv", "status", "show a00000", "versions",
    "answers a00000", "judge", "collect --out again.csv", "redo --artist a00000 --yes", "submit --shards 1", "poll",
    "redo --artist a00000 --yes", "direct --workers 1 --yes", "cancel --yes", "doctor", "show a00000", "log",
]  # fmt: skip
WRONG_WORDS = re.compile(
    r"(?<!of )\b1 (?:more )?(?:\w+ )?(?:lines|shards|bios|artists|batches|answers|executions|workers)\b|\$0\.00\b(?!0)"
)


def test_one_of_a_thing_is_no_plural_and_a_small_amount_is_not_nothing(tmp_path: Path) -> None:
    with open_small_shop(tmp_path, 1, 1) as shop:
        for line in ONE_ARTIST:
            out, err = run(shop, line)
            assert WRONG_WORDS.findall(out + err) == [], f"{line}: {out}{err}"


INTERRUPTED_AT = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            os.kill(os.getpid(), signal.SIGINT)

moment = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupt())
runpy.run_module("batcher", run_name="__main__", alter_sys=True)
"""
"""Runs the command, and presses Ctrl-C as it begins to import a module."""


@pytest.mark.parametrize("moment", ["batcher.cli.app", "typer", "duckdb", "atexit", "json"])  # the last two by duckdb
def test_ctrl_c_while_modules_are_imported_leaves_no_traceback(tmp_path: Path, moment: str) -> None:
    program = [sys.executable, "-c", INTERRUPTED_AT, moment, "show", "nobody"]
    ended = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (INTERRUPTED, LAST_WORDS)


@pytest.mark.parametrize(("words", "built"), [(["version"], ["version"]), (["--help"], []), ([], [])])
def test_the_options_of_the_named_command_alone_are_built(words: list[str], built: list[str]) -> None:
    program = (
        f"import sys; sys.argv[1:] = {words}\nfrom batcher.cli import app; from typer.main import get_command\n"
        "try: app.main()\nexcept SystemExit: pass\n"
        "print([name for name, command in get_command(app.app).commands.items() if command.params], file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr
    assert told.splitlines()[-1] == str(built)
