"""docs/interop.md held against the checks of `make interop`, which writes it: the same partners, versions and texts."""

import re

from tests.docs.pages import table_cell
from tests.interop.checks import CHECKS
from tests.interop.page import HEAD, PAGE, Row, render_page


def rows_of_page() -> list[Row]:
    rows = re.findall(
        r"(?m)^\| (.*) \| (.*) \| (.*) \| (.*) \| (\d{4}-\d\d-\d\d) \|$", PAGE.read_text(encoding="utf-8")
    )
    return [Row(*each) for each in rows]


def test_the_page_has_every_check_with_its_version_and_no_other() -> None:
    wanted = [(each.partner, each.version, table_cell(each.what)) for each in CHECKS]
    assert [row[:3] for row in rows_of_page()] == wanted, "run `make interop`: the page is of other checks"


def test_the_page_is_as_it_is_written() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(rows_of_page())


def test_the_page_counts_what_held_and_what_was_skipped() -> None:
    rows = [Row("a", "1", "x", result, "2026-11-27") for result in ("ok", "ok", "failed: y", "skipped because z")]
    told = render_page(rows)
    assert told.startswith(HEAD) and told.endswith("\n\n2 of 4 ok; skipped because z (a).\n")
    assert "| a | 1 | x | skipped because z | 2026-11-27 |" in told
