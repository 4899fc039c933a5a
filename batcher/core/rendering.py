"""Rendering lines and cutting shards: pure functions of a chunk of rows, so that anything can map them.

Values of the input are data. They are put into the prompt by name, in one pass, and never read as a template.
"""

import hashlib
import string
from collections.abc import Mapping

import orjson

from batcher.core.model import Endpoint, JobVersion
from batcher.errors import JobError

MESSAGE_TOKENS = 3
"""Tokens of each message beside its role and content, and of the answer's start."""

_SAFE = frozenset(string.ascii_letters + string.digits + "._:-")
_LONGEST_ID = 200


def make_custom_id(artist_id: str) -> str:
    """The line's id: the artist_id, readable, with everything unusual percent-escaped. It never changes.

    Ids that would pass 200 characters keep their head and end in a digest of the whole.
    """
    if len(artist_id) <= _LONGEST_ID and _SAFE.issuperset(artist_id):
        return artist_id
    escaped = "".join(c if c in _SAFE else "".join(f"%{b:02X}" for b in c.encode()) for c in artist_id)
    if len(escaped) <= _LONGEST_ID:
        return escaped
    digest = hashlib.sha256(artist_id.encode()).hexdigest()[:16]
    return f"{escaped[: _LONGEST_ID - 17]}~{digest}"


def parse_placeholders(template: str) -> list[str]:
    """The names between braces in a user template. Raises JobError for anything but plain names."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise JobError(f"user.md: {error}; write {{{{ and }}}} for braces that are meant as such") from error
    names = []
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            written = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise JobError(f"user.md: {{{written}}} is not a plain name; use {{name}} with a key of prompt_values")
        names.append(name)
    return names


class LineRenderer:
    """Renders the lines of one job version: constant bytes around the artist's own text."""

    def __init__(self, version: JobVersion) -> None:
        self.version = version
        self._names = parse_placeholders(version.template)
        marker = _unused_marker(version)
        whole = orjson.dumps(
            {
                "custom_id": "\0id\0",
                "method": "POST",
                "url": version.endpoint,
                "body": build_request_body(version, marker),
            }
        )
        head, rest = whole.split(orjson.dumps("\0id\0"), 1)
        middle, tail = rest.split(orjson.dumps(marker))
        self._head, self._middle, self._tail = head, middle, tail + b"\n"
        constant = b"\n".join((self._head, self._middle, self._tail))
        self._digest = hashlib.blake2b(constant, digest_size=16).digest()
        self.shared = len(constant) - 3
        """By how many bytes a line is longer than its own part."""

    def render_user_text(self, values: Mapping[str, str]) -> str:
        """The artist's part of the prompt. Raises JobError when the job gives no value for a placeholder."""
        try:
            return self.version.template.format_map(values)
        except KeyError as error:
            raise JobError(f"user.md names {{{error.args[0]}}}, which prompt_values does not give") from error

    def encode_own_part(self, line_id: str, user_text: str) -> bytes:
        """What a line does not share with the others: its id and the artist's text, as JSON, a newline between them.

        Raises TypeError for half of a surrogate pair.
        """
        return orjson.dumps(line_id) + b"\n" + orjson.dumps(user_text)

    def line_pieces(self, own: bytes) -> tuple[bytes, ...]:
        """One JSON line, newline included, in pieces: most of it stands in every line and need not be copied."""
        line_id, _, text = own.partition(b"\n")
        return self._head, line_id, self._middle, text, self._tail

    def render_line(self, own: bytes) -> bytes:
        """One JSON line, newline included."""
        return b"".join(self.line_pieces(own))

    def line_size(self, own: bytes) -> int:
        """Bytes of the line."""
        return self.shared + len(own)

    def hash_line(self, own: bytes) -> int:
        """64 bits that identify the line: what was sent can be shown to be what is rendered again.

        What all lines share is in it by a digest, made once: hashing it would be nine tenths of the work.
        """
        return hash_line_bytes(self._digest + own)

    def constant_texts(self) -> list[str]:
        """The texts that every line repeats, for the token counter: system prompt and schema as compact JSON."""
        return [self.version.system, orjson.dumps(self.version.schema).decode()]


def _unused_marker(version: JobVersion) -> str:
    """A text that the version itself holds nowhere: it keeps the place of the artist's own."""
    constant, marker = orjson.dumps(build_request_body(version, "")), "user"
    while orjson.dumps(marker) in constant:
        marker += "_"
    return marker


def build_request_body(version: JobVersion, user_text: str) -> dict[str, object]:
    """The request body of one line, for the version's endpoint."""
    messages = [{"role": "system", "content": version.system}, {"role": "user", "content": user_text}]
    schema = {"name": version.schema_name, "strict": True, "schema": version.schema}
    if version.endpoint is Endpoint.CHAT:
        return {
            "model": version.model,
            "messages": messages,
            "max_completion_tokens": version.max_output_tokens,
            "response_format": {"type": "json_schema", "json_schema": schema},
        }
    return {
        "model": version.model,
        "input": messages,
        "max_output_tokens": version.max_output_tokens,
        "text": {"format": {"type": "json_schema", **schema}},
    }


def overhead_tokens() -> int:
    """Tokens of a two-message chat beside its contents: 3 a message, 1 a role, 3 for the answer's start."""
    return 2 * (MESSAGE_TOKENS + 1) + MESSAGE_TOKENS


def hash_line_bytes(data: bytes) -> int:
    """64 bits that identify a line by these bytes."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
