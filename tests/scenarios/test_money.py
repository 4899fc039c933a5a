"""What was given up or lost: reserved while it is perhaps paid, shown as it is counted, and never waited for."""

from pathlib import Path

import httpx2
import pytest

from batcher.catalog.prices import resolve_prices
from batcher.core.failures import FailureClass
from batcher.state.costs import load_spending
from batcher.state.db.store import Store
from batcher.state.status import Status, read_artist, read_status
from batcher.state.wishes import RetryFilter, retry_lines
from tests.support.direct_kit import desk
from tests.support.protocol_kit import Send, Trial, trial
from tests.support.world import config_with


def _told(store: Store) -> tuple[Status, float]:
    """Return the status, and what the budget counts as in flight."""
    with store.read_transaction() as tx:
        return read_status(tx, config_with(), resolve_prices), load_spending(tx).in_flight_usd


def _of_artist(store: Store, artist_id: str) -> float:
    with store.read_transaction() as tx:
        shown = read_artist(tx, artist_id, resolve_prices)
    assert shown is not None
    return float(shown.costs.reserved or 0)


def _patient_trial(folder: Path) -> Trial:
    """Return a trial in which a day of waiting takes few looks."""
    slow = {"base_s": 7200, "cap_s": 7200}
    return trial(folder, poll={"interval_s": 7200}, retry={"outage": slow})


def _without_a_line(folder: Path) -> Trial:
    """Run a batch of six lines whose output never has one of them, until it is given up."""
    it = _patient_trial(folder)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        response = send(request)
        if not request.url.path.endswith("/content"):
            return response
        lines = response.read().splitlines(keepends=True)
        return httpx2.Response(200, stream=httpx2.ByteStream(b"".join(lines[1:])), request=request)

    it.rule = rule
    it.act()
    assert it.states() == {"done": 5, "held": 1}
    return it


def test_a_line_of_the_output_that_cannot_be_read_is_reserved_as_perhaps_paid(tmp_path: Path) -> None:
    it = _patient_trial(tmp_path)

    def rule(request: httpx2.Request, send: Send) -> httpx2.Response:
        response = send(request)
        if not request.url.path.endswith("/content"):
            return response
        lines = response.read().splitlines(keepends=True)
        broken = b"".join([b'{"custom_id": "a00\n', *lines[1:]])
        return httpx2.Response(200, stream=httpx2.ByteStream(broken), request=request)

    it.rule = rule
    it.act()
    assert it.states() == {"done": 5, "held": 1}
    of_all = float(str(it.rows("SELECT reserved_usd FROM submissions")[0][0]))
    seen, counted = _told(it.store)
    assert counted == pytest.approx(of_all / 6)
    assert seen.costs.reserved == pytest.approx(counted)


def test_what_was_given_up_is_reserved_for_the_lines_that_are_perhaps_paid(tmp_path: Path) -> None:
    it = _without_a_line(tmp_path)
    of_all = float(str(it.rows("SELECT reserved_usd FROM submissions")[0][0]))
    seen, counted = _told(it.store)
    assert counted == pytest.approx(of_all / 6)
    assert seen.costs.reserved == pytest.approx(counted)
    held = str(it.rows("SELECT artist_id FROM artists WHERE state = 'held'")[0][0])
    assert _of_artist(it.store, held) == pytest.approx(counted)
    done = str(it.rows("SELECT min(artist_id) FROM artists WHERE state = 'done'")[0][0])
    assert _of_artist(it.store, done) == 0


def test_a_line_that_is_bought_again_is_reserved_no_more(tmp_path: Path) -> None:
    it = _without_a_line(tmp_path)
    before = _told(it.store)[1]
    with it.store.transaction("test") as tx:
        retry_lines(tx, RetryFilter(FailureClass.MISSING))
    assert _told(it.store)[1] == pytest.approx(before)
    it.rule = lambda request, send: send(request)
    it.act()
    assert it.states() == {"done": 6}
    seen, counted = _told(it.store)
    assert (seen.costs.reserved, counted) == (0, 0)


def test_direct_calls_are_told_as_they_are_counted(tmp_path: Path) -> None:
    world = desk(tmp_path, 3)
    world.lost = "Artist Number 1"
    world.direct(1)
    ((lost,),) = world.rows("SELECT sum(reserved_usd) FROM direct_calls WHERE outcome = 'lost'")
    seen, counted = _told(world.store)
    assert counted == pytest.approx(float(str(lost)))
    assert counted > 0
    assert seen.costs.reserved == pytest.approx(counted)
    (row,) = seen.shard_costs
    assert row.shard is None and row.reserved == pytest.approx(counted)
    assert _of_artist(world.store, "a00001") == pytest.approx(counted)
    assert _of_artist(world.store, "a00000") == 0
