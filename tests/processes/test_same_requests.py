"""Rows that ask the same, through the commands: planned, told, asked once, given to all, and collected."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.same_kit import write_rows
from tests.support.shop import Shop, answer, open_small_shop, run


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop of twelve rows with four requests."""
    with open_small_shop(tmp_path, 1, per_shard=10) as made:
        write_rows(made.folder / "artists.csv", range(12))
        made.environment["BATCHER_JOB__DEDUPE"] = "true"
        yield made


def say(shop: Shop, line: str) -> str:
    """Return what a command says, without the breaks of its lines."""
    return " ".join(run(shop, line)[0].split())


def test_what_several_rows_ask_is_asked_once(shop: Shop) -> None:
    rehearsed = answer(shop, "plan --dry-run")
    assert (rehearsed["shared_rows"], rehearsed["saved_lines"], rehearsed["lines"]) == (8, 8, 4)
    planned = answer(shop, "plan")
    assert (planned["saved_usd"], planned["states"]) == (rehearsed["saved_usd"], {"ready": 12})
    told = say(shop, "plan")
    assert "8 artists ask the same as another one and take its bio: 8 lines and about $0.00" in told
    status = answer(shop, "status")
    assert (status["following"], status["priorities"][0]["open"]) == (8, 12)
    assert "8 of the open artists wait for the bio of another one" in say(shop, "status")

    run(shop, "run --out bios.parquet")
    assert sum(shop.sandbox.ledger.usable_counts().values()) == 4
    bios = shop.query("SELECT count(*), count(DISTINCT bio), count(*) FILTER (cost_usd = 0) FROM 'bios.parquet'")
    assert bios == [(12, 4, 8)]
    shown = answer(shop, "show a004")
    assert (shown["state"], shown["same_as"], shown["bio"]["cost_usd"]) == ("done", "a000", 0.0)
    assert "asks the same as a000, whose bio this is, at no cost" in say(shop, "show a004")
    assert [each["artist_id"] for each in answer(shop, "answers a004")["answers"]] == ["a000"]
    followers = run(shop, ["sql", "SELECT count(same_as) FROM lines", "--csv"])[0]
    assert followers.split() == ["count(same_as)", "8"]

    write_rows(shop.folder / "artists.csv", range(16))
    more = answer(shop, "plan")
    assert (more["artists_new"], more["lines_planned"], more["answered_rows"]) == (4, 0, 4)
    assert (more["states"], more["saved_lines"]) == ({"done": 16}, 12)


def test_the_answers_of_an_earlier_job_are_taken(shop: Shop) -> None:
    run(shop, "run --out bios.parquet")
    earlier = shop.folder / ".batcher"
    earlier.rename(shop.folder / "earlier")
    write_rows(shop.folder / "artists.csv", range(100, 112), kinds=6)
    rehearsed = answer(shop, "plan --reuse earlier --dry-run")
    assert (rehearsed["reused_rows"], rehearsed["shared_rows"], rehearsed["lines"]) == (8, 2, 2)
    assert rehearsed["reused_usd"] > 0
    assert not earlier.exists()
    assert "8 artists take their bios from the other state" in say(shop, "plan --reuse earlier")
    assert answer(shop, "status")["states"] == {"done_before": 8, "ready": 4}
    run(shop, "run --out more.parquet --overwrite")
    assert sum(shop.sandbox.ledger.usable_counts().values()) == 6
    lanes = shop.query("SELECT lane, count(*) FROM 'more.parquet' GROUP BY lane ORDER BY lane")
    assert lanes == [("batch", 4), ("earlier", 8)]
    assert "--reuse: nowhere holds no state" in run(shop, "plan --reuse nowhere", 2)[1]
