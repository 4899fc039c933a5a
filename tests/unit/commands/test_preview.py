"""`preview` of planned lines: with the version that they are sent with."""

from pathlib import Path

from batcher.commands.base.session import Session
from batcher.commands.planning.preview import run_preview
from batcher.state.versions import register_wider_version
from batcher.views.progress import CleanConsole, Display
from tests.support.world import ROOT, World, config_with, write_table


def test_a_line_keeps_its_room_where_it_asks_what_the_job_asks(tmp_path: Path) -> None:
    """Its answer was cut off, so that it is asked for again with more room; another prompt is shown as today's asks."""
    table = write_table(tmp_path / "artists.csv", 2)
    config = config_with(job={"path": ROOT / "jobs" / "bios", "input": table})
    world = World(tmp_path, config=config)
    world.plan(table)
    with world.store.transaction("as if an answer was cut off") as tx:
        wider = register_wider_version(tx, 1, 1_200)
        tx.con.execute("UPDATE artists SET version = $wider WHERE artist_id = 'a00001'", {"wider": wider})
    session = Session(config, world.store, Display(CleanConsole(stderr=True, quiet=True)), json=True)
    data = run_preview(session, ["a00000", "a00001"], None, None).describe()
    assert [each.request["body"]["max_completion_tokens"] for each in data.artists] == [600, 1_200]
    with world.store.transaction("as if the prompt was another one") as tx:
        tx.con.execute("UPDATE versions SET prompt = 7 WHERE version = $wider", {"wider": wider})
    data = run_preview(session, ["a00001"], None, None).describe()
    assert [each.request["body"]["max_completion_tokens"] for each in data.artists] == [600]
