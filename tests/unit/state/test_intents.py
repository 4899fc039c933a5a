"""Intents and their outcomes: what becomes of the lines of a submission that no batch settles."""

from pathlib import Path

from batcher.state import intents, shards, submissions
from tests.support.protocol_kit import trial
from tests.support.world import kept_open


def test_lines_that_another_batch_has_perhaps_paid_are_held_when_a_submission_is_closed(tmp_path: Path) -> None:
    it = trial(tmp_path)
    attempt = (
        "INSERT INTO attempts (artist_id, lane, shard, batch_id, outcome, code, counted, happened_at) "
        "VALUES (?, 'batch', ?, 'batch_gone', ?, 'x', false, 0)"
    )
    with kept_open(it.store):
        with it.store.transaction("test") as tx:
            for row in (["a00001", 1, "missing"], ["a00002", 7, "missing"], ["a00003", 1, "expired"]):
                tx.con.execute(attempt, row)
            submission = intents.intend_upload(tx, shards.load_shard(tx, 1), submissions.Reservation(1, 1, 0, 0, 0))
            assert submission is not None
            intents.close_submission(tx, submission, "refused")
        assert it.rows("SELECT artist_id, state, failure, code FROM artists WHERE state <> 'ready'") == [
            ("a00001", "held", "missing", "perhaps_paid")
        ]
        assert it.rows("SELECT count(*) FROM artists WHERE submission IS NOT NULL") == [(0,)]
        assert it.rows("SELECT outcome, ended_at IS NOT NULL FROM submissions") == [("refused", True)]
