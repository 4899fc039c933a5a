"""Answers that were cut off are sent again, and inputs that are too long stop a small first trial."""

from pathlib import Path

import pytest

from batcher.core.actions import Finish
from tests.support.outlook_kit import outlook, settings_with, world

pytestmark = pytest.mark.slow("forecasts while whole jobs run")


def test_an_answer_that_was_cut_off_goes_again_with_more_room(tmp_path: Path) -> None:
    config = settings_with(retry={"more_room": 900}, budget={"max_usd": 50})
    job = world(tmp_path, 60, config, line_failures={"length": 0.3})
    assert job.act() == Finish()
    cut = job.rows("SELECT DISTINCT artist_id FROM attempts WHERE code = 'length'")
    assert 0 < len(cut) < 60
    assert job.states() == {"done": 60}
    wide = job.rows("SELECT DISTINCT s.shard FROM shards AS s JOIN versions AS v USING (version) WHERE s.retry")
    for (shard,) in wide:
        lines = (job.store.folder / "shards" / f"shard-{int(str(shard)):05d}.jsonl").read_bytes().splitlines()
        assert all(b'"max_completion_tokens":900' in line for line in lines)
    assert outlook(job).measured.executed == 60 + len(cut)
    assert job.rows("SELECT count(*) FROM artists WHERE version = 2") == [(len(cut),)]


def test_without_the_setting_it_goes_again_as_it_was(tmp_path: Path) -> None:
    job = world(tmp_path, 60, None, line_failures={"length": 0.3})
    assert job.act() == Finish()
    assert job.rows("SELECT max(version) FROM artists") == [(1,)]
    assert job.states() == {"done": 60}


@pytest.mark.parametrize("lines", [4, 15])
def test_a_small_first_trial_that_is_refused_whole_stops_and_nothing_is_dead(tmp_path: Path, lines: int) -> None:
    job = world(tmp_path, lines, settings_with({"lines_per_shard": 20}), line_failures={"context_length": 1.0})
    ended = job.act()
    assert isinstance(ended, Finish) and "lines were refused (context_length_exceeded)" in ended.problem
    assert "dead" not in job.states()
