"""The direct lane by flex processing: half price, refusals that cost nothing, the fall back to the standard price."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from batcher.catalog.prices import resolve_prices
from batcher.config.sections import Config
from batcher.core.actions import Finish
from batcher.lanes.direct.ready_lines import weigh_lines
from batcher.sandbox import SandboxSettings, apply_changes
from batcher.service.service import CompletionResponse
from batcher.state import direct_calls
from batcher.state.costs import load_spending
from batcher.state.direct_calls import Selection
from tests.support.direct_kit import Desk, desk, refused, settings_of

UNAVAILABLE = "resource_unavailable"
MILLION = 1e6
STANDARD = (0.10, 0.01, 0.50)
"""Dollars of gpt-6-luna for a million tokens: input, read from the cache, output."""


def flex_settings(**direct: object) -> Config:
    return settings_of(direct={"service_tier": "flex", "rpm": 0, "tpm": 0, **direct})


def refusing(share: float, **faults: object) -> SandboxSettings:
    """Return a sandbox that refuses this share of the lines by flex, and has room for any number of calls a minute."""
    changed = {"line_failures": {UNAVAILABLE: share}, **faults}
    return apply_changes(SandboxSettings(), {"rpm": 10**6, "tpm": 10**10, "faults": changed})


def standard_usd(world: Desk) -> float:
    """Return what all that was executed costs at the standard price, by the sandbox's own count of tokens."""
    totals = world.sandbox.ledger.billing_totals()
    read, output = totals["tokens_cached"], totals["tokens_out"]
    tokens = (totals["tokens_in"] - read, read, output)
    return sum(n * price for n, price in zip(tokens, STANDARD, strict=True)) / MILLION


def spent_usd(world: Desk) -> float:
    """Return the dollars spent, which the state, its bios and its calls agree on."""
    with world.store.read_transaction() as tx:
        spending = load_spending(tx)
    assert spending.in_flight_usd == 0
    assert world.rows("SELECT sum(cost_usd) FROM bios") == [(pytest.approx(spending.spent_usd),)]
    return spending.spent_usd


def check_flex_run(world: Desk, lines: int, refusals: int) -> None:
    """Check that all lines were answered at half price, each once, and that the refusals cost nothing."""
    ledger = world.sandbox.ledger
    assert world.states() == {"done": lines}
    assert ledger.billing_totals()["lines_usable"] == ledger.billing_totals()["executions"] == lines
    assert ledger.billing_totals()["usable_more_than_once"] == 0
    assert world.rows(
        f"SELECT count(*), coalesce(sum(tokens_input), 0), sum(cost_usd) FROM attempts WHERE outcome = '{UNAVAILABLE}'"
    ) == [(refusals, 0, None)]
    assert world.rows("SELECT max(attempts) FROM artists") == [(1,)]  # no line paid a try for it
    assert world.rows("SELECT count(*) FROM attempts WHERE outcome IN ('lost', 'missing')") == [(0,)]
    assert ledger.billed_usd == pytest.approx(standard_usd(world) / 2, rel=0.02)
    assert spent_usd(world) == pytest.approx(ledger.billed_usd)


def test_lines_are_answered_at_half_price(tmp_path: Path) -> None:
    world = desk(tmp_path, 60, refusing(0.2), flex_settings())
    assert world.direct() == Finish()
    refusals = sum(world.sandbox.ledger.attempt_counts().values()) - 60
    assert 3 <= refusals <= 25
    check_flex_run(world, 60, refusals)


@pytest.mark.soak
def test_two_thousand_lines_of_which_a_fifth_is_refused_first(tmp_path: Path) -> None:
    world = desk(tmp_path, 2_000, refusing(0.2), flex_settings())
    assert world.direct(8) == Finish()
    refusals = sum(world.sandbox.ledger.attempt_counts().values()) - 2_000
    assert 320 <= refusals <= 480
    check_flex_run(world, 2_000, refusals)


