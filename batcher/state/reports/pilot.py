"""What a pilot has cost and what the rest will, for its report: measured against what was assumed before."""

from collections.abc import Sequence
from typing import NamedTuple

from batcher.catalog.prices import PriceOf
from batcher.config.sections import Config
from batcher.core.cache.keys import KEYS
from batcher.core.cache.shares import count_first_writes
from batcher.core.pilots import PilotLine
from batcher.core.room import MeasuredUsage
from batcher.core.sampling import Estimate, MeasuredLine, Stratum, estimate_rest
from batcher.state.db.transaction import Transaction
from batcher.state.pilots import PilotProgress
from batcher.state.reports.expectation import build_expectation
from batcher.state.reports.outlook import OpenLines, load_outlook
from batcher.state.versions import StoredVersion, load_version


class PilotCosts(NamedTuple):
    """Tokens and dollars of a pilot and of the rest. Dollars are None where a price is not known."""

    executed: int
    """Executions, retries included."""
    tokens_counted: float
    """Of the input of an execution, by our count."""
    tokens_input: float
    """The same by the service's count."""
    tokens_output: float
    """Of an answer."""
    spent_usd: float | None
    usd_per_bio: float | None
    usd_per_line: float | None
    """What was assumed of a line of the pilot before it was sent."""
    rest_lines: int
    """Lines that are neither sent nor ended, those of the pilot apart."""
    rest_assumed: float | None
    """What the rest was assumed to cost before anything was measured."""
    rest: Estimate | None
    """What the rest will cost by what the pilot has cost in each stratum."""


def read_pilot_costs(tx: Transaction, progress: PilotProgress, config: Config, price_of: PriceOf) -> PilotCosts:
    """Return the costs of a pilot and of the rest."""
    lines = progress.lines
    executed = sum(line.executed for line in lines)
    paid = [line for line in lines if line.executed]
    is_priced = not any(line.unpriced for line in lines)
    spent = sum(line.usd for line in lines)
    bios = progress.tally.bios
    outlook = load_outlook(tx, config)._replace(measured=MeasuredUsage())
    stored = load_version(tx, progress.pilot.version)
    tokens = [line.tokens for line in lines]
    own = OpenLines(stored.version, len(lines), sum(tokens), max(tokens, default=0), stored.prefix_tokens)

    def assume_cost(open_lines: list[OpenLines]) -> float | None:
        return build_expectation(outlook._replace(open=open_lines), config, price_of, tx.now).dollars.expected

    assumed = assume_cost([own]) if lines else None
    rest_lines = max(0, outlook.open_line_count - sum(line.state in {"ready", "waiting"} for line in lines))
    return PilotCosts(
        executed=executed,
        tokens_counted=sum(line.tokens for line in paid) / max(len(paid), 1),
        tokens_input=sum(line.input for line in paid) / max(executed, 1),
        tokens_output=sum(line.output for line in paid) / max(executed, 1),
        spent_usd=spent if is_priced else None,
        usd_per_bio=spent / bios if is_priced and bios else None,
        usd_per_line=assumed / len(lines) if assumed is not None else None,
        rest_lines=rest_lines,
        rest_assumed=_scale(assume_cost(list(outlook.open)), rest_lines, outlook.open_line_count),
        rest=_estimate_rest(paid, lines, rest_lines, stored, price_of) if is_priced and paid else None,
    )


def _scale(amount: float | None, part: int, whole: int) -> float | None:
    return amount * part / whole if amount is not None and whole else amount


def _estimate_rest(
    paid: Sequence[PilotLine], lines: Sequence[PilotLine], rest: int, stored: StoredVersion, price_of: PriceOf
) -> Estimate:
    """Return the dollars of the rest, with what is before the cache breakpoint written once for each key, then read.

    In the small sample the first writes are a large part of the price, so they are taken out of it and counted again.
    """
    written, prices = sum(line.written for line in paid), price_of(stored.version.model)
    if not written or not stored.prefix_tokens or prices is None:
        return _estimate_costs(paid, lines, rest)
    ratio = sum(line.input for line in paid) / max(sum(line.tokens * line.executed for line in paid), 1)
    once = count_first_writes(stored.prefix_tokens, written, ratio)
    difference = prices.batch.written - prices.batch.cached
    read = [line._replace(usd=line.usd - line.written * once / written * difference) for line in paid]
    estimate = _estimate_costs(read, lines, rest)
    again = min(rest, KEYS) * stored.prefix_tokens * ratio * difference
    return Estimate(estimate.amount + again, estimate.error)


def _estimate_costs(paid: Sequence[PilotLine], lines: Sequence[PilotLine], rest: int) -> Estimate:
    """Return the dollars of the rest. Lines that were planned since the pilot was drawn cost as much as the others."""
    strata: dict[int, Stratum] = {}
    for line in lines:
        drawn = strata[line.stratum].drawn + 1 if line.stratum in strata else 1
        strata[line.stratum] = Stratum(round(line.weight * drawn), drawn)
    known = sum(stratum.size - stratum.drawn for stratum in strata.values())
    estimate = estimate_rest((MeasuredLine(line.stratum, line.usd) for line in paid), strata)
    share = rest / known if known else 0.0
    return Estimate(estimate.amount * share, estimate.error * share)
