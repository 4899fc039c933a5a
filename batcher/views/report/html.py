"""HTML of named values: every text is escaped, and a template is filled in one pass. Pure."""

import re
from collections.abc import Iterable, Mapping
from html import escape

from batcher.views.clean import clean_text

_COMMAND = re.compile(r"`([^`]+)`")
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def text_to_html(text: object) -> str:
    """Return any text as HTML that shows it and obeys nothing in it."""
    return escape(clean_text(str(text)), quote=True)


def sentence_to_html(sentence: str) -> str:
    """Return a sentence as HTML, with the commands in it, between backticks, as code."""
    return _COMMAND.sub(r"<code>\1</code>", text_to_html(sentence))


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Return a template with the values in place of their names, {{name}}.

    What a value holds is not read as a template again. Raises KeyError for a name without a value.
    """
    return _PLACE.sub(lambda place: values[place[1]], template)


def build_element(tag: str, content: str, **attributes: str) -> str:
    """Return an element around content that is HTML. An attribute `class_` is the attribute `class`."""
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value, quote=True)}"' for name, value in attributes.items()
    )
    return f"<{tag}{named}>{content}</{tag}>"


Cell = tuple[str, str]
"""The content of a cell as HTML, and its class in the style ("" for none)."""


def build_table(columns: Iterable[Cell], rows: Iterable[Iterable[Cell]], class_: str) -> str:
    """Return a table of a class of the style."""
    head = "".join(_build_cell("th", cell) for cell in columns)
    body = "\n".join(f"<tr>{''.join(_build_cell('td', cell) for cell in row)}</tr>" for row in rows)
    return build_element("table", f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>", class_=class_)


def _build_cell(tag: str, cell: Cell) -> str:
    content, kind = cell
    attributes = {"class_": kind} if kind else {}
    return build_element(tag, content, **attributes)
