"""Kept answers judged again: accepted ones become bios at no cost, refused bios are revoked, and nothing is asked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batcher.catalog.prices import resolve_prices
from batcher.core.actions import Finish
from batcher.errors import JobError
from batcher.job.job import Job
from batcher.plan.retry_shards import cut_retry_shard, recut_parked_lines
from batcher.review import judging
from batcher.review.judging import Judgement, judge_again
from batcher.state import shards, wishes
from batcher.state.reports.status import read_artist
from batcher.state.snapshot import load_measured
from tests.support.direct_kit import Desk, desk, settings_of
from tests.support.world import bios_job

ONCE = {"unusable": {"tries": 0}}
Refuse = Callable[[str], bool]


def judged_by(refuses: Refuse) -> Job:
    """Return the job with an acceptance check that refuses these artists."""
    return replace(bios_job(), accept=lambda artist, _: "too plain" if refuses(artist.artist_id) else None)


def number(artist_id: str) -> int:
    return int(artist_id[1:])


def nobody(_: str) -> bool:
    return False


def everybody(_: str) -> bool:
    return True


def some(artist_id: str) -> bool:
    return number(artist_id) % 4 == 0


def world_of(folder: Path, refuses: Refuse, lines: int = 12, **sections: Any) -> Desk:
    """Return a planned and released job whose check refuses these artists."""
    world = desk(folder, lines, config=settings_of(**{"retry": ONCE, **sections}))
    world.job = judged_by(refuses)
    world.release()
    return world


def judge(world: Desk, refuses: Refuse = nobody, revoke: bool = False, dry_run: bool = False) -> Judgement:
    world.job = judged_by(refuses)
    executions = world.sandbox.ledger.execution_counts()
    made = judge_again(world.store, world.job, revoke, dry_run, lambda _: None)
    recut_parked_lines(world.store, world.job, world.config)
    assert world.sandbox.ledger.execution_counts() == executions
    check(world)
    return made


def check(world: Desk) -> None:
    """Check what holds at every moment: a bio for each line that is done, and the tries that count."""
    shown = world.rows("SELECT count(*) FROM artists AS a ANTI JOIN bios USING (artist_id) WHERE state = 'done'")
    assert shown == [(0,)]
    wrong = world.rows(
        "SELECT a.artist_id FROM artists AS a WHERE attempts <> (SELECT count(*) FROM attempts AS t "
        "WHERE t.artist_id = a.artist_id AND t.counted)"
    )
    assert wrong == []
    unsent = world.rows(
        "SELECT s.shard FROM shards AS s WHERE s.state IN ('planned', 'released', 'uploaded') AND s.lines <> "
        "(SELECT count(*) FROM artists AS a WHERE a.shard = s.shard AND a.state = 'ready')"
    )
    assert unsent == []


def spent(world: Desk) -> object:
    return world.rows("SELECT round(sum(cost_usd), 9) FROM attempts")


def test_a_check_that_was_too_strict_costs_nothing_a_second_time(tmp_path: Path) -> None:
    world = world_of(tmp_path, some)
    world.act()
    assert world.states() == {"done": 9, "dead": 3}
    before = spent(world)
    tried = judge(world, dry_run=True)
    assert (tried.judged, tried.accepted) == (12, 0)
    assert [tuple(row) for row in tried.counts.accepted] == [("dead", 3)]
    assert world.states() == {"done": 9, "dead": 3}
    made = judge(world)
    assert (made.accepted, made.not_kept, made.counts.refused) == (3, 0, 0)
    assert world.states() == {"done": 12} and spent(world) == before
    columns = "lane, shard, batch_id, version, model, attempts, cost_usd, tokens_output"
    for n in (0, 4, 8):
        (bio,) = world.rows(f"SELECT {columns} FROM bios WHERE artist_id = 'a{n:05d}'")
        (attempt,) = world.rows(
            "SELECT lane, shard, batch_id, version, 'gpt-6-luna', 1, cost_usd, tokens_output FROM attempts "
            f"WHERE artist_id = 'a{n:05d}' AND outcome = 'bio' AND code IS NULL AND counted"
        )
        assert bio[4] is not None and bio[:4] + bio[5:] == attempt[:4] + attempt[5:]
    assert world.rows("SELECT count(*) FROM events WHERE kind = 'judged' AND detail = 'accepted, was dead'") == [(3,)]
    again = judge(world)
    assert (again.judged, again.accepted, again.counts.accepted) == (12, 0, [])


def test_answers_of_the_direct_lane_are_judged_as_well(tmp_path: Path) -> None:
    world = world_of(tmp_path, some)
    assert world.direct() == Finish()
    assert world.states() == {"done": 9, "dead": 3}
    made = judge(world)
    assert (made.judged, made.accepted) == (12, 3)
    assert world.states() == {"done": 12}
    assert world.rows("SELECT count(DISTINCT call) FROM bios WHERE lane = 'direct' AND shard IS NULL") == [(12,)]


@pytest.mark.parametrize(
    "change",
    [
        "state = 'held', failure = 'cancelled'",
        "state = 'waiting', wait_until = 2e9, shard = NULL",
        "state = 'ready', shard = NULL",
    ],
)
def test_lines_in_every_state_that_is_open_to_a_bio_take_it(tmp_path: Path, change: str) -> None:
    world = world_of(tmp_path, some)
    world.act()
    with world.store.transaction("change") as tx:
        tx.con.execute(f"UPDATE artists SET {change} WHERE state = 'dead'")
    made = judge(world)
    assert made.accepted == 3 and world.states() == {"done": 12}
    assert world.rows("SELECT count(*) FROM artists AS a JOIN bios AS b USING (artist_id, shard)") == [(12,)]
    assert world.act() == Finish()
    assert sum(world.sandbox.ledger.execution_counts().values()) == 12


@pytest.mark.parametrize("planned", [False, True])
def test_a_ready_line_leaves_its_unsent_shard_and_the_rest_stays(tmp_path: Path, planned: bool) -> None:
    world = world_of(tmp_path, everybody, lines=6)
    world.act()
    assert world.states() == {"dead": 6}
    with world.store.transaction("retry") as tx:
        wishes.retry_lines(tx, wishes.RetryFilter())
    for priority in (1, 2, 3):
        assert cut_retry_shard(world.store, world.job, world.config, priority, 1) is not None
    if planned:
        with world.store.transaction("cancel") as tx:
            for shard, state in shards.load_shard_states(tx).items():
                if state == "released":
                    wishes.withdraw_shard(tx, shard)
    made = judge(world, lambda artist_id: number(artist_id) > 2)
    assert made.accepted == 3 and world.states() == {"done": 3, "ready": 3}
    states = world.rows("SELECT state, count(*) FROM shards WHERE shard > 3 GROUP BY state ORDER BY state")
    assert states == ([("planned", 3), ("stale", 3)] if planned else [("stale", 3)])
    if planned:
        world.release()
    world.job = judged_by(nobody)
    assert world.act() == Finish()
    assert world.states() == {"done": 6}
    assert sorted(world.sandbox.ledger.execution_counts().values()) == [1, 1, 1, 2, 2, 2]


def test_of_several_answers_the_newest_is_the_bio_and_the_others_are_repeated(tmp_path: Path) -> None:
    world = world_of(tmp_path, some, retry={"unusable": {"tries": 2}})
    world.act()
    assert world.states() == {"done": 9, "dead": 3}
    made = judge(world)
    assert (made.judged, made.accepted) == (9 + 3 * 3, 3)
    rows = world.rows("SELECT outcome, count(*) FROM attempts WHERE artist_id = 'a00000' GROUP BY outcome ORDER BY 1")
    assert rows == [("bio", 1), ("repeated", 2)]
    assert world.rows(
        "SELECT count(*) FROM bios AS b JOIN attempts AS t USING (artist_id) WHERE artist_id = 'a00000' "
        "AND t.outcome = 'bio' AND t.batch_id = b.batch_id "
        "AND t.happened_at = (SELECT max(happened_at) FROM attempts AS m WHERE m.artist_id = b.artist_id)"
    ) == [(1,)]
    assert judge(world).accepted == 0


def test_lines_that_were_accepted_by_judging_are_not_expected_to_go_again(tmp_path: Path) -> None:
    """A tenth of them is refused by both checks, and went again twice."""
    world = world_of(tmp_path, everybody, lines=40, retry={"unusable": {"tries": 2}}, brake={"max_unusable": 1})
    world.act()

    def retry_share() -> float:
        with world.store.read_transaction() as tx:
            return load_measured(tx).retry_share

    assert retry_share() == pytest.approx(2 / 3)  # 40 lines, each asked three times, and the last answer decides
    judge(world, lambda artist_id: number(artist_id) % 10 == 0)
    assert retry_share() == pytest.approx(2 / 3 / 10)
    assert world.rows("SELECT min(again), max(again) FROM batches WHERE again < 0 OR again > decided") == [(None, None)]
    judge(world)
    assert retry_share() == 0


def test_an_artist_is_shown_its_own_judgement_and_no_other(tmp_path: Path) -> None:
    world = world_of(tmp_path, some)
    world.act()
    judge(world)
    with world.store.read_transaction() as tx:
        shown = {name: read_artist(tx, name, resolve_prices) for name in ("a00004", "a00005")}
    kinds = {name: [event.kind for event in history.events] for name, history in shown.items() if history}
    assert [kinds[name].count("judged") for name in ("a00004", "a00005")] == [1, 0]
    assert kinds["a00005"]  # those of its shard


def test_bios_that_are_refused_now_are_told_and_revoked_on_request(tmp_path: Path) -> None:
    world = world_of(tmp_path, nobody)
    world.act()
    made = judge(world, some)
    assert world.states() == {"done": 12} and made.revoked == 0
    assert made.counts.refused == 3
    assert [tuple(row) for row in made.counts.reasons] == [("not_accepted", "too plain", 3)]
    assert [row.artist_id for row in made.counts.first] == ["a00000", "a00004", "a00008"]
    assert judge(world, some, revoke=True, dry_run=True).revoked == 0
    revoked = judge(world, some, revoke=True)
    assert (revoked.revoked, revoked.counts.refused) == (3, 3)
    assert world.states() == {"done": 9, "held": 3}
    former = world.rows("SELECT artist_id, reason, lane FROM former_bios ORDER BY artist_id")
    assert former == [(f"a{n:05d}", "revoked", "batch") for n in (0, 4, 8)]
    held = world.rows("SELECT DISTINCT failure, code, message FROM artists WHERE state = 'held'")
    assert held == [("unusable", "revoked", "too plain")]
    assert world.rows("SELECT outcome, code, count(*) FROM attempts GROUP BY ALL ORDER BY 1") == [
        ("bio", None, 9),
        ("unusable", "not_accepted", 3),
    ]
    back = judge(world)
    assert back.accepted == 3 and world.states() == {"done": 12}


def test_a_line_whose_bio_is_revoked_takes_another_answer_that_is_accepted(tmp_path: Path) -> None:
    world = world_of(tmp_path, some, retry={"unusable": {"tries": 2}})
    world.act()
    judge(world)
    seen: set[str] = set()

    def refuses_the_newest(artist: Any, _bio: Any) -> str | None:
        is_first = artist.artist_id in seen
        seen.add(artist.artist_id)
        return "the newest" if not is_first and some(artist.artist_id) else None

    # The batches are judged from the oldest, so that the second and the third answer of these lines pass.
    world.job = replace(bios_job(), accept=refuses_the_newest)
    made = judge_again(world.store, world.job, True, False, lambda _: None)
    assert made.revoked == 0 and world.states() == {"done": 12}
    calls: dict[str, int] = {}

    def refuses_the_third(artist: Any, _bio: Any) -> str | None:
        calls[artist.artist_id] = calls.get(artist.artist_id, 0) + 1
        return "the third" if calls[artist.artist_id] == 3 else None

    world.job = replace(bios_job(), accept=refuses_the_third)
    made = judge_again(world.store, world.job, True, False, lambda _: None)
    assert (made.revoked, made.accepted) == (3, 3)
    assert world.states() == {"done": 12}
    check(world)


def test_the_jobs_own_error_is_one_sentence_and_changes_nothing(tmp_path: Path) -> None:
    world = world_of(tmp_path, some)
    world.act()

    def fails(artist: Any, _bio: Any) -> str | None:
        if artist.artist_id == "a00008":
            raise KeyError("born")
        return None

    before = world.rows("SELECT * FROM artists ORDER BY ALL"), world.rows("SELECT * FROM attempts ORDER BY ALL")
    for revoke in (False, True):
        with pytest.raises(JobError, match=r"artist a00008: .*KeyError: 'born'; fix job.py"):
            judge_again(world.store, replace(bios_job(), accept=fails), revoke, False, lambda _: None)
    assert (
        world.rows("SELECT * FROM artists ORDER BY ALL"),
        world.rows("SELECT * FROM attempts ORDER BY ALL"),
    ) == before


def test_what_is_not_kept_is_told(tmp_path: Path) -> None:
    off = world_of(tmp_path / "off", some, results={"keep_raw": False})
    off.act()
    made = judge(off)
    assert (made.judged, made.not_kept, made.accepted, made.damaged) == (0, 12, 0, [])
    world = world_of(tmp_path / "damaged", some)
    world.act()
    first, second, *_ = sorted((world.store.folder / "results").glob("*_output.jsonl.gz"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-9])
    made = judge(world)
    assert made.not_kept >= 4 and made.judged + made.not_kept == 12
    assert len(made.damaged) == 1 and "cut off" in made.damaged[0] and second.name in made.damaged[0]


def test_lines_in_flight_are_left_alone(tmp_path: Path) -> None:
    world = world_of(tmp_path, some, retry={"unusable": {"tries": 2}})
    while "dead" not in world.states() and world.states() != {"in_batch": 3, "done": 9}:
        world.act(once=True)
        world.clock.sleep(600)
    assert world.states() == {"in_batch": 3, "done": 9}
    made = judge(world)
    assert made.accepted == 0 and world.states() == {"in_batch": 3, "done": 9}
    world.job = judged_by(nobody)
    assert world.act() == Finish()
    assert world.states() == {"done": 12}


def test_answers_from_before_a_redo_do_not_count(tmp_path: Path) -> None:
    world = world_of(tmp_path, some)
    world.release()
    world.act()
    with world.store.transaction("redo") as tx:
        tx.con.execute(
            "UPDATE artists SET redo_after = (SELECT max(shard) FROM shards), redo_call = 0 WHERE state = 'dead'"
        )
    assert judge(world).accepted == 0
    with world.store.transaction("redo") as tx:
        tx.con.execute("UPDATE artists SET redo_after = redo_after - 3 WHERE state = 'dead'")
    assert judge(world).accepted == 3


def test_a_new_bio_moves_the_one_that_was_asked_for_again(tmp_path: Path) -> None:
    world = world_of(tmp_path, nobody)
    world.act()
    with world.store.transaction("redo") as tx:  # as `redo` does, and a retry that ends dead
        tx.con.execute("UPDATE artists SET state = 'ready', shard = NULL, redo_after = 3 WHERE artist_id = 'a00004'")
    world.job = judged_by(everybody)
    world.act()
    assert world.rows("SELECT state FROM artists WHERE artist_id = 'a00004'") == [("dead",)]
    (old,) = world.rows("SELECT batch_id FROM bios WHERE artist_id = 'a00004'")
    made = judge(world)
    assert made.accepted == 1 and world.states() == {"done": 12}
    (new,) = world.rows("SELECT batch_id FROM bios WHERE artist_id = 'a00004'")
    assert new != old
    assert world.rows("SELECT artist_id, batch_id, reason FROM former_bios") == [("a00004", *old, "redo")]


@pytest.mark.parametrize("group", [1, 7, 1000])
def test_the_groups_in_which_answers_are_loaded_change_nothing(
    tmp_path: Path, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "GROUP_ANSWERS", group)
    monkeypatch.setattr(judging, "CALLS", group)
    world = world_of(tmp_path, some, lines=30)
    world.direct(max_lines=10)
    world.act()
    made = judge(world)
    assert (made.judged, made.accepted) == (30, 8)


def test_judging_again_releases_the_brake(tmp_path: Path) -> None:
    brake = {"window": 20, "first_wave": 0.1}
    world = world_of(tmp_path, everybody, lines=60, brake=brake, retry={"unusable": {"tries": 2}})
    ended = world.act()
    assert isinstance(ended, Finish) and ended.problem
    assert world.states()["ready"] > 0
    before = world.sandbox.ledger.execution_counts()
    assert judge(world).accepted == len(before)
    assert world.act() == Finish()
    assert world.states() == {"done": 60}
    asked = 60 - len(before)  # each line that had no answer, once
    assert sum(world.sandbox.ledger.execution_counts().values()) == sum(before.values()) + asked
