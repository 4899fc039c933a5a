"""The words of the sandbox: a placeholder text made of the facts in the user's message, and of nothing else.

The message usually is a line "Artist: Pablo Picasso" and then "nationality: Spanish", "born: 1881" and so on, with or
without bullets. The text names the artist, and holds no number that the message doesn't hold. However few the facts
are, it is as long as a sentence or two, so that it passes a job's own check of the length.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MAX_FACTS = 10
_MAX_VALUE = 120  # characters of one fact
_USUAL = 80  # characters of a text whose length no schema sets
_PADDING = "It stands in for a real answer, and says only what the request said."
_PAIR = re.compile(r"^\s*(?:[-*+\u2022\u2023\u25e6\u2013]\s+)?([^\W\d][\w .()/-]{0,40}?)\s*:\s*(\S.*)$")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Facts:
    """What the last user message says; `pairs` in its order, without the name."""

    name: str
    pairs: tuple[tuple[str, str], ...]
    message: str

    def find_numbers(self) -> list[float]:
        """Return the numbers of the message, in its order."""
        return [float(found) for found in _NUMBER.findall(self.message)]

    def find_value(self, key: str) -> str | None:
        """Return the value that the message gives under this very key."""
        pairs = {_normalize_key(name): value for name, value in reversed(self.pairs)}
        return pairs.get(_normalize_key(key))


def _normalize_key(key: str) -> str:
    return key.lower().replace(" ", "_")


def extract_content_text(content: object) -> str:
    """Return the text of a message's content: a string, or a list of parts with a `text`."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "\n".join(part for part in parts if isinstance(part, str))


def last_user_text(messages: list[object]) -> str:
    """Return the text of the last message of role user."""
    for message in reversed(messages):
        if isinstance(message, Mapping) and message.get("role") == "user":
            return extract_content_text(message.get("content"))
    return ""


def parse_message_facts(message: str) -> Facts:
    """Return the facts of a message; its first pair, or else its first line, is the name."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    pairs = [(found[1].strip(), found[2].strip()) for found in map(_PAIR.match, lines[:200]) if found]
    if not pairs:
        return Facts(truncate_at_word(lines[0], _MAX_VALUE) if lines else "an empty message", (), message)
    return Facts(pairs[0][1], tuple(pairs[1:]), message)


def truncate_at_word(text: str, limit: int) -> str:
    """Cut at a word's end, so that no number loses its digits; a single word longer than that loses its end."""
    if len(text) <= limit:
        return text
    head = text[: limit + 1]
    cut = head.rfind(" ")
    return head[:cut].rstrip(" ;,:") if cut > 0 else text[:limit].rstrip("0123456789") or "-"[:limit]


def build_placeholder_text(facts: Facts, least: int = 0, most: int | None = None) -> str:
    """Return the placeholder text, between `least` and `most` characters long."""
    sentence = f"Sandbox text on {facts.name}"
    if facts.pairs:
        shown = (f"{key} {truncate_at_word(value, _MAX_VALUE)}" for key, value in facts.pairs[:_MAX_FACTS])
        sentence += ": " + "; ".join(shown)
    sentence += "."
    text = _pad_text(sentence, max(least, _USUAL))
    if most is not None and len(text) > most:  # padding up to the usual length is left out before anything is cut
        text = _pad_text(sentence, least)
    return text if most is None or len(text) <= most else _fit_text(facts.name, text, least, most)


def _pad_text(text: str, least: int) -> str:
    while len(text) < least:
        text += " " + _PADDING
    return text


def _fit_text(name: str, text: str, least: int, most: int) -> str:
    """Cut the text down; the name alone where even its opening doesn't fit."""
    cut = truncate_at_word(text, most)
    if name not in cut:
        cut = truncate_at_word(name, most)
    return cut.ljust(least, ".")
