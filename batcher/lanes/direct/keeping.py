"""The answers of calls as they came, kept in the state folder before they are recorded."""

from collections.abc import Iterable, Mapping

from batcher import crashpoints
from batcher.disk.direct_answers import CallAnswer, append_direct_answers, read_direct_answers
from batcher.lanes.context import LaneContext
from batcher.lanes.direct.calls import CallOutcome
from batcher.state.direct_calls import OpenCall


class AnswerKeeper:
    """Keeps answers where `[results] keep_raw` asks for it, and finds those that were kept and never recorded."""

    def __init__(self, context: LaneContext) -> None:
        self._folder, self._keeps = context.store.folder, context.config.results.keep_raw

    def keep_answers(self, run_id: str, outcomes: Iterable[CallOutcome]) -> None:
        """Append the answers to the file of this lane; all at once, as a sync takes milliseconds. Raises OSError."""
        came = [
            CallAnswer(run_id, each.request.call, each.request.custom_id, each.request.version, each.answer.body)
            for each in outcomes
            if each.answer is not None
        ]
        if not came or not self._keeps:
            return
        crashpoints.mark_reached("keep.before")
        append_direct_answers(self._folder, came)
        crashpoints.mark_reached("keep.after")

    def find_answers(self, run_id: str, calls: Iterable[OpenCall]) -> Mapping[int, bytes]:
        """Return the bodies that a process has kept for these calls, and died before it recorded them. Raises OSError
        where the file cannot be read."""
        wanted = {(call.call, call.custom_id) for call in calls}
        try:
            found = read_direct_answers(self._folder, run_id)
            return {each.call: each.body for each in found if (each.call, each.custom_id) in wanted}
        except FileNotFoundError:
            return {}