def test_without_a_fallback_lines_wait_for_flex_however_long(tmp_path: Path) -> None:
    world = desk(tmp_path, 3, config=flex_settings())
    world.script = lambda n: refused(429, UNAVAILABLE, "Resource Unavailable") if n <= 60 else None
    assert world.direct(1) == Finish()
    check_flex_run(world, 3, 60)


def test_what_flex_refuses_for_too_long_is_asked_for_at_the_standard_price(tmp_path: Path) -> None:
    world = desk(tmp_path, 8, refusing(1.0, transient_failures=False), flex_settings(flex_fallback=True))
    assert world.direct(2) == Finish()
    assert world.states() == {"done": 8}
    ledger = world.sandbox.ledger
    assert ledger.billing_totals()["executions"] == ledger.billing_totals()["lines_usable"] == 8
    assert ledger.billed_usd == pytest.approx(standard_usd(world))
    assert spent_usd(world) == pytest.approx(ledger.billed_usd)
    refusals = sum(ledger.attempt_counts().values()) - 8
    assert 11 < refusals < 8 * 11  # the lane falls back as a whole, before each line was refused eleven times


def test_a_line_falls_back_by_its_own_refusals(tmp_path: Path) -> None:
    config = settings_of(
        direct={"service_tier": "flex", "flex_fallback": True},
        retry={UNAVAILABLE: {"base_s": 1, "cap_s": 1, "tries": 2}},
    )
    world = desk(tmp_path, 1, refusing(1.0, transient_failures=False), config)
    assert world.direct(1) == Finish()
    assert world.rows("SELECT outcome FROM attempts ORDER BY call") == [(UNAVAILABLE,)] * 3 + [("bio",)]


class Untiered:
    """A service that knows no tiers: it answers every request in its own."""

    def __init__(self, service: Any) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def request_completion(self, endpoint: str, body: Mapping[str, object]) -> CompletionResponse:
        assert body["service_tier"] == "flex"
        asked = {key: value for key, value in body.items() if key != "service_tier"}
        answer: CompletionResponse = self._service.request_completion(endpoint, asked)
        return answer


def test_the_tier_that_the_answer_names_decides_the_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = desk(tmp_path, 4, config=flex_settings())
    make = Desk.tools

    def tools(self: Desk) -> Any:
        made = make(self)
        object.__setattr__(made, "service", Untiered(made.service))
        return made

    monkeypatch.setattr(Desk, "tools", tools)
    assert world.direct() == Finish()
    assert world.sandbox.ledger.billed_usd == pytest.approx(standard_usd(world))
    assert spent_usd(world) == pytest.approx(standard_usd(world))


def test_a_reservation_is_of_the_dearer_price_where_a_line_may_fall_back(tmp_path: Path) -> None:
    world = desk(tmp_path, 5, config=flex_settings())
    with world.store.read_transaction() as tx:
        bounds = [
            weigh_lines(tx, Selection(), settings_of(direct=direct), resolve_prices).most_usd or 0.0
            for direct in ({}, {"service_tier": "flex"}, {"service_tier": "flex", "flex_fallback": True})
        ]
    assert bounds == [bounds[0], pytest.approx(bounds[0] / 2), bounds[0]]
    assert world.direct() == Finish()
    assert world.rows("SELECT sum(reserved_usd) FROM direct_calls") == [(pytest.approx(bounds[1]),)]


def test_lines_of_a_batch_name_no_tier(tmp_path: Path) -> None:
    world = desk(tmp_path, 6, config=flex_settings())
    world.release()
    world.act(once=True)
    files = [path.read_bytes() for path in world.store.folder.glob("shards/*.jsonl")]
    assert files and not any(b"service_tier" in data for data in files)


def test_an_answer_that_was_kept_by_a_process_that_died_costs_half_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = desk(tmp_path, 1, config=flex_settings())
    with monkeypatch.context() as patch:
        patch.setattr(direct_calls, "record_answers", _die)
        with pytest.raises(KeyboardInterrupt):
            world.direct(1)
    assert world.sandbox.ledger.billing_totals()["executions"] == 1
    assert world.direct(1) == Finish()
    check_flex_run(world, 1, 0)


def _die(*_: object) -> None:
    raise KeyboardInterrupt
