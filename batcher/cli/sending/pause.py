"""`pause` and `resume`: what the acting process heeds before it sends."""

from batcher.cli.base.answer import CommandAnswer
from batcher.cli.base.session import Session
from batcher.state import quota_pauses


def run_pause(session: Session) -> CommandAnswer:
    """Stop sending until `resume`."""
    session.store.require_plan()
    with session.store.transaction("pause") as tx:
        quota_pauses.pause_sending(tx, "all", "by hand", None, "by hand")
    text = "paused: nothing new is sent until `batcher resume`; what is in flight is still followed"
    return CommandAnswer(text, {"told": text})


def run_resume(session: Session) -> CommandAnswer:
    """End every pause."""
    session.store.require_plan()
    with session.store.transaction("resume") as tx:
        text = f"{quota_pauses.resume_sending(tx)} pauses ended"
    return CommandAnswer(text, {"told": text})
