"""A planned job and its direct lane in one process; a test may answer its calls."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from batcher.config.sections import Config
from batcher.core.actions import Finish
from batcher.core.direct.workers import build_workers
from batcher.core.failures import ErrorDetails
from batcher.lanes.context import LaneContext
from batcher.lanes.direct.lane import DirectLane
from batcher.sandbox import SandboxSettings
from batcher.service.service import CallRefused, CallUnknown, CompletionResponse
from batcher.state.direct_calls import Selection
from tests.support.world import World, config_with, write_table

HOUR = 3600.0
Script = Callable[[int], Exception | CompletionResponse | None]


class Scripted:
    """The real service, whose synchronous calls may be answered by a test instead."""

    def __init__(self, service: Any, script: Script | None, lost: str) -> None:
        self._service, self._script, self._lost, self.calls = service, script, lost, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def request_completion(self, endpoint: str, body: Mapping[str, object]) -> CompletionResponse:
        self.calls += 1
        result = self._script(self.calls) if self._script else None
        if self._lost and self._lost in str(body):
            result = CallUnknown(ErrorDetails(message="timed out"))
        if isinstance(result, Exception):
            raise result
        if result is not None:
            return result
        answer: CompletionResponse = self._service.request_completion(endpoint, body)
        return answer


class Desk(World):
    """A planned job, and its direct lane."""

    lane: DirectLane
    script: Script | None = None
    lost = ""
    """The answers to calls whose body contains this text are lost."""

    def tools(self) -> LaneContext:
        tools = super().tools()
        if self.script is not None or self.lost:
            object.__setattr__(tools, "service", Scripted(tools.service, self.script, self.lost))
        return tools

    def direct(self, workers: str | int = 4, **selection: Any) -> Finish:
        """Run the direct lane as a process would, from its start."""
        self.lane = DirectLane(self.tools(), Selection(**selection), build_workers(workers))
        self.lane.prepare_run()
        return self.lane.run_until_idle()

    def pauses(self) -> list[tuple[object, ...]]:
        return self.rows(
            "SELECT scope, reason, round(since - 1795000000), round(until - 1795000000) FROM pauses ORDER BY pause"
        )


def settings_of(**sections: Mapping[str, object]) -> Config:
    """Return settings with small shards and a poll every hour, so that a day passes in few steps."""
    return config_with(**{"limits": {"lines_per_shard": 6}, "poll": {"interval_s": 3_600}, **sections})


def desk(folder: Path, lines: int = 12, settings: SandboxSettings | None = None, config: Config | None = None) -> Desk:
    made = Desk(folder, settings, config or settings_of())
    made.plan(write_table(folder / "table.csv", lines))
    return made


def refused(status: int, code: str, message: str = "no", wait_s: float | None = None) -> CallRefused:
    return CallRefused(ErrorDetails(status, code, "", message), wait_s)
