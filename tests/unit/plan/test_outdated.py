"""What is told where unsent lines were planned with another version of the job."""

import pytest

from batcher.core.model import Endpoint, JobVersion
from batcher.plan.outdated import describe_outdated_lines
from batcher.state.versions import UnsentCount

TODAY = JobVersion("bios", "m", Endpoint.CHAT, 4000, "Be short.", "{name}", {"type": "object"}, "bio")
REPLAN = "`batcher plan --replan` cuts them again (what was submitted stays as it is)"


def test_a_room_that_alone_is_another_can_be_kept() -> None:
    """The default by model changes with a version of Batcher: then the user has changed nothing."""
    assert describe_outdated_lines(UnsentCount(236, 5, [1]), [TODAY._replace(max_output_tokens=600)], TODAY) == (
        "236 unsent lines in 5 shards were planned with another [model] max_output_tokens (600; now 4,000); "
        f"{REPLAN}; to go on as they are, set max_output_tokens = 600 in [model]"
    )


@pytest.mark.parametrize(
    ("planned", "names"),
    [
        ([TODAY._replace(system="Be long.", template="{x}")], "prompt"),
        ([TODAY._replace(name="b")], "name of the job folder"),
        ([TODAY._replace(schema={"b": 1, "a": 1})], "schema"),
        ([TODAY._replace(schema={}), TODAY._replace(schema_name="x")], "schema"),
        (
            [TODAY._replace(parameters={"seed": 1}, endpoint=Endpoint.RESPONSES)],
            "[model] endpoint and [model] parameters",
        ),
        ([TODAY._replace(model="n", max_output_tokens=9)], "[model] name and [model] max_output_tokens (9; now 4,000)"),
        (
            [TODAY._replace(max_output_tokens=600), TODAY._replace(max_output_tokens=700)],
            "[model] max_output_tokens (600, 700; now 4,000)",
        ),
    ],
)
def test_what_differs_is_named(planned: list[JobVersion], names: str) -> None:
    today = TODAY._replace(schema={"a": 1, "b": 1})
    kept = [each._replace(schema=today.schema) if each.schema == TODAY.schema else each for each in planned]
    told = describe_outdated_lines(UnsentCount(1, 1, [1]), kept, today)
    assert told == f"1 unsent line in 1 shard was planned with another {names}; {REPLAN}"
