"""Lines whose messages the job writes itself: planned, counted, and rendered again for a retry."""

import pytest

from batcher.core.rendering import overhead_tokens
from batcher.errors import JobError
from batcher.job.loading import load_job
from batcher.job.messages import IMAGE_TOKENS
from batcher.plan.retry_shards import cut_retry_shard
from tests.support.planner_kit import Desk, lines_of
from tests.support.world import counter

MESSAGES = """\


def messages(row):
    image = {"type": "image_url", "image_url": {"url": row.fact}}
    text = {"type": "text", "text": "Artist: " + row.artist_name}
    return [{"role": "user", "content": "Who?"}, {"role": "user", "content": [text, image] if row.fact else [text]}]
"""
TABLE = "artist_id,artist_name,fact\na,Ana,https://x.example/a.jpg\nb,Bo,\n"


def write_messages(desk: Desk, source: str, system: bool = True) -> None:
    """Give the job of the desk messages of its own."""
    desk.write_job()
    (desk.jobs / "user.md").unlink()
    if not system:
        (desk.jobs / "system.md").unlink()
    with (desk.jobs / "job.py").open("a", encoding="utf-8") as file:
        file.write(source)
    desk.world.job = load_job(desk.jobs)


@pytest.mark.parametrize("system", [True, False])
def test_lines_are_planned_with_their_messages(desk: Desk, system: bool) -> None:
    write_messages(desk, MESSAGES, system)
    desk.plan(desk.table(TABLE))
    ana, bo = (line["body"]["messages"] for line in lines_of(desk.world, 1))
    assert [message["role"] for message in ana] == ["system"] * system + ["user", "user"]
    assert bo[-1]["content"] == [{"type": "text", "text": "Artist: Bo"}]

    schema, brief, *texts = counter().count(
        [str(desk.world.rows("SELECT definition->'$.schema' FROM versions")[0][0]), "Be brief.", "Who?\nArtist: Ana",
         "Who?\nArtist: Bo"]
    ).result()  # fmt: skip
    shared = schema + brief * system + overhead_tokens(2 + system)
    tokens = [row[0] for row in desk.world.rows("SELECT tokens FROM artists ORDER BY artist_id")]
    assert tokens == [shared + texts[0] + IMAGE_TOKENS, shared + texts[1]]


def test_messages_that_change_between_two_calls_are_refused(desk: Desk) -> None:
    write_messages(desk, "\n\nCALLS = []\n" + MESSAGES.replace('"Who?"', 'f"{len(CALLS)}{CALLS.append(1)}"'))
    assert desk.refused(JobError, desk.table(TABLE)) == (
        "t.csv, row 2: messages gives something else at its second call; it must depend on the row alone"
    )


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            MESSAGES.replace("Who?", "Whom?"),
            "job.py renders artist a otherwise than it was planned; undo the change of messages",
        ),
        (None, "artist a: the line was planned with messages(row) of job.py, which is gone; undo the change"),
    ],
)
def test_a_line_that_is_rendered_again_has_to_be_what_was_planned(
    desk: Desk, source: str | None, sentence: str
) -> None:
    write_messages(desk, MESSAGES)
    desk.plan(desk.table(TABLE))
    with desk.world.store.transaction("as if its shard was split") as tx:
        tx.con.execute("UPDATE artists SET shard = NULL")
    write_messages(desk, source) if source else desk.write_job()
    with pytest.raises(JobError) as raised:
        cut_retry_shard(desk.world.store, desk.world.job, desk.world.config, 3, 1)
    assert str(raised.value) == sentence
    write_messages(desk, MESSAGES)
    shard = cut_retry_shard(desk.world.store, desk.world.job, desk.world.config, 3, 1)
    assert shard is not None
    assert lines_of(desk.world, shard.shard) == lines_of(desk.world, 1)
