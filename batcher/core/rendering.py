"""Rendering lines: pure functions of a row, so that any pool of workers can map them.

Values of the input are data. They are put into the prompt by name, in one pass, and never treated as a template.
"""

import hashlib
import string
from collections.abc import Mapping
from zlib import crc32

import orjson

from batcher.core.cache.keys import KEYS
from batcher.core.endpoints.table import FORMS
from batcher.core.model import MESSAGE_TOKENS, CacheMode, JobVersion
from batcher.errors import JobError

_SAFE = frozenset(string.ascii_letters + string.digits + "._:-")
_LONGEST_ID = 200


def make_custom_id(artist_id: str) -> str:
    """Return the line's id: the artist_id, readable, with unusual characters percent-escaped. It never changes.

    An id that would be longer than 200 characters keeps its beginning, and ends in a digest of the artist_id.
    """
    if len(artist_id) <= _LONGEST_ID and _SAFE.issuperset(artist_id):
        return artist_id
    escaped = "".join(c if c in _SAFE else "".join(f"%{b:02X}" for b in c.encode()) for c in artist_id)
    if len(escaped) <= _LONGEST_ID:
        return escaped
    digest = hashlib.sha256(artist_id.encode()).hexdigest()[:16]
    return f"{escaped[: _LONGEST_ID - 17]}~{digest}"


def parse_placeholders(template: str) -> list[str]:
    """Return the names between braces in a user template. Raises JobError for anything but plain names."""
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
            raise JobError(
                f"user.md: {{{written}}} is not a plain name; use {{name}} with a key of prompt_values, "
                "or write {{ and }} for braces that are meant as such"
            )
        names.append(name)
    return names


class LineRenderer:
    """Renders the lines of one job version: constant bytes around the artist's own text."""

    def __init__(self, version: JobVersion) -> None:
        self.version = version
        self.has_messages = not version.template
        """Whether a line's own part is a list of messages, which `messages(row)` of job.py gives, and no text."""
        self._names = parse_placeholders(version.template)
        marker = _unused_marker(version)
        line = orjson.dumps(
            {
                "custom_id": "\0id\0",
                "method": "POST",
                "url": version.endpoint,
                "body": build_request_body(version, marker),
            }
        )
        head, rest = line.split(orjson.dumps("\0id\0"), 1)
        middle, tail = rest.split(orjson.dumps(marker))
        self._head, self._middle = head, middle
        self._tails = _spread_over_keys(tail + b"\n") if version.cache is CacheMode.BREAKPOINT else (tail + b"\n",)
        constant = b"\n".join((self._head, self._middle, self._tails[0]))
        self._digest = hashlib.blake2b(constant, digest_size=16).digest()
        self.constant_bytes = len(constant) - 3
        """Bytes of a line that are not of its own part."""

    def render_user_text(self, values: Mapping[str, str]) -> str:
        """Return the artist's part of the prompt. Raises JobError where the job gives no value for a placeholder."""
        try:
            return self.version.template.format_map(values)
        except KeyError as error:
            raise JobError(f"user.md names {{{error.args[0]}}}, which prompt_values does not give") from error

    def encode_own_part(self, line_id: str, user_text: str) -> bytes:
        """Return the part of a line that no other line shares: its id and the artist's text, as JSON, a newline between
        them. Raises TypeError for half of a surrogate pair.

        user_text: of a version with messages, these as a JSON list.
        """
        if self.has_messages:  # without its brackets, as it may stand behind the system prompt
            return orjson.dumps(line_id) + b"\n" + user_text[1:-1].encode()
        return orjson.dumps(line_id) + b"\n" + orjson.dumps(user_text)

    def line_pieces(self, own: bytes) -> tuple[bytes, ...]:
        """Return one JSON line, newline included, in pieces: most bytes are the same in every line and need no copy."""
        line_id, _, text = own.partition(b"\n")
        tail = self._tails[crc32(line_id) % KEYS] if len(self._tails) > 1 else self._tails[0]
        return self._head, line_id, self._middle, text, tail

    def render_line(self, own: bytes) -> bytes:
        """Return one JSON line, newline included."""
        return b"".join(self.line_pieces(own))

    def line_size(self, own: bytes) -> int:
        """Return the bytes of the line with this own part."""
        return self.constant_bytes + len(own)

    def hash_line(self, own: bytes) -> int:
        """Return 64 bits that identify the line: they show whether a line that is rendered again is what was sent.

        The bytes that all lines share enter by a digest that is made once: hashing them would be 90% of the work.
        """
        return hash_line_bytes(self._digest + own)

    def hash_request(self, user_text: str) -> int:
        """Return 64 bits that identify what a line asks: its bytes without its custom_id and its cache key."""
        return hash_line_bytes(self._digest + user_text.encode())

    def constant_texts(self) -> list[str]:
        """Return the texts that every line repeats, for the token counter: the system prompt, and as compact JSON the
        schema and the tools, which the model reads too, where there are any."""
        tools = [self.version.parameters.get(key) for key in ("tools", "functions")]
        return [self.version.system, *(orjson.dumps(each).decode() for each in (self.version.schema, *tools) if each)]


def _spread_over_keys(tail: bytes) -> tuple[bytes, ...]:
    """Return the ends of lines with each of the version's cache keys, of which `tail` has the first."""
    stem, end = tail[: -len(b'0"}}\n')], b'"}}\n'
    return tuple(stem + b"%x" % number + end for number in range(KEYS))


def _unused_marker(version: JobVersion) -> str:
    """Return a text that the version does not contain: it marks where the artist's text goes."""
    constant, marker = orjson.dumps(build_request_body(version, "")), "user"
    while orjson.dumps(marker) in constant:
        marker += "_"
    return marker


def build_request_body(version: JobVersion, user_text: str) -> dict[str, object]:
    """Return the request body of one line, for the version's endpoint.

    Of a version without a template, whose lines have messages of their own, `user_text` stands in their place. The
    cache key, where there is one, is the first of the version, and the last value of the body.
    """
    return FORMS[version.endpoint].build_body(version, user_text)


def overhead_tokens(messages: int = 2) -> int:
    """Return the tokens of a chat of so many messages without their contents: 3 a message, 1 a role, 3 for the
    answer."""
    return messages * (MESSAGE_TOKENS + 1) + MESSAGE_TOKENS


def hash_line_bytes(data: bytes) -> int:
    """Return 64 bits that identify a line by these bytes."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
