"""`report` and `run --report` as a user types them: the numbers, and which files they replace."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.place import Place
from tests.support.shop import Shop, answer, open_small_shop, run

REFUSING = "\ndef accept(artist, bio):\n    return 'too plain'\n"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_small_shop(tmp_path, 40, per_shard=10) as shop:
        yield shop


def read_headline(page: str, name: str) -> str:
    return page.partition(f'id="headline-{name}">')[2].partition("<")[0]


def test_a_run_writes_its_page_and_the_numbers_are_those_of_collect_and_status(shop: Shop) -> None:
    run(shop, "run --report report.html --out bios.csv", code=0)
    page = shop.folder / "report.html"
    text = page.read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in text
    collected = answer(shop, "collect --out again.csv")
    status = answer(shop, "status")
    told = answer(shop, "report --out report.html")
    assert told["bios"] == collected["bios"] == 40
    assert told["spent"] == status["costs"]["spent"]
    assert (told["dead"], told["held"]) == (0, 0)
    assert told["bytes"] == page.stat().st_size < 3_000_000
    for written in (text, page.read_text(encoding="utf-8")):
        assert [read_headline(written, name) for name in ("bios", "dead", "open")] == ["40", "0", "0"]
    drawn, _ = run(shop, "report --out report.html")
    assert drawn.startswith("Report written to report.html: 40 bios, $")


def test_only_a_report_of_this_job_is_replaced(shop: Shop) -> None:
    run(shop, "plan")
    page = shop.folder / "report.html"
    page.write_text("mine", encoding="utf-8")
    for command in ("report --out report.html", "run --report report.html"):
        _, told = run(shop, command, code=2)
        assert "report.html exists, and is not as this job's `report` wrote it; name another file" in told
    assert page.read_text(encoding="utf-8") == "mine"
    assert not shop.sandbox.lifecycle.batches  # `run` looked before it sent anything
    run(shop, "report --out report.html --overwrite")
    assert read_headline(page.read_text(encoding="utf-8"), "bios") == "0"
    run(shop, "report --out report.html")
    page.write_text(page.read_text(encoding="utf-8") + "<!-- a note of the user's -->", encoding="utf-8")
    run(shop, "report --out report.html", code=2)
    assert not list(shop.folder.glob(".*.part"))


def test_a_run_that_stops_leaves_a_page_that_says_why(shop: Shop) -> None:
    job = shop.folder / "jobs" / "bios" / "job.py"
    job.write_text(job.read_text(encoding="utf-8") + REFUSING, encoding="utf-8")
    _, told = run(shop, "run --report report.html", code=3)
    text = (shop.folder / "report.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in text
    assert 'class="card alert"' in text
    assert "`batcher judge`" in told
    assert "<code>batcher judge</code>" in text


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("report.pdf", "report.pdf: the ending must be .html"),
        ("no/report.html", "no/report.html: the folder no does not exist; make it first"),
        ("jobs.html", "jobs.html is a folder; name a file in it"),
    ],
)
def test_a_name_that_cannot_be_a_page_is_refused(place: Place, out: str, sentence: str) -> None:
    assert place.run("plan").returncode == 0
    (place.folder / "jobs.html").mkdir()
    assert place.refused("report", "--out", out) == sentence


def test_without_a_plan_there_is_no_report(place: Place) -> None:
    assert "run `batcher plan` first" in place.refused("report", "--out", "report.html")
