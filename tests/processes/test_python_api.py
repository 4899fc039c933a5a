"""The Python API end to end, over HTTP: a program plans, sends, follows and collects, and nothing is printed."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import batcher
from batcher import events
from batcher.contracts.registry import CONTRACTS
from batcher.contracts.sending import RunAnswer
from tests.support.python_user import use_job
from tests.support.shop import Shop, open_small_shop
from tests.support.world import ROOT

LINES = 42
NOISY = """
print('from job.py\\n', end='')  # in one piece, as two threads load the job at once


def accept(artist, bio):
    print('judged\\n', end='')
    return None
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Yield a shop whose environment this process has, in whose folder it is."""
    with open_small_shop(tmp_path, LINES, per_shard=10) as made:
        for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
            monkeypatch.setenv(name, made.environment[name])
        monkeypatch.chdir(made.folder)
        yield made


def test_a_program_does_the_whole_job_and_nothing_is_printed(
    shop: Shop, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[events.Event] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    use_job("batcher.toml", seen.append)
    assert capfd.readouterr() == ("", "")
    assert {number: signal.getsignal(number) for number in before} == before
    assert {type(each) for each in seen} >= {events.BatchCreated, events.BatchSettled, events.LinesProgressed}
    assert sum(shop.sandbox.ledger.billing_totals().values()) > 0
    rows = shop.query("SELECT count(*), count(DISTINCT artist_id) FROM 'bios.parquet'")
    assert rows == [(LINES, LINES)]


def test_a_number_that_the_state_cannot_store_is_refused(shop: Shop) -> None:
    job = batcher.open("batcher.toml")
    for call in (job.plan, job.direct):
        with pytest.raises(
            batcher.InputError, match=r"^limit has to be a whole number from 1 to 1,000,000,000, and is 1"
        ):
            call(limit=10**20)
    with pytest.raises(batcher.InputError, match=r"^seed has to be a whole number from 0 to 1,000,000,000, and is 1"):
        job.pilot(seed=10**20)
    assert not (shop.folder / ".batcher").exists()


def test_questions_are_answered_by_parameters(shop: Shop) -> None:
    job = batcher.open("batcher.toml")
    with pytest.raises(batcher.StateError, match="there is no plan"):
        job.status()
    job.plan(limit=4)
    other = shop.folder / "other.csv"
    other.write_text("artist_id,artist_name\nz1,Zoe\n", encoding="utf-8")
    with pytest.raises(batcher.DecisionError, match=r"another table.*nothing was changed, add=True agrees$"):
        job.plan(input=other)
    with pytest.raises(batcher.DecisionError, match=r"yes=True agrees$"):
        job.forget("a00000")
    assert job.forget("a00000", yes=True).forgotten == 1
    assert job.plan(input=other, add=True).states == {"ready": 4}
    with pytest.raises(batcher.InputError, match="no class of failure"):
        job.direct(failure="foo")
    with pytest.raises(batcher.ConfigError, match="does not exist"):
        batcher.open("elsewhere.toml")


WRONG_NUMBERS: list[tuple[str, dict[str, object]]] = [
    ("plan", {"limit": 0}),
    ("preview", {"sample": -1}),
    ("pilot", {"lines": 0}),
    ("submit", {"shards": 1.5}),
    ("submit", {"shards": -1}),
    ("run", {"limit": 10**20}),
    ("run", {"tail": "straight"}),
    ("direct", {"limit": -1}),
    ("direct", {"priority": "1"}),
    ("redo", {"version": 0}),
    ("answers", {"limit": 0}),
    ("sql", {"statement": "SELECT 1", "limit": 0}),
]


def test_a_wrong_number_is_refused_and_leaves_no_trace(shop: Shop) -> None:
    job = batcher.open("batcher.toml")
    job.plan(limit=3)
    for method, options in WRONG_NUMBERS:
        name, value = list(options.items())[-1]
        with pytest.raises(batcher.InputError, match=f"^{name} has to be .*, and is {re.escape(repr(value))}$"):
            getattr(job, method)(**options)
    assert job.plan().states == {"ready": 3}
    assert job.submit(shards=1).released == 1


def test_commands_run_in_threads_beside_each_other(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    job_py = shop.folder / "jobs" / "bios" / "job.py"
    job_py.write_text(job_py.read_text(encoding="utf-8") + NOISY, encoding="utf-8")
    job = batcher.open("batcher.toml", signals=True)
    job.plan()
    answers: list[RunAnswer] = []

    def run_to(out: str) -> None:
        answers.append(job.run(out=out))

    threads = [threading.Thread(target=run_to, args=(name,)) for name in ("a.csv", "b.csv")]
    for thread in threads:
        thread.start()
    looks = [job.status() for _ in range(20)]
    for thread in threads:
        thread.join()
    assert [answer.states for answer in answers] == [{"done": LINES}] * 2
    assert all(sum(look.states.values()) == LINES for look in looks)
    assert set(shop.sandbox.ledger.attempt_counts().values()) == {1}
    out, err = capfd.readouterr()
    assert (set(out.split("\n")), err) == ({"from job.py", "judged", ""}, "")


def test_a_command_ends_where_the_program_asks(shop: Shop) -> None:
    shop.sandbox.update_settings({"service_s": (1e6, 1e6)})

    def end_after_the_first_batch(event: events.Event) -> None:
        if isinstance(event, events.BatchCreated):
            job.end()

    job = batcher.open(shop.folder / "batcher.toml", on_event=end_after_the_first_batch)
    job.plan()
    told = job.run()
    assert (told.interrupted, told.states.get("done")) == (True, None)
    assert not job.status().stopped


def test_an_error_of_a_callback_ends_the_command_and_loses_nothing(shop: Shop) -> None:
    def fail(event: events.Event) -> None:
        if isinstance(event, events.BatchCreated):
            raise LookupError("of the user")

    with pytest.raises(LookupError):
        batcher.open("batcher.toml", on_event=fail).run()
    assert batcher.open("batcher.toml").run().states == {"done": LINES}
    assert set(shop.sandbox.ledger.attempt_counts().values()) == {1}


def test_the_code_of_the_page_runs(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    out, err = capfd.readouterr()
    assert err == ""
    assert f"{LINES} bios, 0 dead" in out and "yes=True agrees" in out and "the plan has no artist 'nobody'" in out


def test_every_command_is_a_method(shop: Shop) -> None:
    """A new command gets a method in batcher/api/opened_job.py, or its place among those that need none."""
    methods = {name for name in dir(batcher.OpenedJob) if not name.startswith("_")}
    names = set(CONTRACTS) - {"init", "version", "versions-difference", "sql-views", "log"} | {"difference"}
    assert methods - {"end"} == names
    assert os.fspath(batcher.open("batcher.toml").config.state.dir) == os.fspath(shop.folder / ".batcher")
