"""Random jobs with a budget, against a sandbox that bills what is written to the cache and what is thought.

Each run draws a job, a budget and faults from its seed, and lets both lanes work by turns under a clock that moves by
itself: the real store and client, answers that are lost or refused, lines that fail, processes that die at a call. At
its end everything that the service has still to do is done, and what the sandbox has billed is compared with the
budget and with what the state says. `python -m tests.support.budget_runs --runs 200`.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import httpx2
import openai

from batcher.catalog.prices import resolve_prices
from batcher.sandbox import SandboxSettings, apply_changes
from batcher.sandbox.base.settings import Faults
from batcher.sandbox.web.transport import SandboxTransport
from batcher.service.openai_service import OpenAIService
from batcher.state.costs import load_spending
from batcher.state.reports.expectation import build_expectation
from batcher.state.reports.outlook import load_outlook
from tests.support.direct_kit import Desk
from tests.support.protocol_kit import Send, Tampering
from tests.support.world import config_with, kept_open, write_table

MODELS = ("gpt-6-luna", "gpt-6-luna", "gpt-5.6-luna", "gpt-5-mini")
FAILURES = ("server", "rate_limit", "refusal", "length", "invalid_json", "empty", "request_timeout", "status_0")
CALLS = ("upload", "create", "list", "retrieve", "content", "cancel", "delete", "direct")
TOLERANCE = 1e-9
"""Dollars: sums of the same amounts in another order differ by less."""


class DiedError(BaseException):
    """The process is dead. No `except Exception` may see it."""


class Outcome(NamedTuple):
    """What one run has cost, in dollars."""

    budget: float
    billed: float
    spent: float
    in_flight: float
    bios: int
    written: int
    """Tokens that were billed as written to the cache."""
    thought: int
    """Tokens that were billed as thinking."""

    @property
    def share(self) -> float:
        """What was billed, as a share of the budget."""
        return self.billed / self.budget

    def find_fault(self) -> str:
        """Return what must not be; "" where nothing is."""
        if self.billed > self.budget + TOLERANCE:
            return "the budget was passed"
        if self.spent > self.billed + TOLERANCE:
            return "more is told as spent than was billed"
        if self.billed > self.spent + self.in_flight + TOLERANCE:
            return "more was billed than is told as spent and in flight"
        return ""


class Spender(Desk):
    """A desk whose batch lane dies at some of its calls."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.dice = dice
        self.deadly = 0.0
        """The share of the calls at which the process dies, half of them after the call."""
        super().__init__(folder, _draw_settings(dice), config_with())
        model: dict[str, object] = {
            "name": dice.choice(MODELS),
            "endpoint": dice.choice(["/v1/chat/completions", "/v1/responses"]),
            "max_output_tokens": dice.choice([150, 300, 600, 2_000, None]),
            "parameters": dice.choice([{}, {}, {"reasoning_effort": "low"}, {"reasoning_effort": "none"}]),
        }
        self.sections: dict[str, dict[str, object]] = {
            "model": model,
            "poll": {"interval_s": dice.choice([1_800, 14_400])},
            "limits": {"lines_per_shard": dice.randint(2, 8)},
            "direct": {"store": dice.random() < 0.5},
            "retry": {"more_room": dice.choice([0, 0, 3_000])},
        }
        self.config = config_with(**self.sections)
        self.plan(write_table(folder / "table.csv", dice.randint(6, 24)))
        with self.store.read_transaction() as tx:
            most = build_expectation(
                load_outlook(tx, self.config), self.config, resolve_prices, self.clock()
            ).dollars.most
        assert most is not None
        self.budget = most * dice.uniform(0.05, 1.5)
        self.config = config_with(**self.sections, budget={"max_usd": self.budget})

    def service(self) -> OpenAIService:
        http = httpx2.Client(transport=Tampering(SandboxTransport(self.sandbox), self._may_die))
        client = openai.OpenAI(api_key="sk-test", base_url="http://sandbox/v1", http_client=http, max_retries=0)
        return OpenAIService(client, self.config.retry.to_rules(), self.clock.sleep, self.random.random)

    def _may_die(self, request: httpx2.Request, send: Send) -> httpx2.Response:
        fate = self.dice.random() if self.deadly else 1.0
        if fate < self.deadly / 2:
            raise DiedError
        response = send(request)
        if fate < self.deadly:
            raise DiedError
        return response

    def act_until_dead(self, once: bool = False) -> None:
        """Run the batch lane until it ends or dies."""
        self.deadly = self.dice.choice([0.0, 0.0, 0.02, 0.1])
        try:
            self.act(once)
        except DiedError:
            pass
        finally:
            self.deadly = 0.0

    def work(self) -> None:
        """Let the lanes work by turns, and then until nothing more can be done."""
        dice = self.dice
        for _ in range(dice.randint(2, 5)):
            turn = dice.random()
            if turn < 0.35:
                self.release(dice.randint(1, 3))
            if turn < 0.7:
                self.act_until_dead(once=dice.random() < 0.5)
            else:
                self.direct(dice.randint(1, 4), max_lines=dice.randint(1, 6))
            self.clock.sleep(dice.choice([60, 3_600, 20_000]))
        self.release()
        self.act()
        self.direct(3)
        self.clock.sleep(3 * 86_400)
        self.act()
        self.sandbox.run_due_events()

    def outcome(self) -> Outcome:
        """Return what the run has cost."""
        with self.store.read_transaction() as tx:
            spending = load_spending(tx)
        totals, billed = self.sandbox.ledger.billing_totals(), self.sandbox.ledger.billed_usd
        assert billed is not None
        return Outcome(
            self.budget, billed, spending.spent_usd, spending.in_flight_usd, self.states().get("done", 0),
            totals["tokens_written"], totals["tokens_reasoning"],
        )  # fmt: skip


