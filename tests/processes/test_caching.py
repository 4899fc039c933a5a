"""The prompt cache through the commands: what plan and pilot forecast, what is sent, and what the sandbox bills."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.job_kit import JOB
from tests.support.shop import Shop, answer, open_small_shop, run

LINES = 600
SYSTEM = "\n".join(
    f"{n}. A bio of one sentence names the artist, the place and the year, and nothing else." for n in range(70)
)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop of 600 lines that all begin with the same 1,500 tokens."""
    with open_small_shop(tmp_path, LINES, per_shard=LINES, speed=1800) as made:
        job = made.folder / "jobs" / "bios"
        (job / "job.py").write_text(JOB, encoding="utf-8")
        (job / "user.md").write_text("Artist: {artist_name}", encoding="utf-8")
        (job / "system.md").write_text(SYSTEM, encoding="utf-8")
        made.environment["BATCHER_MODEL__CACHE"] = "auto"
        yield made


def billed_input(shop: Shop) -> float:
    """Return the dollars that the sandbox bills for input, at the batch prices of gpt-6-luna."""
    totals = shop.sandbox.ledger.billing_totals()
    read, written = totals["tokens_cached"], totals["tokens_written"]
    return ((totals["tokens_in"] - read - written) * 0.05 + read * 0.005 + written * 0.0625) / 1e6


def test_what_all_lines_have_in_common_is_paid_for_once_a_key(shop: Shop) -> None:
    first = answer(shop, "preview --sample 1")["artists"][0]
    assert first["cache"] == "breakpoint"
    assert 1_024 < first["cache_prefix"] < first["constant_tokens"] < first["tokens"]
    assert first["expected_usd"] < first["uncached_usd"] < first["cache_write_usd"] <= first["most_usd"]
    told = run(shop, "preview --sample 1")[0]
    assert f"[cache breakpoint: behind {first['cache_prefix']:,} tokens" in told
    assert "0 to f, by the artist's id" in told

    plan = answer(shop, "plan")
    dollars = plan["expectation"]["dollars"]
    assert plan["cache_prefix"] == first["cache_prefix"]
    assert dollars["input"] < (dollars["input"] + dollars["cache_saved"]) / 3
    assert f"Prompt cache: the first {first['cache_prefix']:,} tokens of each line" in run(shop, "plan")[0]

    pilot = answer(shop, "pilot --lines 100")
    before = shop.sandbox.ledger.billed_usd or 0.0
    run(shop, "run")
    rest = (shop.sandbox.ledger.billed_usd or 0.0) - before
    assert pilot["rest"]["amount"] == pytest.approx(rest, rel=0.1)
    assert billed_input(shop) == pytest.approx(dollars["input"], rel=0.25)  # each key was written for the pilot as well
    assert answer(shop, "status")["costs"]["spent"] == pytest.approx(shop.sandbox.ledger.billed_usd, abs=2e-6)
    totals = shop.sandbox.ledger.billing_totals()
    assert totals["tokens_cached"] > 10 * totals["tokens_written"] > 0


def test_with_the_cache_off_nothing_is_written_to_it(shop: Shop) -> None:
    run(shop, "plan")
    shop.environment["BATCHER_MODEL__CACHE"] = "off"
    assert "planned with another [model] cache" in answer(shop, "submit", 2)["error"]
    run(shop, "plan --replan")
    assert "nothing is written to the prompt cache" in run(shop, "preview --sample 1")[0]
    run(shop, "run")
    totals = shop.sandbox.ledger.billing_totals()
    assert (totals["tokens_cached"], totals["tokens_written"], totals["lines"]) == (0, 0, LINES)


def test_a_model_without_breakpoints_is_sent_nothing_of_the_cache(shop: Shop) -> None:
    shop.environment["BATCHER_MODEL__NAME"] = "gpt-5-mini"
    told = '[model] cache = "auto" is not sent: gpt-5-mini is not known to take cache breakpoints'
    assert told in answer(shop, "plan")["warnings"][-1]
    preview = answer(shop, "preview --sample 1")
    assert told in preview["notes"][-1]
    assert "cache" not in str(preview["artists"][0]["request"])
    run(shop, "direct --unreleased --yes --limit 3", 3)
    assert shop.sandbox.ledger.billing_totals()["lines_usable"] >= 2
