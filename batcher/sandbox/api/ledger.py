"""The ledger: what was executed and would be billed, and how often each line was asked for.

In memory: counts by custom_id, and totals. On disk, one line of JSON per billed execution (`ledger.jsonl`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from batcher.sandbox.answers.answers import BilledTokens
from batcher.sandbox.answers.models import bill_usd


@dataclass(frozen=True)
class BilledExecution:
    """One execution that would be billed; `batch_id` None: the direct endpoint. `outcome`: "ok" or a fault's kind."""

    custom_id: str
    batch_id: str | None
    model: str
    outcome: str
    time: float
    tier: str = "default"  # of the direct endpoint: "default" or "flex"


@dataclass(frozen=True)
class UsagePlace:
    """What usage is added up by: the minute (epoch seconds), the model, whether by a batch, and the tier."""

    minute: int
    model: str
    is_batch: bool
    tier: str


@dataclass(frozen=True)
class UsageSum:
    """What was used at one place; `input_usd` and `output_usd` None: the price of the model is not known."""

    requests: int
    tokens: BilledTokens
    input_usd: float | None
    output_usd: float | None

    def __add__(self, other: "UsageSum") -> "UsageSum":
        """Return the sums."""
        return UsageSum(
            self.requests + other.requests,
            self.tokens + other.tokens,
            _add_usd(self.input_usd, other.input_usd),
            _add_usd(self.output_usd, other.output_usd),
        )


def _add_usd(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


class Ledger:
    """Appends to its file when `flush` is called; the caller holds the sandbox's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._billed: Counter[str] = Counter()
        self._usable: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self.billed_usd: float | None = 0.0  # None: an execution was of a model whose price is not known
        self.usage: dict[UsagePlace, UsageSum] = {}
        self._pending: list[bytes] = []
        self.finished: list[tuple[str, str, float]] = []  # (batch id, status, time), in the order of their ends

    def count_attempt(self, custom_id: str) -> int:
        """Count one more execution of the line, billed or not, and return the count."""
        self._attempts[custom_id] += 1
        return self._attempts[custom_id]

    def record_execution(self, execution: BilledExecution, usage: BilledTokens) -> None:
        """Count a billed execution and its tokens; its line reaches the disk with the next `flush`."""
        custom_id = execution.custom_id
        self._billed[custom_id] += 1
        self._totals["executions"] += 1
        self._totals["tokens_in"] += usage.prompt
        self._totals["tokens_cached"] += usage.cached
        self._totals["tokens_out"] += usage.completion
        self._totals["tokens_written"] += usage.written
        self._totals["tokens_reasoning"] += usage.reasoning
        tokens = (usage.prompt, usage.cached, usage.written, usage.completion)
        usd = bill_usd(execution.model, tokens, execution.batch_id is not None or execution.tier == "flex")
        self.billed_usd = None if usd is None or self.billed_usd is None else self.billed_usd + usd
        self._add_usage(execution, usage)
        if execution.outcome == "ok":
            self._usable[custom_id] += 1
        row = {
            "custom_id": custom_id,
            "batch_id": execution.batch_id,
            "n": self._billed[custom_id],
            "model": execution.model,
            "outcome": execution.outcome,
            "tokens_in": usage.prompt,
            "tokens_cached": usage.cached,
            "tokens_out": usage.completion,
            "tokens_written": usage.written,
            "tokens_reasoning": usage.reasoning,
            "service_tier": execution.tier,
            "usd": usd,
            "time": execution.time,
        }
        self._pending.append(orjson.dumps(row))

    def _add_usage(self, execution: BilledExecution, usage: BilledTokens) -> None:
        is_batch = execution.batch_id is not None
        is_half = is_batch or execution.tier == "flex"
        place = UsagePlace(int(execution.time // 60) * 60, execution.model, is_batch, execution.tier)
        tokens = (usage.prompt, usage.cached, usage.written)
        whole = bill_usd(execution.model, (*tokens, usage.completion), is_half)
        paid_input = bill_usd(execution.model, (*tokens, 0), is_half)
        paid_output = None if whole is None or paid_input is None else whole - paid_input
        found = UsageSum(1, usage, paid_input, paid_output)
        before = self.usage.get(place)
        self.usage[place] = found if before is None else before + found

    def record_batch_end(self, batch_id: str, status: str, time: float) -> None:
        """Record when and how a batch ended."""
        self.finished.append((batch_id, status, time))

    def flush(self) -> None:
        """Append the lines recorded since the last call to the file."""
        if not self._pending:
            return
        with self._path.open("ab") as file:
            file.write(b"\n".join(self._pending) + b"\n")
        self._pending.clear()

    def execution_counts(self) -> Mapping[str, int]:
        """Return the billed executions by custom_id."""
        return dict(self._billed)

    def usable_counts(self) -> Mapping[str, int]:
        """Return the executions by custom_id whose answer was good."""
        return dict(self._usable)

    def attempt_counts(self) -> Mapping[str, int]:
        """Return all executions by custom_id, those that answered with an error too."""
        return dict(self._attempts)

    def billing_totals(self) -> dict[str, int]:
        """Return sums over the billed executions."""
        names = ("executions", "tokens_in", "tokens_cached", "tokens_out", "tokens_written", "tokens_reasoning")
        sums = {name: self._totals[name] for name in names}
        repeated = sum(1 for count in self._usable.values() if count > 1)
        return {
            **sums,
            "lines": len(self._billed),
            "lines_usable": len(self._usable),
            "usable_more_than_once": repeated,
        }
