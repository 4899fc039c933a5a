"""A check that is too strict, as a user meets it: the answers are looked at, judged again, and not bought again."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shop import Shop, answer, open_small_shop, run
from tests.support.world import ROOT

LINES = 12
RULE = """

_accept = accept


def accept(artist, bio):
    if {which}:
        {what}
    return _accept(artist, bio)
"""
STRICT = RULE.format(which="artist.born % 4 != 0", what='return "urgency is out of range \\x1b[31m"')
FAILING = RULE.format(which="artist.born == 1605", what='raise KeyError("urgency")')
OTHER = RULE.format(which="artist.born % 4 == 0", what='return "The bio is too plain."')


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop whose sandbox runs an hour in a second; its job refuses three of four answers."""
    with open_small_shop(tmp_path, LINES, per_shard=6) as made:
        set_rule(made, STRICT)
        yield made


def set_rule(shop: Shop, rule: str) -> None:
    """Have the job judge by the rule of the repository, and by another one before it."""
    text = (ROOT / "jobs" / "bios" / "job.py").read_text(encoding="utf-8")
    (shop.folder / "jobs" / "bios" / "job.py").write_text(text + rule, encoding="utf-8")


def executions(shop: Shop) -> int:
    return sum(shop.sandbox.ledger.execution_counts().values())


NO_SERVICE = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": ""}


def test_a_check_that_was_too_strict_is_not_paid_for_again(shop: Shop) -> None:
    run(shop, "run", 4)
    paid, spent = executions(shop), answer(shop, "status")["costs"]["spent"]
    assert paid == 3 + 9 * 3 and answer(shop, "status")["states"] == {"done": 3, "dead": 9}
    refused = answer(shop, "answers --refused", environment=NO_SERVICE)
    assert (len(refused["answers"]), refused["total"]) == (20, 27)
    first = refused["answers"][0]
    assert (first["outcome"], first["code"], first["prompt"]) == ("unusable", "not_accepted", 1)
    assert first["message"].startswith("urgency is out of range") and first["artist_name"] in first["text"]
    drawn = run(shop, "answers --refused --limit 2", environment={**NO_SERVICE, "COLUMNS": "80"})[0]
    assert max(map(len, drawn.splitlines())) <= 80 and "\x1b[31m" not in drawn
    assert "not_accepted: urgency is out of range" in drawn
    assert drawn.count("bio: ") == 2 and "The newest 2 of 27; --limit shows more." in drawn
    words = first["text"].split('"bio":"')[1].split('"')[0].split()
    assert " ".join(words[-8:]) in " ".join(drawn.split())

    set_rule(shop, FAILING)
    error = "artist a00005: job.py, line"
    assert error in answer(shop, "judge", 2)["error"]
    set_rule(shop, "")
    tried = answer(shop, "judge --dry-run", environment=NO_SERVICE)
    assert tried["dry_run"] and tried["accepted"] == {"dead": 9} and tried["refused"]["bios"] == 0
    assert answer(shop, "status")["states"] == {"done": 3, "dead": 9}
    assert "9 lines would have a bio" in run(shop, "judge --dry-run", environment=NO_SERVICE)[0]
    made = answer(shop, "judge", environment=NO_SERVICE)
    assert (made["judged"], made["accepted"], made["not_kept"]) == (30, {"dead": 9}, 0)
    status = answer(shop, "status")
    assert status["states"] == {"done": 12} and status["costs"]["spent"] == spent
    assert executions(shop) == paid
    run(shop, "run --out bios.csv")
    assert shop.query("SELECT count(*) FROM 'bios.csv'") == [(12,)] and executions(shop) == paid
    assert answer(shop, "answers --refused")["total"] == 0
    assert "accepted, beside another one" in run(shop, "answers a00001")[0]


def test_bios_that_are_refused_now_are_listed_revoked_and_asked_for_again(shop: Shop) -> None:
    set_rule(shop, "")
    run(shop, "plan")
    run(shop, "submit --shards 1")
    run(shop, "poll")
    run(shop, "direct --unreleased")
    assert answer(shop, "status")["states"] == {"done": 12}
    set_rule(shop, OTHER)
    told = run(shop, "judge", environment=NO_SERVICE)[0]
    assert "3 bios are refused now, and kept; `batcher judge --revoke`" in told
    assert "The bio is too plain." in told and "a00004" in told
    revoked = answer(shop, "judge --revoke", environment=NO_SERVICE)
    assert (revoked["revoked"], revoked["refused"]["bios"]) == (3, 3)
    assert [row["artist_id"] for row in revoked["refused"]["first"]] == ["a00000", "a00004", "a00008"]
    assert answer(shop, "status")["states"] == {"done": 9, "held": 3}
    run(shop, "collect --out bios.csv --failed failed.csv", 3)
    assert shop.query("SELECT DISTINCT code FROM 'failed.csv'") == [("revoked",)]
    assert answer(shop, "show a00004")["code"] == "revoked"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("answers", "say of whom: `batcher answers ARTIST_ID`, or --refused for what was refused of all"),
        ("answers Number", "the plan has no artist 'Number'; similar: a00000 (Artist Number 0)"),
        ("answers --refused --class odd", "'odd' is no class of failure; there are"),
    ],
)
def test_a_mistake_is_one_sentence(shop: Shop, line: str, sentence: str) -> None:
    run(shop, "plan")
    assert sentence in answer(shop, line, 2)["error"]


def test_nothing_is_kept_or_planned(shop: Shop) -> None:
    assert "there is no plan" in answer(shop, "judge", 2)["error"]
    run(shop, "plan")
    assert answer(shop, "judge") == {
        "version": 1, "dry_run": False, "judged": 0, "accepted": {}, "refused": {"bios": 0, "reasons": [], "first": []},
        "revoked": 0, "put_back": 0, "changed_meanwhile": 0, "not_kept": 0, "damaged": [], "notes": [],
    }  # fmt: skip
    assert "No such answer has come." in run(shop, "answers a00001")[0]


def test_the_client_of_the_service_is_not_even_loaded() -> None:
    script = (
        "import sys, batcher.commands.results.judge, batcher.commands.results.answers\n"
        "sys.exit(any(name in sys.modules for name in ('openai', 'httpx2', 'batcher.service.openai_service')))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
