"""What `run` says at its end, after days perhaps, where a file was made meanwhile that it may not replace."""

from pathlib import Path

import orjson
from rich.console import Console

from batcher.commands.base.session import Session
from batcher.commands.sending.run import _collect_at_end
from batcher.views.progress import Display
from tests.support.planner_kit import Desk


def test_a_file_that_came_meanwhile_is_told_and_not_replaced(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    done = desk.table(orjson.dumps({"artist_id": "a", "bio": "Ana was."}), "d.jsonl")
    desk.plan(desk.table("artist_id,artist_name\na,Ana\n"), done=done)
    out = desk.table("the user's own", "bios.csv")
    config = desk.world.config.model_copy(update={"job": desk.world.config.job.model_copy(update={"path": desk.jobs})})
    session = Session(config, desk.world.store, Display(Console(quiet=True)), False)
    collection = _collect_at_end(session, out, None, overwrite=False)
    (drawn,) = collection.draw()
    assert str(drawn).startswith(f"Nothing was collected: {out} exists, and is not as this job's")
    assert collection.describe() == {"collected": None, "problem": collection.problem}
    assert out.read_text() == "the user's own"
    again = _collect_at_end(session, out, None, overwrite=True)
    assert (again.problem, again.describe()["collected"].bios) == ("", 1)  # type: ignore[attr-defined]
