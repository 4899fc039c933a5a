"""The raw answers of both lanes: kept before they are recorded, and found again beside the reasons against them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.core.actions import Finish
from batcher.disk.direct_answers import direct_answers_path, read_direct_answers
from batcher.job.job import Job
from batcher.review.kept_answers import NO_TEXT, NOT_KEPT, REFUSED, find_answers
from batcher.sandbox import Faults, SandboxSettings
from batcher.state import direct_calls
from batcher.state.review.answers import AnswerChoice
from batcher.state.submissions import load_run_id
from tests.support.direct_kit import Desk, desk, settings_of


def strict(world: Desk, refuses: Callable[[str], bool] = lambda _: True) -> Job:
    """Return the job of a world with an acceptance check that refuses these artists."""
    return replace(world.job, accept=lambda artist, _: "too plain" if refuses(artist.artist_id) else None)


def kept(world: Desk) -> list[tuple[int, str]]:
    with world.store.read_transaction() as tx:
        run = load_run_id(tx)
    return [(each.call, each.custom_id) for each in read_direct_answers(world.store.folder, run)]


def test_refused_answers_of_both_lanes_are_found_with_reason_and_text(tmp_path: Path) -> None:
    world = desk(tmp_path, 12, config=settings_of(retry={"unusable": {"tries": 0}}))
    world.job = strict(world, lambda artist_id: int(artist_id[1:]) % 4 == 0)
    world.release(1)
    world.act()
    assert world.direct() == Finish()
    assert world.states() == {"done": 9, "dead": 3}
    found = find_answers(world.store, AnswerChoice(failures=REFUSED))
    assert found.total == 3
    assert {each.record.lane for each in found.answers} == {"batch", "direct"}
    for each in found.answers:
        assert (each.record.code, each.record.message, each.record.prompt) == ("not_accepted", "too plain", 1)
        assert f"Artist Number {int(each.record.artist_id[1:])}" in each.text and each.lack == ""
    first = found.answers[0].record.artist_id
    assert [each.record.artist_id for each in find_answers(world.store, AnswerChoice([first], REFUSED)).answers] == [
        first
    ]
    few = find_answers(world.store, AnswerChoice(failures=REFUSED, most=2))
    assert (few.answers, few.total) == (found.answers[:2], 3)
    assert find_answers(world.store, AnswerChoice()).total == 12


def test_answers_that_say_nothing_or_are_gone_say_so(tmp_path: Path) -> None:
    faults = Faults(line_failures={"refusal": 0.3, "server": 0.3, "length": 0.2})
    world = desk(tmp_path, 30, SandboxSettings(faults=faults))
    world.release()
    world.act()
    found = find_answers(world.store, AnswerChoice()).answers
    lacks = {(each.record.outcome, each.record.code, each.lack) for each in found}
    assert ("server", "server_error", NO_TEXT) in lacks
    assert ("unusable", "refusal", "") in lacks and ("unusable", "length", "") in lacks
    for path in (world.store.folder / "results").glob("*.gz"):
        path.unlink()
    gone = find_answers(world.store, AnswerChoice()).answers
    assert {each.lack for each in gone if each.record.outcome in {"bio", "unusable"}} == {NOT_KEPT}
    assert {each.text for each in gone} == {""}


def test_every_answer_of_the_direct_lane_is_kept_and_none_is_where_the_settings_say_so(tmp_path: Path) -> None:
    world = desk(tmp_path / "kept", 5)
    assert world.direct() == Finish()
    assert {custom_id for _, custom_id in kept(world)} == {f"a{n:05d}" for n in range(5)} and len(kept(world)) == 5
    off = desk(tmp_path / "off", 5, config=settings_of(results={"keep_raw": False}))
    assert off.direct() == Finish()
    assert not direct_answers_path(off.store.folder).exists()
    assert {each.lack for each in find_answers(off.store, AnswerChoice()).answers} == {NOT_KEPT}


def test_an_answer_that_was_kept_and_not_recorded_is_not_paid_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = desk(tmp_path, 3)
    record = direct_calls.record_answers

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(direct_calls, "record_answers", die)
    with pytest.raises(KeyboardInterrupt):
        world.direct(workers=3)
    assert world.states() == {"in_direct": 3}
    was_kept = len(kept(world))
    assert was_kept > 0
    monkeypatch.setattr(direct_calls, "record_answers", record)
    assert world.direct(workers=3) == Finish()
    assert world.states() == {"done": 3}
    lost = world.rows("SELECT count(*) FROM attempts WHERE outcome = 'lost'")
    assert lost == [(3 - was_kept,)]
    assert len(kept(world)) == len(set(kept(world)))


def test_an_answer_that_the_disk_refuses_is_recorded_and_ends_the_lane(tmp_path: Path) -> None:
    world = desk(tmp_path, 3)
    (world.store.folder / "results").write_text("in the way")
    with pytest.raises(OSError, match="results"):
        world.direct(workers=1)
    assert world.states() == {"done": 1, "ready": 2}
