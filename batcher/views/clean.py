"""Text that a terminal shows and does not obey: names, answers and refusals are other people's words."""

import re

_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal acts on (the controls but tab and line feed, and those that turn the direction of the
text), and halves of surrogates, which no terminal can be sent."""
_OBEYED_IN_JSON = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Those of them that JSON leaves as they are."""


def clean_text(text: str) -> str:
    """Return a text with a replacement character for each one that a terminal would act on."""
    return _OBEYED.sub("\N{REPLACEMENT CHARACTER}", text)


def escape_line(text: str) -> str:
    """Return a text on one line, with escapes for what is not printable."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def clean_json(text: str) -> str:
    """Return JSON with the same meaning, in which what a terminal would act on is escaped."""
    return _OBEYED_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
