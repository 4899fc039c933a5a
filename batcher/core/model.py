"""The values that travel between the layers. Frozen, and documented with their units.

Times are seconds since the epoch (float, UTC). Tokens are input tokens unless the name says otherwise.

Tuples by name, here and in whatever else a look at the state loads: the class of a frozen dataclass takes six times as
long to make, and a short command makes fifty; a value of it takes five times as long, and there is one a line of some.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from batcher.core.failures import FailureClass


class Lane(StrEnum):
    """How a bio came to be: the Batch API, the synchronous endpoint, or an earlier run."""

    BATCH = "batch"
    DIRECT = "direct"
    EARLIER = "earlier"


class Endpoint(StrEnum):
    """The endpoints whose lines we can render and read."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"


class JobVersion(NamedTuple):
    """What is asked, whole: everything of a line but the artist. Two equal versions render equal lines."""

    name: str
    model: str
    endpoint: Endpoint
    max_output_tokens: int
    system: str
    template: str
    schema: Mapping[str, object]
    schema_name: str


class TokenUsage(NamedTuple):
    """Tokens that one execution used."""

    input: int = 0
    cached: int = 0
    output: int = 0


class ShardLimits(NamedTuple):
    """How large a shard may become: whichever bound is reached first."""

    lines: int
    bytes: int
    tokens: int


class Failure(NamedTuple):
    """Why a line has no bio."""

    failure: FailureClass
    code: str
    message: str


class LineResult(NamedTuple):
    """One line of a result file, read. `custom_id` is "" where it has none; exactly one of text, failure is set."""

    custom_id: str
    text: str | None = None
    failure: Failure | None = None
    status: int | None = None
    model: str = ""
    finish_reason: str = ""
    usage: TokenUsage = TokenUsage()
    completed_at: float | None = None


class WrittenShard(NamedTuple):
    """A shard file in place: what the state records of it."""

    shard: int
    priority: int
    lines: int
    tokens: int
    bytes: int
    sha256: str
