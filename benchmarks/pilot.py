"""What a pilot foretells, and what it saves: `python -m benchmarks.pilot TABLE.parquet [--rows N] [--seed S]`.

The table is planned with a pilot, which goes through the batch lane against the sandbox, in this process and with a
clock that moves only by sleeping; then the rest. Printed is what the pilot foretold of the whole price against what was
spent (target: within 5%), and, of the same job with an `accept` that refuses 94% of the answers, which share of the
whole price was spent when the pilot stopped it (target: 2% at most).
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import duckdb
import httpx2
import openai

from batcher.catalog.prices import resolve_prices
from batcher.catalog.tokens import TokenCounter
from batcher.config.sections import Config
from batcher.core.actions import Finish
from batcher.core.decide import PILOT_ANSWERED, decide_pilot_actions
from batcher.core.pilots import PilotStage
from batcher.job.job import Job
from batcher.job.loading import load_job
from batcher.lanes.batch.runner import BatchRunner
from batcher.lanes.context import LaneContext
from batcher.plan.options import PlanOptions
from batcher.plan.pilot_draw import PilotWish
from batcher.plan.planner import plan_job
from batcher.sandbox import Faults, Sandbox, SandboxSettings
from batcher.sandbox.web.transport import SandboxTransport
from batcher.service.openai_service import OpenAIService
from batcher.state import pilots, shards
from batcher.state.costs import load_spending
from batcher.state.db.store import Store
from batcher.state.plan import count_artists_by_state
from batcher.state.reports.pilot import PilotCosts, read_pilot_costs
from batcher.views.pilot import WITHIN
from benchmarks.acting import Clock
from benchmarks.data import ROOT
from benchmarks.shape import NOW

FAILURES = {"refusal": 0.02, "length": 0.01, "invalid_json": 0.02, "server": 0.01}
"""The shares of the lines that fail at an execution, and are asked for again."""
REFUSED = 0.94


class Result(NamedTuple):
    """What came of a job: the costs that its pilot told, its stage then, and the dollars spent then and at the end."""

    costs: PilotCosts
    stage: PilotStage
    spent_usd: float
    whole_usd: float
    states: dict[str, int]


def run_job(folder: Path, table: Path, job: Job, lines: int, seed: int) -> Result:
    """Plan a table with a pilot and do the job: to its end where the pilot passes."""
    clock = Clock(NOW)
    sandbox = Sandbox(SandboxSettings(seed=seed, faults=Faults(line_failures=FAILURES)), folder / "sandbox", clock)
    config = Config.model_validate({"poll": {"interval_s": 600}})
    store = Store(folder / "state", clock, clock.sleep)
    http = httpx2.Client(transport=SandboxTransport(sandbox))
    client = openai.OpenAI(api_key="sk-bench", base_url="http://sandbox/v1", http_client=http, max_retries=0)
    dice = random.Random(seed)
    service = OpenAIService(client, config.retry.to_rules(), clock.sleep, dice.random)
    context = LaneContext(
        store, service, job, config, config.retry.to_rules(), resolve_prices, dice.random, clock, clock.sleep
    )
    with TokenCounter() as counter:
        plan_job(config, job, store, PlanOptions(table, pilot=PilotWish(lines, seed)), counter, lambda *_: None)
    runner = BatchRunner(context)
    runner.prepare_run()
    with store.transaction("release_pilot") as tx:
        pilots.release_pilot(tx, 1)
    end = runner.run_until_idle(how=decide_pilot_actions)
    if end != Finish(PILOT_ANSWERED):
        print(f"the pilot ended with {end}")
    with store.read_transaction() as tx:
        (pilot,) = filter(None, [pilots.load_newest_pilot(tx)])
        stage = pilots.load_pilot_progress(tx, pilot, config.pilot.min_accepted).stage
    if stage is not PilotStage.FAILED:  # as `batcher pilot` does: its retries first, then the report
        runner.run_until_idle()
    with store.read_transaction() as tx:
        costs = read_pilot_costs(tx, pilots.load_pilot_progress(tx, pilot, 0.9), config, resolve_prices)
        spent = load_spending(tx).spent_usd
    if stage is not PilotStage.FAILED:
        with store.transaction("release") as tx:
            shards.release_shards(tx, None)
        print(f"the rest ended with {runner.run_until_idle()}")
    with store.read_transaction() as tx:
        states = dict(count_artists_by_state(tx))
        return Result(costs, stage, spent, load_spending(tx).spent_usd, states)


def main() -> None:
    """Measure, and print the figures with their targets."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pilot")
    parser.add_argument("table", type=Path)
    parser.add_argument("--rows", type=int, default=0, help="so many rows, evenly spread; 0: all")
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batcher-pilot-") as name:
        folder = Path(name)
        table = _thin_table(chosen.table.resolve(), folder / "table.parquet", chosen.rows)
        job = load_job(ROOT / "jobs" / "bios")
        began = time.monotonic()
        good = run_job(folder / "good", table, job, chosen.lines, chosen.seed)
        _tell_forecast(good, time.monotonic() - began)
        bad = run_job(folder / "bad", table, load_job(_write_strict_job(folder / "strict")), chosen.lines, chosen.seed)
        share = bad.whole_usd / good.whole_usd
        print(f"| spent when 94% are refused ({bad.stage.name.lower()}) | <= 2% of the price | {share:.2%} |")


def _thin_table(source: Path, target: Path, rows: int) -> Path:
    if not rows:
        return source
    numbered = f"SELECT *, row_number() OVER () - 1 AS n, count(*) OVER () AS total FROM read_parquet('{source}')"
    chosen = f"n * {rows} // total > (n - 1) * {rows} // total OR n = 0"
    with duckdb.connect() as con:
        con.execute(f"COPY (SELECT * EXCLUDE (n, total) FROM ({numbered}) WHERE {chosen}) TO '{target}'")
    return target


def _write_strict_job(folder: Path) -> Path:
    """Write the example's job with an `accept` that refuses most answers, whatever they say; return its folder."""
    folder.mkdir()
    source = ROOT / "jobs" / "bios"
    for name in ("system.md", "user.md"):
        (folder / name).write_bytes((source / name).read_bytes())
    strict = (
        "\n\ndef accept(artist, bio):\n"
        "    from hashlib import sha256\n\n"
        f"    refused = sha256(artist.artist_id.encode()).digest()[0] < {round(256 * REFUSED)}\n"
        '    return "urgency is out of range" if refused else None\n'
    )
    (folder / "job.py").write_text((source / "job.py").read_text(encoding="utf-8") + strict, encoding="utf-8")
    return folder


def _tell_forecast(result: Result, seconds: float) -> None:
    costs = result.costs
    print("| measure | target | seen |\n|---|---|---|")
    if costs.rest is None:
        print("| forecast | within 5% | none |")
        return
    foretold = result.spent_usd + costs.rest.amount
    off = foretold / result.whole_usd - 1
    assumed = result.spent_usd + (costs.rest_assumed or 0.0)
    error = WITHIN * costs.rest.error
    print(f"| foretold ${foretold:.4f} +- ${error:.4f}, spent ${result.whole_usd:.4f} | within 5% | {off:+.2%} |")
    print(f"| assumed before anything was measured: ${assumed:.4f} | - | {assumed / result.whole_usd - 1:+.2%} |")
    print(f"| lines {result.states} | - | {seconds:.0f} s |")


if __name__ == "__main__":
    main()
