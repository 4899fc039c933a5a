"""How long a job has been at work."""

from typing import NamedTuple

from batcher.state.db.transaction import Transaction


class JobSpan(NamedTuple):
    """When the first line of a job was sent and when the last answer so far came (epoch seconds); None: none yet."""

    started_at: float | None
    answered_at: float | None

    @property
    def elapsed_s(self) -> float | None:
        """Seconds from the one to the other; None where there is no answer."""
        if self.started_at is None or self.answered_at is None:
            return None
        return max(0.0, self.answered_at - self.started_at)


def read_job_span(tx: Transaction) -> JobSpan:
    """Return the span of a job, over all of its runs."""
    return JobSpan(*tx.fetch_one("job_span"))