def _draw_settings(dice: random.Random) -> SandboxSettings:
    def some(names: tuple[str, ...], most: float) -> dict[str, float]:
        return {name: round(dice.uniform(0, most), 3) for name in names if dice.random() < 0.4}

    line_failures = some(FAILURES, 0.1)
    faults: dict[str, object] = {
        "line_failures": line_failures,
        "transient_failures": dice.random() < 0.7,
        "lose_answer": some(CALLS, 0.2),
        "refuse_before": some(CALLS, 0.1),
        "reset_before": some(CALLS, 0.1),
        "truncate_download": dice.choice([0, 0, 0.2]),
        "corrupt_output": dice.choice([0, 0, 0.1]),
        "expire_batches": [n for n in range(1, 6) if dice.random() < 0.1],
        "drop_metadata": dice.random() < 0.2,
        "stuck_finalizing_s": dice.choice([0, 0, 5_000]),
    }
    if not faults["transient_failures"]:
        # A line that is never anything but refused for its rate keeps the direct lane waiting for ever, as it should.
        line_failures.pop("rate_limit", None)
    settings = {
        "seed": dice.randrange(1 << 30),
        "service_s": [200, dice.choice([600, 6_000])],
        "cache_writes": dice.choice([0.3, 1.0, 1.0]),
        "reasoning_tokens": dice.choice([0, 100, 400, 1_500]),
    }
    return apply_changes(SandboxSettings(), {**settings, "faults": apply_changes(Faults(), faults)})


def run_job(seed: int, folder: Path) -> Outcome:
    """Run the job of a seed to its end; return what it has cost."""
    spender = Spender(folder, random.Random(seed))
    with kept_open(spender.store):
        spender.work()
        return spender.outcome()


def main() -> None:
    """Print a line for each run, and the sums; exit with 1 where a budget was passed or the figures do not agree."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    outcomes, faults = [], 0
    for seed in range(chosen.first, chosen.first + chosen.runs):
        with tempfile.TemporaryDirectory(prefix="batcher-budget-") as name:
            outcome = run_job(seed, Path(name))
        outcomes.append(outcome)
        fault = outcome.find_fault()
        faults += bool(fault)
        print(
            f"run {seed}: billed ${outcome.billed:.6f} of ${outcome.budget:.6f} ({outcome.share:.0%}), "
            f"told ${outcome.spent:.6f} spent and ${outcome.in_flight:.6f} in flight, {outcome.bios} bios"
            f"{': ' + fault.upper() if fault else ''}",
            flush=True,
        )
    budgets, billed = sum(o.budget for o in outcomes), sum(o.billed for o in outcomes)
    written, thought = sum(o.written for o in outcomes), sum(o.thought for o in outcomes)
    print(
        f"{len(outcomes)} runs: billed ${billed:.4f} of ${budgets:.4f}, "
        f"at most {max(o.share for o in outcomes):.1%} of a budget; {sum(o.bios for o in outcomes):,} bios, "
        f"{written:,} tokens written to the cache, {thought:,} thought; {faults} faults"
    )
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
