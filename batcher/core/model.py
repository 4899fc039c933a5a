"""The values that travel between the layers. Frozen, and documented with their units.

Times are seconds since the epoch (float, UTC). Tokens are input tokens unless the name says otherwise.

They are NamedTuples rather than dataclasses, as is everything that `status` loads: a NamedTuple is defined six times
faster than a frozen dataclass, and a short command defines about fifty; it is created five times faster, and some are
created for each line.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from batcher.core.failures import FailureClass


class Lane(StrEnum):
    """The origin of a bio: the Batch API, the synchronous endpoint, or an earlier run."""

    BATCH = "batch"
    DIRECT = "direct"
    EARLIER = "earlier"


class Endpoint(StrEnum):
    """The endpoints whose lines we can render and read."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"
    EMBEDDINGS = "/v1/embeddings"
    MODERATIONS = "/v1/moderations"

    @property
    def takes_prompt(self) -> bool:
        """Whether a request is a prompt, which a model answers in words. Else it is one text, answered in numbers."""
        return self in {Endpoint.CHAT, Endpoint.RESPONSES}


TEXT_FIELD = "text"
"""The only field of an answer in plain text: the state keeps `{"text": "..."}`, so that all bios are JSON objects."""


class CacheMode(StrEnum):
    """What a request says of the service's prompt cache."""

    UNSET = ""
    """Nothing: the service decides what it writes."""
    EXPLICIT = "explicit"
    """That nothing is written, as it has no breakpoint."""
    BREAKPOINT = "breakpoint"
    """That what all lines have in common, up to the end of the system message, is written and read."""


MESSAGE_TOKENS = 3
"""Tokens of each message in addition to its role and content, and also of the answer's start."""

EMBEDDING_FIELD = "embedding"
"""The only field of an answer that is a vector: the state keeps `{"embedding": [...]}`."""

Parameters = Mapping[str, object]
"""What a request asks of the model beside the prompt: values of JSON, by the names of `[model.parameters]`."""
NO_PARAMETERS: Parameters = MappingProxyType({})


def find_effort(parameters: Parameters) -> str | None:
    """Return the reasoning effort that is asked for, by its name in either endpoint; None: the model's own."""
    reasoning = parameters.get("reasoning")
    effort = parameters.get("reasoning_effort") or (reasoning.get("effort") if isinstance(reasoning, Mapping) else None)
    return effort if isinstance(effort, str) else None


class JobVersion(NamedTuple):
    """Everything that a line consists of, except the artist. Two equal versions render equal lines."""

    name: str
    model: str
    endpoint: Endpoint
    max_output_tokens: int
    system: str
    template: str
    schema: Mapping[str, object]
    """The JSON schema of an answer; empty where an answer is plain text."""
    schema_name: str
    parameters: Parameters = NO_PARAMETERS
    cache: CacheMode = CacheMode.UNSET

    @property
    def effort(self) -> str | None:
        """The reasoning effort that is asked for; None: the model's own."""
        return find_effort(self.parameters)


class RowColumns(NamedTuple):
    """The fields of a row that hold its id, its name and its priority; output columns have the same names."""

    id: str = "artist_id"
    name: str | None = "artist_name"
    """None: a row has no name, and its id stands in."""
    priority: str | None = "priority"
    """None: all rows have the same priority."""

    def list_names(self) -> list[str]:
        """Return those that there are, in the order of the output columns."""
        return [column for column in self if column is not None]


ARTIST_COLUMNS = RowColumns()
"""Those of a job whose rows are named Artist."""


class TokenUsage(NamedTuple):
    """Tokens that one execution used."""

    input: int = 0
    cached: int = 0
    """Of the input, read from the service's cache."""
    output: int = 0
    written: int = 0
    """Of the input, written to the service's cache."""
    reasoning: int = 0
    """Of the output, thought before the answer."""


class ShardLimits(NamedTuple):
    """The largest size of a shard; the bound that is reached first counts."""

    lines: int
    bytes: int
    tokens: int


class Failure(NamedTuple):
    """Why a line has no bio."""

    failure: FailureClass
    code: str
    message: str


class LineResult(NamedTuple):
    """One line of a result file, parsed.

    `custom_id` is "" where it has none; exactly one of `text` and `failure` is set.
    """

    custom_id: str
    text: str | None = None
    failure: Failure | None = None
    status: int | None = None
    model: str = ""
    finish_reason: str = ""
    usage: TokenUsage = TokenUsage()
    completed_at: float | None = None


class WrittenShard(NamedTuple):
    """A shard file that was written: what the state records of it."""

    shard: int
    priority: int
    lines: int
    tokens: int
    bytes: int
    sha256: str
    longest: int
    """Counted tokens of its longest line."""
