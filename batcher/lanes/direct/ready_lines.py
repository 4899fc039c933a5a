"""The next lines that the direct lane sends: rendered from their rows, some at a time, and then claimed."""

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson

from batcher.catalog.prices import ModelPrices, PriceOf
from batcher.config.sections import Config, DirectSection
from batcher.core.brake import Braked
from batcher.core.direct.flex import FLEX
from batcher.core.direct.pacing import Pacer
from batcher.core.failures import FailureClass
from batcher.core.model import CacheMode, Endpoint, JobVersion, Lane
from batcher.core.rendering import LineRenderer
from batcher.errors import format_usd
from batcher.job.job import job_output_to_stderr
from batcher.lanes.context import LaneContext
from batcher.lanes.direct.calls import CallRequest
from batcher.plan.retry_shards import rerender_line
from batcher.state import direct_calls, submissions
from batcher.state.costs import load_spending
from batcher.state.db.transaction import Transaction
from batcher.state.direct_calls import Candidate, LineClaim, Selection
from batcher.state.snapshot import latest_valid_wait, load_braked, load_measured
from batcher.state.versions import load_version, load_versions

LINES = 200
"""Lines that are loaded at a time: each time reads all lines of the job."""
CALL_KEY = "batcher_call"
"""The metadata key of a stored completion that names its call."""


