"""The endpoints side by side: how a request of each is built, what an answer is, and where it is read."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from batcher.core.endpoints import chat, embeddings, moderations, responses
from batcher.core.endpoints.values import Json
from batcher.core.model import Endpoint, JobVersion, LineResult


class AnswerKind(StrEnum):
    """What an answer is."""

    WORDS = "words"
    """What a model writes: the fields of an output model, or plain text."""
    VECTOR = "vector"
    """A list of numbers."""
    FLAGS = "flags"
    """A judgement by categories."""


class EndpointForm(NamedTuple):
    """What an endpoint's requests and answers are."""

    answer: AnswerKind
    build_body: Callable[[JobVersion, str], dict[str, object]]
    """Returns the body of a request of a version, with this text, or these messages, of the line's own."""
    parse_body: Callable[[str, Json], LineResult]
    """Returns the result of a line with this custom_id in the body of an answer with status 200."""
    read_text: Callable[[Json], str]
    """Returns all that the body of an answer says, as text."""
    encoding: str = "o200k_base"
    """The tokenizer's name of the encoding by which the text of a request is counted."""


FORMS: Mapping[Endpoint, EndpointForm] = MappingProxyType(
    {
        Endpoint.CHAT: EndpointForm(AnswerKind.WORDS, chat.build_body, chat.parse_body, chat.read_text),
        Endpoint.RESPONSES: EndpointForm(
            AnswerKind.WORDS, responses.build_body, responses.parse_body, responses.read_text
        ),
        # tiktoken, model.py: the encoding of OpenAI's models for embeddings
        Endpoint.EMBEDDINGS: EndpointForm(
            AnswerKind.VECTOR, embeddings.build_body, embeddings.parse_body, embeddings.read_text, "cl100k_base"
        ),
        Endpoint.MODERATIONS: EndpointForm(
            AnswerKind.FLAGS, moderations.build_body, moderations.parse_body, moderations.read_text
        ),
    }
)

_PLAIN_ANSWERS: Mapping[AnswerKind, str] = MappingProxyType(
    {
        AnswerKind.WORDS: "plain text",
        AnswerKind.VECTOR: "a vector",
        AnswerKind.FLAGS: "flags and scores by category",
    }
)


def describe_plain_answer(endpoint: Endpoint) -> str:
    """Return what an answer is for which a request has no schema."""
    return _PLAIN_ANSWERS[FORMS[endpoint].answer]
