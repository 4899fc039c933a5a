"""A program as a user of the Python API writes it: run in a test, and checked by mypy --strict like everything here."""

from collections.abc import Callable
from datetime import datetime
from os import PathLike
from typing import assert_type

import batcher
from batcher import events
from batcher.contracts.results import CollectAnswer
from batcher.contracts.sending import RunAnswer
from batcher.contracts.status import StatusAnswer


def use_job(config: str | PathLike[str], on_event: Callable[[events.Event], None]) -> None:
    """Take a job from its table to its bios by every kind of step."""
    job = batcher.open(config, on_event=on_event)
    plan = job.plan()
    assert plan.lines == len(job.preview(sample=plan.lines).artists)
    pilot = job.pilot(lines=6)
    assert (pilot.stage, pilot.accepted) == ("passed", 6)
    sent = job.submit(shards=1)
    assert sent.submitted[0].batch_id is not None
    job.pause()
    assert [pause.scope for pause in job.status().pauses] == ["all"]
    assert job.resume().pauses_ended == 1
    held = job.cancel()
    assert job.retry(held=True).lines == [] or held.cancelled
    one = job.direct(limit=1, workers=2)
    assert one.calls == {"bio": 1}
    job.submit()
    job.poll()
    done = job.run(out="bios.parquet", failed="failed.csv")
    assert_type(done, RunAnswer)
    status = job.status()
    assert_type(status, StatusAnswer)
    assert_type(status.now, datetime)
    assert status.states == done.states == {"done": plan.lines}
    collected = job.collect("again.csv", overwrite=True)
    assert_type(collected, CollectAnswer)
    assert collected.bios == plan.lines and collected.files[0].rows == plan.lines
    assert job.show("a00001").bio is not None
    assert job.answers("a00001").total >= 1
    assert job.judge(dry_run=True).refused.bios == 0
    assert [row.prompt for row in job.versions().prompts] == [1]
    assert job.difference(1).diff == ""
    assert job.redo("a00001", yes=True).lines == 1
    assert job.poll(once=True).version == 1
    assert job.doctor().ok
    assert job.sql("SELECT count(*) FROM lines").rows == [[plan.lines]]
