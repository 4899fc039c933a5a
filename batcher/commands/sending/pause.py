"""`pause` and `resume`: what the acting process heeds before it sends."""

from typing import TYPE_CHECKING

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.session import Session
from batcher.core.brake import describe_share
from batcher.state import pilots, quota_pauses, snapshot
from batcher.views.sheet import format_count

if TYPE_CHECKING:
    from batcher.contracts.sending import PauseAnswer, ResumeAnswer


def run_pause(session: Session) -> "CommandAnswer[PauseAnswer]":
    """Stop sending until `resume`."""
    session.store.require_plan()
    with session.store.transaction("pause") as tx:
        quota_pauses.pause_sending(tx, "all", "by hand", None, "by hand")
    text = "paused: nothing new is sent until `batcher resume`; what is in flight is still followed"

    def describe() -> "PauseAnswer":
        from batcher.contracts.sending import PauseAnswer

        return PauseAnswer.model_validate({"told": text})

    return CommandAnswer(lambda: text, describe)


def run_resume(session: Session) -> "CommandAnswer[ResumeAnswer]":
    """End every pause; release the brake where it has tripped, and let the rest follow a pilot that has failed.

    Both only where lines of that prompt wait.
    """
    session.store.require_plan()
    with session.store.transaction("resume") as tx:
        ended = quota_pauses.resume_sending(tx)
        text = f"{format_count(ended, 'pause')} ended"
        braked = snapshot.load_open_brakes(tx, session.config)
        resumed = pilots.resume_failed_pilots(tx, session.config.pilot.min_accepted)
        if braked or resumed:  # the rest of a failed pilot, too, starts with a first wave
            snapshot.release_brake(tx)
        if braked:
            tx.record_event("brake_released", "; ".join(describe_share(each) for each in braked))
            prompts = ", ".join(str(each.prompt) for each in braked)
            text += f"; the brake is released for prompt {prompts}: only answers from now on count"
        if resumed:
            prompts = ", ".join(map(str, resumed))
            text += f"; the pilot of prompt {prompts} counts as passed, and `batcher run` sends the rest"
    released = [each.prompt for each in braked]

    def describe() -> "ResumeAnswer":
        from batcher.contracts.sending import ResumeAnswer

        fields = {"told": text, "pauses_ended": ended, "brake_released": released, "pilots_passed": resumed}
        return ResumeAnswer.model_validate(fields)

    return CommandAnswer(lambda: text, describe)
