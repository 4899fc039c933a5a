"""What a person is told to do in each state that waits for one."""

from collections.abc import Mapping

import pytest

from batcher.state.reports.status import LostCount, OpenBrake, OpenPause, OpenPilot, ShardCount
from batcher.views.next_steps import describe_next_steps
from tests.support.status_kit import NOW, build_status

LATER = NOW + 3600
SAID = "You exceeded your current quota, please check your plan and billing details."
BRAKE = OpenBrake(1, 0.9, 20, 18, [], "the brake: 18 of 20 were of no use; `batcher answers --refused` shows them")
PILOT = OpenPilot(1, 1, 200, 200, 90, True, "90 of 200 answers of the pilot were accepted")

CASES: Mapping[str, tuple[dict[str, object], list[tuple[str, str, str]]]] = {
    "nothing is planned": ({}, []),
    "all goes its way": ({"states": {"ready": 5, "in_batch": 5}}, []),
    "the model is not known": (
        {"stopped": "the service refuses us: The provided model 'gpt-9' is not supported by the Batch API."},
        [(
            "stopped",
            "batcher doctor",
            "Stopped: the service refuses us: The provided model 'gpt-9' is not supported by the Batch API. `batcher "
            "doctor` lists the models that the key can use; set [model] name to one of them, then `batcher plan "
            "--replan` and `batcher poll`.",
        )],
    ),
    "the key is refused": (
        {"stopped": "the service refuses us: Incorrect API key provided"},
        [(
            "stopped",
            "batcher doctor",
            "Stopped: the service refuses us: Incorrect API key provided. `batcher doctor` checks key, address and "
            "model; `batcher poll` goes on once it is fixed.",
        )],
    ),
    "no credit": (
        {"pauses": [OpenPause("all", "quota", LATER)], "quota_said": SAID},
        [(
            "quota",
            "batcher resume",
            f'No credit is left. OpenAI says: "{SAID}" Add credit at platform.openai.com > Billing '
            "(https://platform.openai.com/settings/organization/billing/overview), then `batcher resume`; else it is "
            "tried again at 2026-11-26 14:33:20 UTC.",
        )],
    ),
    "the pause for the quota is over": ({"pauses": [OpenPause("all", "quota", NOW)]}, []),
    "a pause that ends by itself": ({"pauses": [OpenPause("direct", "rate limit", LATER)]}, []),
    "paused by hand": (
        {"pauses": [OpenPause("all", "by hand", None)]},
        [("paused", "batcher resume", "Paused (by hand): `batcher resume` goes on.")],
    ),
    "the brake, and a pilot that has failed with it": (
        {"brakes": [BRAKE], "pilot": PILOT},
        [("brake", "batcher answers --refused",
          "The brake: 18 of 20 were of no use; `batcher answers --refused` shows them.")],
    ),
    "a pilot that has failed": (
        {"pilot": PILOT},
        [("pilot", "batcher answers --refused", "90 of 200 answers of the pilot were accepted.")],
    ),
    "a pilot under way": ({"pilot": PILOT._replace(failed=False)}, []),
    "held lines": (
        {"lost": [LostCount("held", "missing", "", 1), LostCount("held", "cancelled", "", 24_000),
                  LostCount("held", "unusable", "revoked", 2), LostCount("skipped", "invalid", "", 3)]},
        [
            ("perhaps_paid", "batcher retry --class missing",
             "1 line may have been paid for and is held: `batcher retry --class missing` asks again, and may pay "
             "twice."),
            ("revoked", "batcher redo", "2 lines are held, as the bio was revoked: `batcher redo` asks again."),
            ("held", "batcher retry --held", "24,000 lines are held: `batcher retry --held` brings them back."),
        ],
    ),
    "dead lines": (
        {"lost": [LostCount("dead", "unusable", "not_accepted", 20), LostCount("dead", "unusable", "length", 10),
                  LostCount("dead", "invalid", "", 1)]},
        [
            ("dead", "batcher answers --refused",
             "30 lines are dead (unusable): `batcher answers --refused` shows the answers, `batcher retry --class "
             "unusable` asks again."),
            ("dead", "batcher retry --class invalid",
             "1 line is dead (invalid): `batcher retry --class invalid` asks again."),
        ],
    ),
    "a shard that is refused": (
        {"expectation": build_status().expectation._replace(
            refusal="shard 3 may cost $0.20; raise [budget] max_usd; `batcher poll` goes on once it is raised")},
        [("refused", "", "Shard 3 may cost $0.20; raise [budget] max_usd; `batcher poll` goes on once it is raised.")],
    ),
    "not released": (
        {"states": {"ready": 9}, "shards": [ShardCount("planned", 1, 9, 900)]},
        [("unreleased", "batcher submit", "1 shard is planned and not released; `batcher submit` releases.")],
    ),
    "all is over": (
        {"states": {"done": 41_870, "dead": 0}},
        [("collect", "batcher collect --out bios.parquet",
          "`batcher collect --out bios.parquet` writes the 41,870 bios.")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_state_that_waits_for_a_person_says_what_to_do(case: str) -> None:
    changes, expected = CASES[case]
    steps = describe_next_steps(build_status(**changes))
    assert [(step.kind, step.command, step.sentence) for step in steps] == expected
