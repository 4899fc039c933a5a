"""A job with words of its own, through every command: no screen and no file speaks of artists or bios."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import batcher
from batcher.errors import InputError
from batcher.nouns import DEFAULT, current_nouns
from tests.support.kill_harness import wait_until
from tests.support.nursery import nursery
from tests.support.shop import DEMO_SETTINGS, Shop, answer, open_small_shop, run
from tests.support.terminal import run_at_terminal

WORDS = re.compile(r"artist|(?<![^\W_])bios?(?![^\W_])|biograph", re.IGNORECASE)
"""The words of the example, which no other job may meet, also as a part of a name."""
CODE = re.compile(r' (?:id|class|data-chart)="[^"]*"')
"""What a page has for its own use and never shows."""
JOB = """\
from pydantic import BaseModel

NOUNS = ("ticket", "label")
ID, NAME = "ticket_id", "subject"


class Row(BaseModel):
    ticket_id: str
    subject: str
    priority: int = 3
    urgency: int


class Answer(BaseModel):
    category: str
    summary: str


def accept(ticket, label):
    return "the category is not one of ours" if ticket.urgency % REFUSED == 1 else None
"""
SETTINGS = '[job]\npath = "jobs/tickets"\ninput = "tickets.csv"\ndone = "done.csv"\n[limits]\nlines_per_shard = 4\n'
LINES = 16


def write_job(shop: Shop, refused: int) -> None:
    """Write the job. refused: of so many tickets one is refused."""
    job = shop.folder / "jobs" / "tickets"
    job.mkdir(exist_ok=True)
    (job / "job.py").write_text(JOB.replace("REFUSED", str(refused)), encoding="utf-8")
    (job / "system.md").write_text("Label the tickets of a support desk.", encoding="utf-8")
    (job / "user.md").write_text("Subject: {subject}", encoding="utf-8")


def write_tickets(path: Path, numbers: range) -> None:
    rows = [f"t{n},Ticket number {n},{n % 2 + 1},{n}" for n in numbers]
    path.write_text("\n".join(["ticket_id,subject,priority,urgency", *rows, ""]), encoding="utf-8")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop of tickets in two priorities, of which one has a label before; one of four is refused."""
    with open_small_shop(tmp_path, 1, per_shard=4) as made:
        write_job(made, 4)
        write_tickets(made.folder / "tickets.csv", range(LINES))
        (made.folder / "done.csv").write_text("ticket_id,category,summary\nt0,other,None.\nx,other,None.\n")
        notify = f"[notify]\ncommand = 'cat >> {made.folder}/notices.jsonl'\n"
        (made.folder / "batcher.toml").write_text(SETTINGS + notify + DEMO_SETTINGS, encoding="utf-8")
        yield made


class Walk:
    """Commands of a job, and the lines in which one of the words was met."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.met: list[str] = []
        self.wrong: list[str] = []
        """Commands that have ended by an error of Batcher."""
        self.said = ""

    def type(self, line: str) -> str:
        """Run a command whose output goes to files; return what it wrote."""
        out, err = self._shop.folder / "walk.out", self._shop.folder / "walk.err"
        out.unlink(missing_ok=True)
        err.unlink(missing_ok=True)
        ended = nursery().run(line.split(), self._shop.folder, self._shop.environment, out, err)
        return self._look(line, out.read_text(encoding="utf-8") + err.read_text(encoding="utf-8"), ended)

    def see(self, line: str, answers: tuple[str, ...] = (), term: str = "dumb") -> str:
        """Run a command at a terminal of 80 columns; return what it wrote."""
        ended, shown = run_at_terminal(self._shop, ["batcher", *line.split()], answers, term=term)
        return self._look(line, shown, ended)

    def read(self, name: str) -> str:
        """Return what a file shows."""
        return self._look(name, read_shown(self._shop.folder / name))

    def _look(self, where: str, text: str, ended: int = 0) -> str:
        if ended not in {0, 2, 3, 4} or "Traceback" in text:
            self.wrong.append(f"`{where}` ended with {ended}: {text}")
        self.met += [f"{where}: {line.strip()}" for line in text.splitlines() if WORDS.search(line)]
        self.said += text
        return text


def read_shown(path: Path) -> str:
    """Return the text of a file; of a page what it shows, with the texts of its charts and without its libraries."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".html":
        return text
    head, _, rest = text.partition('<script type="application/json" id="charts">')
    return "\n".join([CODE.sub("", head), *shown_texts(json.loads(rest.partition("</script>")[0]))])


