"""The prompts of a job: what each has cost, and how many of its answers were accepted."""

from typing import NamedTuple

from batcher.state.db.transaction import Transaction


class PromptTotals(NamedTuple):
    """One prompt: versions that ask the same."""

    prompt: int
    """The number of the first of its versions."""
    planned_at: float
    """When lines were first planned with it (epoch seconds)."""
    lines: int
    """Lines that have it now."""
    judged: int
    """Answers that were judged: accepted, or of no use."""
    accepted: int
    cost_usd: float | None
    """Dollars that all its executions have cost; None where a price is not known."""
    bios: int
    """Bios of it that exist."""

    @property
    def accepted_share(self) -> float | None:
        """The accepted share of the judged answers; None before the first."""
        return self.accepted / self.judged if self.judged else None


def load_prompt_totals(tx: Transaction) -> list[PromptTotals]:
    """Return every prompt that anything was planned with, the oldest first."""
    found = []
    for prompt, planned_at, lines, judged, accepted, usd, unpriced, bios in tx.fetch_all("prompt_totals"):
        cost_usd = None if unpriced else float(usd)
        found.append(PromptTotals(int(prompt), float(planned_at), lines, judged, accepted, cost_usd, bios))
    return found
