"""What an admin key adds: limits of the project in plan and doctor, and the bill beside what was counted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shop import KEY, Shop, answer, open_small_shop, run

LINES = 12
ADMIN_KEY = "sk-admin-this-is-a-secret-as-well"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop whose sandbox takes this key and this admin key alone."""
    with open_small_shop(tmp_path, LINES, per_shard=4) as made:
        made.sandbox.update_settings({"api_key": KEY, "admin_key": ADMIN_KEY, "spend_limit_usd": 0.01})
        made.environment["OPENAI_ADMIN_KEY"] = ADMIN_KEY
        yield made


def project_findings(shop: Shop) -> list[str]:
    found = answer(shop, "doctor")["findings"]
    assert all(finding["do"] for finding in found if finding["level"] != "ok")
    return [finding["found"] for finding in found if finding["what"] == "project"]


def kept_texts(shop: Shop) -> bytes:
    return b"".join(path.read_bytes() for path in (shop.folder / ".batcher").rglob("*") if path.is_file())


def test_plan_and_doctor_say_what_the_project_may(shop: Shop) -> None:
    shop.sandbox.update_settings({"enqueued_tokens": 2_000_000, "enabled_tiers": ["fast"]})
    shop.environment["BATCHER_DIRECT__SERVICE_TIER"] = "flex"
    plan = answer(shop, "plan")
    assert plan["limit"] == 2_000_000  # of the project, where the table has 40,000,000 for tier 3
    limit, spend, tier = plan["warnings"]
    assert limit == (
        "OpenAI names 2,000,000 batch tokens a day for gpt-6-luna in proj_sandbox, which is taken as the limit; the "
        "table of tiers says 40,000,000 for tier 3."
    )
    assert "more than the project's spend limit of $0.0100 a month." in spend
    assert tier == '[direct] service_tier = "flex", and proj_sandbox does not allow flex.'
    told, *notes = project_findings(shop)
    assert told == (
        "proj_sandbox: 5,000 requests a minute, 4,000,000 tokens a minute, 2,000,000 batch tokens a day for "
        "gpt-6-luna; a spend limit of $0.0100 a month; service tiers: standard, fast"
    )
    assert len(notes) == 3
    # What the state keeps of it counts where no admin key is needed, and the user's own setting before it.
    del shop.environment["OPENAI_ADMIN_KEY"]
    assert project_findings(shop) == []
    assert "2,000,000 enqueued tokens (what OpenAI named" in run(shop, "doctor")[0]
    assert answer(shop, "plan --replan")["limit"] == 2_000_000
    shop.environment["BATCHER_LIMITS__ENQUEUED_TOKENS"] = "3000000"
    assert answer(shop, "plan --replan")["limit"] == 3_000_000
    run(shop, "run")
    assert ADMIN_KEY.encode() not in kept_texts(shop)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("sk-admin-of-somebody-else", "OPENAI_ADMIN_KEY is refused (Incorrect API key provided"),
        ("sk-no-admin-key", "OPENAI_ADMIN_KEY lacks the permission (You have insufficient permissions"),
        ("sk-admin with a blank", "OPENAI_ADMIN_KEY holds a blank, a line break or a character beyond ASCII"),
    ],
)
def test_a_wrong_admin_key_is_one_sentence_and_stops_nothing(shop: Shop, key: str, words: str) -> None:
    shop.environment["OPENAI_ADMIN_KEY"] = key
    (warning,) = answer(shop, "plan")["warnings"]
    assert warning.startswith(words)
    (found,) = project_findings(shop)
    assert found.startswith(words)
    assert words in answer(shop, "bill", 2)["error"]
    run(shop, "run")
    assert key not in run(shop, "doctor")[0] + run(shop, "bill", 2)[1]


def test_an_admin_key_is_sent_to_no_other_service(shop: Shop) -> None:
    run(shop, "plan")
    elsewhere = {"OPENAI_BASE_URL": "http://10.255.255.1/v1", "BATCHER_API__TIMEOUT_S": "1"}
    (warning,) = answer(shop, "plan --replan", environment=elsewhere)["warnings"]
    told = "OPENAI_ADMIN_KEY is not sent to http://10.255.255.1/v1, as it is no address of OpenAI"
    assert warning.startswith(told)
    assert told in answer(shop, "bill", 2, elsewhere)["error"]


def test_the_bill_stands_beside_what_was_counted(shop: Shop) -> None:
    run(shop, "plan")
    assert "OPENAI_ADMIN_KEY is not set" in answer(shop, "bill", 2, {"OPENAI_ADMIN_KEY": ""})["error"]
    empty = answer(shop, "bill")
    assert (empty["counted"], empty["usage"], empty["billed_usd"]) == ([], [], 0)
    run(shop, "direct --unreleased --yes --limit 3", 3)
    run(shop, "run")
    bill = answer(shop, "bill")
    totals = shop.sandbox.ledger.billing_totals()
    assert sum(row["requests"] for row in bill["usage"]) == totals["executions"]
    for who in ("counted", "usage"):
        rows = {row.get("lane") or ("batch" if row["is_batch"] else "direct"): row for row in bill[who]}
        assert set(rows) == {"batch", "direct"}
        assert sum(row["input"] for row in rows.values()) == totals["tokens_in"]
        assert sum(row["output"] for row in rows.values()) == totals["tokens_out"]
    assert bill["billed_usd"] == pytest.approx(shop.sandbox.ledger.billed_usd, abs=2e-6)
    assert bill["difference_usd"] == pytest.approx(0, abs=2e-6)
    assert [cost["is_of_job"] for cost in bill["costs"]] == [True, True]
    told = run(shop, "bill")[0]
    assert "OpenAI counts the same number of tokens." in told
    assert "gpt-6-luna, input_tokens" in told
