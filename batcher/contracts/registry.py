"""Which contract the JSON of each command keeps to."""

from collections.abc import Mapping
from types import MappingProxyType

from batcher.contracts import planning, results, sending, status, streams, tools
from batcher.contracts.base import Answer, ErrorAnswer

CONTRACTS: Mapping[str, type[Answer]] = MappingProxyType(
    {
        "init": planning.InitAnswer,
        "plan": planning.PlanAnswer,
        "preview": planning.PreviewAnswer,
        "forget": planning.ForgetAnswer,
        "submit": sending.SubmitAnswer,
        "poll": sending.PollAnswer,
        "run": sending.RunAnswer,
        "pilot": sending.PilotAnswer,
        "direct": sending.DirectAnswer,
        "pause": sending.PauseAnswer,
        "resume": sending.ResumeAnswer,
        "cancel": sending.CancelAnswer,
        "retry": sending.RetryAnswer,
        "redo": sending.RedoAnswer,
        "collect": results.CollectAnswer,
        "report": results.ReportAnswer,
        "status": status.StatusAnswer,
        "show": results.ShowAnswer,
        "answers": results.AnswersAnswer,
        "judge": results.JudgeAnswer,
        "versions": results.VersionsAnswer,
        "versions-difference": results.DifferenceAnswer,
        "sql": results.SqlAnswer,
        "sql-views": results.ViewsAnswer,
        "doctor": tools.DoctorAnswer,
        "bill": tools.BillAnswer,
        "log": tools.LogAnswer,
        "version": tools.VersionAnswer,
    }
)
"""By the command, which names its schema in docs/reference/json as well; a second one of a command has its name
and another word: `versions A B`, `sql` without a question."""
ERROR = ErrorAnswer
"""Of every command, where it could not do what it was to."""
STREAMED: Mapping[str, type[Answer]] = MappingProxyType(
    {
        "stream-progress": streams.ProgressLine,
        "stream-event": streams.EventLine,
        "notice": streams.NoticeObject,
    }
)
"""Of what comes before an answer, and of what `[notify]` sends; the name is that of the schema."""