def shown_texts(value: object) -> Iterator[str]:
    """Yield the texts of a chart that it shows: titles, names of colours, values; no names of fields."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key != "field":
                yield from shown_texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from shown_texts(part)
    elif isinstance(value, str):
        yield value


def plan_tickets(walk: Walk, shop: Shop) -> None:
    walk.type("preview")
    walk.see("preview --sample 2")
    walk.type("plan --dry-run --limit 6")
    walk.see("plan --limit 6")
    walk.type("plan --limit 1 --all")
    walk.type("plan --all")
    walk.type("pilot --lines 2")
    walk.type("resume")
    walk.type("versions")
    write_tickets(shop.folder / "tickets.csv", range(LINES - 1))
    walk.type("plan")
    walk.type("forget --not-in-table")
    walk.see("forget --not-in-table", answers=("n",))
    walk.type("forget --row t3 --yes")
    walk.type("forget --row t99")
    walk.type("forget")


def send_tickets(walk: Walk) -> None:
    walk.type("submit --shards 1")
    walk.type("status")
    walk.type("poll")
    walk.type("direct --unreleased --limit 2 --yes")
    walk.type("submit")
    walk.type("cancel --yes")
    walk.type("retry --held")
    walk.see("run --out labels.parquet --failed failed.csv --report report.html", term="xterm")
    walk.type("run --out labels.parquet --failed failed.csv")
    walk.see("status")


def look_at_labels(walk: Walk, done: str, dead: str) -> None:
    for line in (
        f"show {done}", f"show {dead}", "show Number", f"answers {done}", "answers --refused",
        "answers", "answers Number", "preview nobody", f"preview {done} --sample 1",
        "versions 1", "judge --dry-run", "doctor", "redo", f"redo --row {dead} --yes",
        "redo --row nobody --yes", "retry --row nobody", f"retry --row {done}",
        f"forget --row {done} --yes", "forget --row t0 --yes", "collect --out failed.csv",
        "collect --out labels.parquet --only-new", "collect --out again.csv --failed lost.csv",
        "report --out report.html",
    ):  # fmt: skip
        walk.type(line)
    for line in (f"show {done}", "status", "collect --out seen.csv"):
        walk.see(line)
    walk.see(f"redo --row {done}", answers=("n",))


def judge_again(walk: Walk, shop: Shop, done: str) -> None:
    write_job(shop, 2)  # and so refuses more
    walk.type("judge --dry-run")
    walk.type("judge")
    walk.type("judge --revoke")
    walk.type("status")
    write_job(shop, 1_000)  # and so takes all but one
    walk.see("judge")
    walk.type(f"redo --row {done} --yes")
    walk.type(f"show {done}")
    walk.type("report --out report.html")
    walk.type("run --out labels.parquet --overwrite")
    walk.type("collect --out again.csv --failed lost.csv --overwrite")


def make_mistakes(walk: Walk, shop: Shop) -> None:
    write_tickets(shop.folder / "other.csv", range(3))
    walk.type("plan --input other.csv")
    write_tickets(shop.folder / "tickets.csv", range(0))
    walk.type("plan")
    walk.type("forget --not-in-table")
    for row in ("t0,", ",other"):
        (shop.folder / "done.csv").write_text(f"ticket_id,category\n{row}\n", encoding="utf-8")
        walk.type("plan")


PHRASES = (
    " new tickets, ", "takes such labels from their lines",
    "`batcher redo --row", "`batcher answers TICKET_ID`", "Sample labels", "has a label", "labels.parquet",
    "The share of the tickets of each priority", "on answers of no use", "the plan has no ticket 'Number'",
)  # fmt: skip
"""What must have been said: else the walk has not come where it was to go."""


@pytest.mark.slow("nearly all commands, one after the other")
def test_a_job_of_tickets_meets_its_own_words_alone(shop: Shop) -> None:
    walk = Walk(shop)
    plan_tickets(walk, shop)
    send_tickets(walk)
    done, dead = (
        str(answer(shop, ["sql", f"SELECT min(artist_id) FROM lines WHERE state = '{state}'"])["rows"][0][0])
        for state in ("done", "dead")
    )
    look_at_labels(walk, done, dead)
    judge_again(walk, shop, done)
    wait_until((shop.folder / "notices.jsonl").exists)
    make_mistakes(walk, shop)
    walk.type("log")
    for name in ("report.html", ".batcher/batcher.log", "notices.jsonl"):
        walk.read(name)
    assert walk.wrong == [], "\n\n".join(walk.wrong)
    assert walk.met == [], "\n".join(walk.met)
    said = " ".join(walk.said.split())
    assert [phrase for phrase in PHRASES if phrase not in said] == []


def test_nouns_that_cannot_be_used_are_refused_where_the_job_is_loaded(shop: Shop) -> None:
    path = shop.folder / "jobs" / "tickets" / "job.py"
    text = path.read_text(encoding="utf-8")
    run(shop, "plan --done done.csv")
    path.write_text(text.replace('("ticket", "label")', '("ticket", 1)'), encoding="utf-8")
    assert "NOUNS has to be two plain texts, for a row and for an answer" in answer(shop, "plan", 2)["error"]
    assert "priority   rows   " in run(shop, "status")[0]  # a look needs no job
    path.write_text(text.replace("NOUNS =", "if True:\n    NOUNS ="), encoding="utf-8")
    assert "NOUNS has to be assigned once, at the start of a line" in answer(shop, "plan", 2)["error"]
    path.write_text(text + "\n\n1 +\n", encoding="utf-8")
    assert "tickets" in run(shop, "status")[0]  # of a job that is broken, too


def test_a_program_is_told_in_the_words_of_the_job(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, shop.environment[name])
    job = batcher.open(shop.folder / "batcher.toml")
    job.plan()
    job.submit()
    job.poll()
    assert "writes the 11 labels." in job.status().next_steps[-1].sentence
    with pytest.raises(InputError, match="the plan has no ticket 'x'"):
        job.show("x")
    assert current_nouns() is DEFAULT  # of another job in the same thread
