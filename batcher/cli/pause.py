"""`pause` and `resume`: the wishes that the acting process heeds before it sends."""

from batcher.cli.session import Session
from batcher.state import quota_pauses


def run_pause(session: Session) -> str:
    """Holds sending until `resume`."""
    with session.store.read_transaction():
        pass
    with session.store.transaction("pause") as tx:
        quota_pauses.pause_sending(tx, "all", "by hand", None, "by hand")
    return "paused: nothing new is sent until `batcher resume`; what is in flight is still followed"


def run_resume(session: Session) -> str:
    """Ends every pause."""
    with session.store.read_transaction():
        pass
    with session.store.transaction("resume") as tx:
        ended = tx.fetch_all("end_pauses", reasons=None, now=tx.now)
        tx.record_event("resume", f"{len(ended)} pauses ended")
    return f"{len(ended)} pauses ended"
