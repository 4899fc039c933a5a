"""An edited prompt, as a user meets it: with which prompt lines are sent, and how bios are asked for again."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.shop import Shop, answer, open_small_shop, run

LINES = 8
NEW = "- NEWPROMPT."

QUICK_MOMENTS = {"validating_s": (5, 10), "finalizing_s": (5, 10), "cancelling_s": (5, 10)}
"""For a sandbox whose clock is slow."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop of four shards of two lines, whose sandbox runs an hour in a second."""
    with open_small_shop(tmp_path, LINES, per_shard=2) as made:
        yield made


def edit_prompt(shop: Shop, line: str = NEW) -> None:
    with (shop.folder / "jobs" / "bios" / "system.md").open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")


def state(shop: Shop, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query on the state."""
    with duckdb.connect(str(shop.folder / ".batcher" / "state.duckdb"), read_only=True) as con:
        return con.execute(sql).fetchall()


def test_no_command_sends_what_was_planned_with_another_prompt(shop: Shop) -> None:
    run(shop, "plan")
    run(shop, "submit --shards 1")
    edit_prompt(shop)
    sentence = (
        "6 unsent lines in 3 shards were planned with another prompt; "
        "`batcher plan --replan` cuts them again (what was submitted stays as it is)"
    )
    for command in ("submit", "poll", "direct --limit 1", "run"):
        assert answer(shop, command, 2) == {"version": 1, "error": sentence}
    assert f"nothing new is sent: {sentence}" in run(shop, "poll --once", 3)[1]
    assert state(shop, "SELECT state, count(*) FROM shards WHERE shard > 1 GROUP BY 1") == [("planned", 3)]
    assert answer(shop, "plan --replan")["lines_planned"] == 6
    run(shop, "submit")
    run(shop, "poll")
    assert state(shop, "SELECT version, count(*) FROM bios GROUP BY 1 ORDER BY 1") == [(1, 2), (2, 6)]
    edit_prompt(shop, "- Once more.")
    run(shop, "poll")  # where everything was sent there is nothing to check


@pytest.mark.parametrize(("option", "prompt"), [("", 2), (" --same-prompt", 1)])
def test_what_was_cancelled_for_a_bad_prompt_comes_back_with_the_mended_one(
    tmp_path: Path, option: str, prompt: int
) -> None:
    with open_small_shop(tmp_path, LINES, per_shard=2, speed=60) as shop:  # no batch ends before it is cancelled
        _come_back_with_the_mended_prompt(shop, option, prompt)


def _come_back_with_the_mended_prompt(shop: Shop, option: str, prompt: int) -> None:
    shop.sandbox.update_settings({**QUICK_MOMENTS, "service_s": (86_000, 86_000)})
    run(shop, "plan")
    run(shop, "submit")
    run(shop, "cancel")
    edit_prompt(shop)
    assert answer(shop, "plan --replan")["lines_planned"] == 0
    shop.sandbox.update_settings({"service_s": (20, 40)})
    brought = answer(shop, f"retry --held{option}")
    assert brought["prompts"] == [{"prompt": prompt, "lines": LINES, "changed": LINES if prompt == 2 else 0}]
    run(shop, "poll")
    run(shop, "collect --out bios.csv")
    assert shop.query("SELECT DISTINCT prompt_version FROM 'bios.csv'") == [(prompt,)]
    sent = [file for file in (shop.folder / ".batcher" / "shards").iterdir() if NEW in file.read_text(encoding="utf-8")]
    assert bool(sent) == (prompt == 2)


def test_bios_are_asked_for_again_after_a_better_prompt(shop: Shop) -> None:
    run(shop, "plan")
    run(shop, "submit")
    run(shop, "poll")
    run(shop, "collect --out bios.csv")
    edit_prompt(shop)
    assert " ".join(run(shop, "retry --artist a00001")[0].split()) == (
        "0 lines are ready again. "
        "Artist 'a00001' is done, neither held nor dead; `batcher redo --artist a00001` asks for its bio again."
    )
    unasked = answer(shop, "redo --version 1", 2)["error"]
    assert re.fullmatch(
        r"8 lines are asked for again, with prompt 2 \(8 had another one before\): at most \$[\d.]+; the bios that "
        r"exist have cost \$[\d.]+; nothing was changed, --yes agrees",
        unasked,
    )
    assert state(shop, "SELECT DISTINCT state FROM artists") == [("done",)]
    where = ["redo", "--where", "artist_id < 'a00003' AND length(bio) > 0", "--version", "1", "--yes"]
    told = answer(shop, where)
    assert (told["lines"], told["prompts"], told["bios"]) == (3, [{"prompt": 2, "lines": 3, "changed": 3}], 3)
    assert 0 < told["bios_usd"] < told["most_usd"]
    assert answer(shop, "collect --out bios.csv", 3)["redone_open"] == 3
    run(shop, "poll")
    run(shop, "collect --out bios.csv")
    rows = "SELECT prompt_version, count(*) FROM 'bios.csv' GROUP BY 1 ORDER BY 1"
    assert shop.query(rows) == [(1, 5), (2, 3)]
    run(shop, "redo --artist a00001 --artist a00005 --yes")
    run(shop, "direct")
    run(shop, "collect --out bios.csv")
    assert shop.query(rows) == [(1, 4), (2, 4)]
    assert state(shop, "SELECT artist_id, version FROM former_bios WHERE reason = 'redo' ORDER BY ALL") == [
        ("a00000", 1),
        ("a00001", 1),
        ("a00001", 2),
        ("a00002", 1),
        ("a00005", 1),
    ]


def test_the_price_of_lines_with_more_room_is_what_is_reserved_for_them(tmp_path: Path) -> None:
    with open_small_shop(tmp_path, LINES, per_shard=2, speed=60) as shop:  # no batch ends before its price is looked at
        shop.sandbox.update_settings({**QUICK_MOMENTS, "service_s": (20, 40)})
        _compare_price_with_reservation(shop)


def _compare_price_with_reservation(shop: Shop) -> None:
    """Lines whose answers were cut off keep their wider room when they are asked for again with the same prompt."""
    with (shop.folder / "batcher.toml").open("a", encoding="utf-8") as file:
        file.write("more_room = 16_000\n")
    shop.sandbox.update_faults({"line_failures": {"length": 0.5}})
    run(shop, "plan")
    run(shop, "submit")
    run(shop, "poll")
    shop.sandbox.update_faults({"line_failures": {}})
    run(shop, "retry")
    run(shop, "poll")
    assert state(shop, "SELECT count(DISTINCT version) FROM artists") == [(2,)]
    told = answer(shop, ["redo", "--where", "true", "--yes"])
    shop.sandbox.update_settings({"service_s": (86_000, 86_000)})
    before = answer(shop, "status")["costs"]["reserved"]
    run(shop, "poll --once", 3)
    assert state(shop, "SELECT sum(lines) FROM shards WHERE state = 'in_flight'") == [(LINES,)]
    reserved = answer(shop, "status")["costs"]["reserved"]
    assert (before, told["most_usd"]) == (0, pytest.approx(reserved))


def test_what_cannot_be_asked_for_again_is_refused_in_a_sentence(shop: Shop) -> None:
    assert "run `batcher plan` first" in answer(shop, "redo --version 1", 2)["error"]
    run(shop, "plan")
    for line, sentence in {
        "redo": "name the bios to ask for again by --artist, --version or --where; no bio was revoked",
        "redo --version 7": "there is no prompt 7; there are 1",
        "redo --artist a00001 --artist x": "the plan has no artist 'x'; `batcher show` finds similar ones",
        "redo --artist a00001": "artist 'a00001' is ready and has no finished bio; it is still to be made",
        "redo --where born=1 --yes": "--where 'born=1' cannot be used: Binder Error: Referenced column",
    }.items():
        assert answer(shop, line, 2)["error"].startswith(sentence)
    assert run(shop, "redo --version 1 --yes")[0] == "No line is asked for again.\n"


def test_the_prompts_are_listed_and_compared(shop: Shop) -> None:
    assert "run `batcher plan` first" in answer(shop, "versions", 2)["error"]
    run(shop, "plan")
    run(shop, "submit")
    run(shop, "poll")
    (only,) = answer(shop, "versions")["prompts"]
    assert (only["prompt"], only["model"], only["lines"], only["bios"], only["is_today"]) == (
        1, "gpt-6-luna", LINES, LINES, True
    )  # fmt: skip
    assert (only["judged"], only["accepted_share"]) == (LINES, 1.0)
    assert only["cost_usd"] == pytest.approx(shop.sandbox.ledger.billed_usd)
    assert run(shop, "versions 1")[0] == "Prompt 1 and today's prompt are the same.\n"
    edit_prompt(shop)
    assert answer(shop, "versions")["today"] is None
    assert "No line was planned with today's prompt" in run(shop, "versions")[0]
    diff = answer(shop, "versions 1")["diff"].splitlines()
    assert diff[:2] == ["--- prompt 1", "+++ today's prompt"]
    assert [line for line in diff[2:] if line[0] in "+-"] == ["+", f"+{NEW}"]
    run(shop, "redo --artist a00001 --yes")
    assert [(row["prompt"], row["lines"], row["bios"]) for row in answer(shop, "versions")["prompts"]] == [
        (1, LINES - 1, LINES),
        (2, 1, 0),
    ]
    assert answer(shop, "versions 2 1")["diff"].splitlines()[-1] != ""
    assert answer(shop, "versions 3", 2)["error"] == "there is no prompt 3; there are 1, 2"
    (shop.folder / "jobs" / "bios" / "user.md").unlink()
    assert "Today's prompt is not known: " in run(shop, "versions")[0]
    assert "user.md is missing" in answer(shop, "versions 1", 2)["error"]