@dataclass(frozen=True, slots=True)
class VersionMaterial:
    """What the lines of one version are made with."""

    version: JobVersion
    renderer: LineRenderer
    prices: ModelPrices | None


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A line that may be sent, with its request."""

    line: Candidate
    request: CallRequest
    most_usd: float
    """Dollars that it may cost at most."""
    is_flex: bool = False
    """Whether it asks for flex processing, as long as the lane does."""


class SelectionWeight(NamedTuple):
    """The lines that a selection is for, and the dollars that they cost at most; None where a price is not known."""

    lines: int
    most_usd: float | None


def bound_call_usd(
    prices: ModelPrices | None, cache: CacheMode, input_tokens: int, output_tokens: int, direct: DirectSection
) -> float | None:
    """Return the dollars that a call costs at most under these settings; None where the price is not known.

    Where it may fall back from flex processing, that is the standard price. cache: what it says of the prompt cache.
    """
    if prices is None:
        return None
    is_flex = direct.service_tier == FLEX and not direct.flex_fallback
    return prices.for_cache(cache).rates_for(Lane.DIRECT, is_flex).most_cost(input_tokens, output_tokens)


def weigh_lines(tx: Transaction, selection: Selection, config: Config, price_of: PriceOf) -> SelectionWeight:
    """Return the lines of a selection, and what they cost at most: every answer of full length, each asked once."""
    token_factor = load_measured(tx).token_ratio * (1 + config.limits.margin)
    weights, versions = direct_calls.weigh_selection(tx, selection), load_versions(tx)
    numbers = {weight.version for weight in weights}
    prices = {number: price_of(versions[number].model) for number in numbers}
    lines, total_usd = 0, 0.0
    is_known = True
    for weight in weights:
        input_tokens = math.ceil(weight.tokens * token_factor)
        version = versions[weight.version]
        output_tokens = version.max_output_tokens
        usd = bound_call_usd(prices[weight.version], version.cache, input_tokens, output_tokens, config.direct)
        lines += weight.lines
        total_usd += weight.lines * (usd or 0.0)
        is_known = is_known and usd is not None
    return SelectionWeight(lines, total_usd if is_known else None)


def weigh_beside_rest(
    tx: Transaction, selection: Selection, config: Config, price_of: PriceOf
) -> tuple[SelectionWeight, int]:
    """Return what `weigh_lines` does, and how many lines are left out because they were not released."""
    chosen = weigh_lines(tx, selection, config, price_of)
    if selection.unreleased:
        return chosen, 0
    everything = weigh_lines(tx, replace(selection, unreleased=True), config, price_of)
    return chosen, everything.lines - chosen.lines


class ReadyLines:
    """Lines of a selection that are ready to be sent, the most urgent first."""

    def __init__(self, context: LaneContext, selection: Selection, pacer: Pacer) -> None:
        self._context, self._selection, self._pacer = context, selection, pacer
        self._first_call = 0
        self._lines: deque[PreparedCall] = deque()
        self._materials: dict[int, VersionMaterial] = {}
        self._token_factor = 0.0
        """Tokens that are reserved for one counted token of input, as of the last load."""
        self._is_loaded = False
        """Whether the state holds no ready line that is not here."""
        self.next_due: float | None = None
        """When the next of the waiting lines is due; None: none waited at the last load."""
        self.braked: Braked | None = None
        """By which lines were kept back at the last load; None: there were none."""
        self.paced_until = float("-inf")
        """Before this time the next line does not fit into the windows of a minute."""
        self.budget_problem = ""
        """Why the last claim found the next line too expensive, as a sentence; "" where it did not."""

    def __len__(self) -> int:
        return len(self._lines)

    def set_first_call(self, call: int) -> None:
        """Count the lines of calls from this number on against the limit of the selection."""
        self._first_call = call

    @property
    def is_fresh(self) -> bool:
        """Whether no load is needed: there are lines, or the last load found none."""
        return bool(self._lines) or self._is_loaded

    def mark_stale(self) -> None:
        """Mark the lines stale, as a line has failed and may be ready: the next load queries the state."""
        self._is_loaded = False

    def load_next_lines(self) -> None:
        """Load and render the next lines, where none are left and there may be some.

        Raises JobError where today's job.py renders a line otherwise than it was planned.
        """
        now = self._context.clock()
        if self._lines or (self._is_loaded and (self.next_due is None or now < self.next_due)):
            return
        with self._context.store.transaction("direct_look", patience_s=None) as tx:
            braked = load_braked(tx, self._context.config)
            latest = latest_valid_wait(tx, self._context.config)
            lines, self.next_due, kept_back = direct_calls.load_candidates(
                tx, self._selection, self._first_call, LINES, latest, braked
            )
            self.braked = None if kept_back is None else braked[kept_back]
            materials = {line.version: self.load_material(tx, line.version) for line in lines}
            without_flex = self._find_lines_without_flex(tx, lines)
            self._token_factor = load_measured(tx).token_ratio * (1 + self._context.config.limits.margin)
        self._is_loaded = not lines  # where there were some, there may be more behind them
        with job_output_to_stderr():
            self._lines.extend(
                self._prepare_call(
                    line, materials[line.version], without_flex is not None and line.artist_id not in without_flex
                )
                for line in lines
            )

    def _find_lines_without_flex(self, tx: Transaction, lines: Sequence[Candidate]) -> Collection[str] | None:
        """Return the artist ids of lines that flex has refused for too long; None where flex is not asked for."""
        direct = self._context.config.direct
        if direct.service_tier != FLEX:
            return None
        tries = self._context.rules.policies[FailureClass.RESOURCE_UNAVAILABLE].tries
        if not direct.flex_fallback or tries is None or not lines:
            return ()
        return direct_calls.find_failing_lines(tx, lines, FailureClass.RESOURCE_UNAVAILABLE, tries)

    def _prepare_call(self, line: Candidate, material: VersionMaterial, is_flex: bool) -> PreparedCall:
        rendered = rerender_line(
            self._context.job, material.renderer, line.artist_id, line.custom_id, line.data, line.line_hash
        )
        input_tokens, output_tokens = math.ceil(line.tokens * self._token_factor), material.version.max_output_tokens
        body = orjson.loads(material.renderer.render_line(rendered))["body"]
        request = CallRequest(
            0, line.artist_id, line.custom_id, line.data, line.version,
            material.version.endpoint, body, input_tokens + output_tokens, material.prices,
        )  # fmt: skip
        most_usd = bound_call_usd(
            material.prices, material.version.cache, input_tokens, output_tokens, self._context.config.direct
        )
        return PreparedCall(line, request, most_usd or 0.0, is_flex)

    def claim_lines(self, tx: Transaction, max_lines: int, is_flex_over: bool) -> list[CallRequest]:
        """Claim at most `max_lines` lines, as far as windows and budget allow; return their requests.

        is_flex_over: whether none of them asks for flex processing.
        Lines that the batch lane has claimed meanwhile, or that the brake keeps back by now, are dropped.
        """
        self._drop_braked_lines(load_braked(tx, self._context.config))
        chosen = self._select_fitting_lines(tx, max_lines)
        if not chosen:
            return []
        calls = direct_calls.record_claims(tx, [LineClaim(p.line, p.request.tokens, p.most_usd) for p in chosen])
        run_id = submissions.load_run_id(tx)
        return [
            self._address_request(
                replace(prepared.request, call=call, sent_at=tx.now), run_id, prepared.is_flex and not is_flex_over
            )
            for prepared, call in zip(chosen, calls, strict=True)
        ]

    def _drop_braked_lines(self, braked: Collection[int]) -> None:
        """Drop the lines of versions of which nothing more is sent; the next load says which they are."""
        going = [prepared for prepared in self._lines if prepared.line.version not in braked]
        if len(going) < len(self._lines):
            self._lines = deque(going)
            self._is_loaded = False

    def _select_fitting_lines(self, tx: Transaction, max_lines: int) -> Sequence[PreparedCall]:
        self.budget_problem = ""
        first = [self._lines[n].line for n in range(min(max_lines, len(self._lines)))]
        ready = direct_calls.filter_ready_lines(tx, first)
        left_usd = self._remaining_budget_usd(tx)
        chosen: list[PreparedCall] = []
        for line in first:
            prepared = self._lines[0]
            if line.artist_id not in ready:
                self._lines.popleft()
                self._is_loaded = False
                continue
            fits_at = self._pacer.earliest_fit(tx.now, prepared.request.tokens)
            if fits_at > tx.now:
                self.paced_until = fits_at
                break
            if left_usd is not None and prepared.most_usd > left_usd - sum(p.most_usd for p in chosen):
                budget_usd = self._context.config.budget.max_usd
                self.budget_problem = f"the budget of {format_usd(budget_usd)} leaves no room for another call"
                break
            self._pacer.record_request(tx.now, prepared.request.tokens)
            chosen.append(replace(prepared, line=ready[line.artist_id]))
            self._lines.popleft()
        return chosen

    def _address_request(self, request: CallRequest, run_id: str, is_flex: bool) -> CallRequest:
        """Return the request with its tier, and the metadata by which its completion is found where one is stored."""
        if is_flex:
            request = replace(request, body={**request.body, "service_tier": FLEX})
        if not self._context.config.direct.store or request.endpoint is not Endpoint.CHAT:
            return request
        metadata = {CALL_KEY: f"{run_id}-{request.call}", "custom_id": request.custom_id}
        return replace(request, body={**request.body, "store": True, "metadata": metadata})

    def load_material(self, tx: Transaction, number: int) -> VersionMaterial:
        """Return what the lines of a version are made with; loaded once."""
        if number not in self._materials:
            version, _ = load_version(tx, number)
            self._materials[number] = VersionMaterial(
                version, LineRenderer(version), self._context.prices(version.model)
            )
        return self._materials[number]

    def _remaining_budget_usd(self, tx: Transaction) -> float | None:
        """Return the dollars that may still be spent; None: there is no bound."""
        budget_usd = self._context.config.budget.max_usd
        if not budget_usd:
            return None
        spending = load_spending(tx, self._token_factor)
        return budget_usd - spending.spent_usd - spending.in_flight_usd
