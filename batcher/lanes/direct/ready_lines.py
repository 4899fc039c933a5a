"""The next lines that the direct lane asks for: rendered again from their rows, some at a time, before a claim."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson

from batcher.catalog.prices import ModelPrices
from batcher.core.model import Endpoint, JobVersion
from batcher.core.pacing import Pacer
from batcher.core.rendering import LineRenderer
from batcher.job.job import job_output_to_stderr
from batcher.lanes.context import LaneContext
from batcher.lanes.direct.outcomes import CallRequest
from batcher.plan.retry_shards import rerender_line
from batcher.state import direct_calls, submissions
from batcher.state.costs import load_spending
from batcher.state.db.transaction import Transaction
from batcher.state.direct_calls import Candidate, Selection
from batcher.state.snapshot import latest_valid_wait, load_measured
from batcher.state.versions import load_version

LINES = 200
"""Lines that are read at a time: reading goes through all lines of the job."""
CALL_KEY = "batcher_call"
"""The metadata of a stored completion that names the call."""


@dataclass(frozen=True, slots=True)
class VersionMaterial:
    """What the lines of one version are made with."""

    version: JobVersion
    renderer: LineRenderer
    prices: ModelPrices | None


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A line that may be asked for, and the most that it may cost in dollars."""

    line: Candidate
    asked: CallRequest
    usd: float


class ReadyLines:
    """Lines of a selection that are ready to be asked for, the most urgent first."""

    def __init__(self, context: LaneContext, selection: Selection, pacer: Pacer) -> None:
        self._context, self.selection, self._pacer = context, selection, pacer
        self._lines: deque[PreparedCall] = deque()
        self._materials: dict[int, VersionMaterial] = {}
        self._looked = False
        self.next_due: float | None = None
        """When the next line that waits is due; None: none waited when it was last looked."""
        self.paced_until = float("-inf")
        """Before this time the next line does not fit into the windows of a minute."""
        self.too_dear = ""
        """Why the last try to take a line found it too dear; "" where it did not."""

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def is_fresh(self) -> bool:
        """Whether there is no need to look: some lines are here, or there were none when it was last looked."""
        return bool(self._lines) or self._looked

    def mark_stale(self) -> None:
        """A line has failed, and may be ready again."""
        self._looked = False

    def load_next_lines(self) -> None:
        """Reads and renders the next lines where there are none, if there may be some. Raises JobError where today's
        job.py renders a line otherwise than it was planned."""
        now = self._context.clock()
        if self._lines or (self._looked and (self.next_due is None or now < self.next_due)):
            return
        with self._context.store.transaction("direct_look", patience_s=None) as tx:
            lines, self.next_due = direct_calls.load_candidates(
                tx, self.selection, LINES, latest_valid_wait(tx, self._context.config)
            )
            materials = {line.version: self.load_material(tx, line.version) for line in lines}
            ratio = load_measured(tx).token_ratio * (1 + self._context.config.limits.margin)
        self._looked = not lines  # where there were some, there may be more behind them
        with job_output_to_stderr():
            self._lines.extend(self._prepare_call(line, materials[line.version], ratio) for line in lines)

    def _prepare_call(self, line: Candidate, material: VersionMaterial, ratio: float) -> PreparedCall:
        own = rerender_line(
            self._context.job, material.renderer, line.artist_id, line.custom_id, line.data, line.line_hash
        )
        counted, most = int(line.tokens * ratio), material.version.max_output_tokens
        asked = CallRequest(
            0, line.artist_id, line.custom_id, line.data, line.version, material.version.endpoint,
            orjson.loads(material.renderer.render_line(own))["body"], counted + most, material.prices,
        )  # fmt: skip
        rates = material.prices.standard if material.prices is not None else None
        return PreparedCall(line, asked, counted * rates.input + most * rates.output if rates is not None else 0.0)

    def claim_lines(self, tx: Transaction, most: int) -> list[CallRequest]:
        """Claims up to so many lines, as far as windows and budget allow; lines that went elsewhere are passed over."""
        chosen = self._select_fitting_lines(tx, most)
        if not chosen:
            return []
        calls, run = (
            direct_calls.record_claims(tx, [(p.line, p.asked.tokens, p.usd) for p in chosen]),
            submissions.load_run_id(tx),
        )
        return [
            self._assign_call_id(replace(p.asked, asked_at=tx.now), call, run)
            for p, call in zip(chosen, calls, strict=True)
        ]

    def _select_fitting_lines(self, tx: Transaction, most: int) -> Sequence[PreparedCall]:
        self.too_dear = ""
        held = [self._lines[n].line for n in range(min(most, len(self._lines)))]
        ready = direct_calls.filter_ready_lines(tx, held)
        money = self._remaining_budget_usd(tx)
        chosen: list[PreparedCall] = []
        while self._lines and len(chosen) < most and self._lines[0].line.artist_id in {line.artist_id for line in held}:
            each = self._lines[0]
            if each.line.artist_id not in ready:
                self._lines.popleft()
                self._looked = False
                continue
            at = self._pacer.earliest_fit(tx.now, each.asked.tokens)
            if at > tx.now:
                self.paced_until = at
                break
            if money is not None and each.usd > money - sum(p.usd for p in chosen):
                most_usd = self._context.config.budget.max_usd
                self.too_dear = f"the budget of ${most_usd:,g} leaves no room for another call"
                break
            self._pacer.record_request(tx.now, each.asked.tokens)
            chosen.append(replace(each, line=ready[each.line.artist_id]))
            self._lines.popleft()
        return chosen

    def _assign_call_id(self, asked: CallRequest, call: int, run: str) -> CallRequest:
        body = asked.body
        if self._context.config.direct.store and asked.endpoint is Endpoint.CHAT:
            body = {**body, "store": True, "metadata": {CALL_KEY: f"{run}-{call}", "custom_id": asked.custom_id}}
        return replace(asked, call=call, body=body)

    def load_material(self, tx: Transaction, number: int) -> VersionMaterial:
        """What the lines of a version are made with."""
        if number not in self._materials:
            version, _ = load_version(tx, number)
            self._materials[number] = VersionMaterial(
                version, LineRenderer(version), self._context.prices(version.model)
            )
        return self._materials[number]

    def _remaining_budget_usd(self, tx: Transaction) -> float | None:
        """Dollars that may still be spent; None: no bound."""
        most = self._context.config.budget.max_usd
        if not most:
            return None
        spending = load_spending(tx)
        return most - spending.spent_usd - spending.in_flight_usd
