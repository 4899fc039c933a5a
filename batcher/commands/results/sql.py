"""`sql`: questions to the documented views over the state, and what the views are."""

from typing import TYPE_CHECKING, NamedTuple

from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.session import Session
from batcher.errors import InputError
from batcher.state.reports.query import MOST_ROWS, run_query
from batcher.state.reports.views import VIEWS, ViewDescription, describe_views, read_view_script
from batcher.views.query import ResultTable, draw_columns, draw_views, to_plain, write_csv
from batcher.views.sheet import format_count

if TYPE_CHECKING:
    from rich.console import RenderableType

    from batcher.contracts.results import SqlAnswer, ViewsAnswer

ROWS_DRAWN = 1_000
"""Rows of a table on a terminal where --limit does not say."""


class QueryWish(NamedTuple):
    """What is asked of the state. Nothing: which views there are."""

    statement: str | None = None
    described: str | None = None
    """A view whose columns are asked for."""
    schema: bool = False
    """The statements that make the views in a copy of the state file."""
    csv: bool = False
    limit: int | None = None
    """Rows at most."""


def run_sql(session: Session, wish: QueryWish) -> "CommandAnswer[SqlAnswer | ViewsAnswer]":
    """Return the answer to a question, or what may be asked.

    Raises InputError for a statement that does more than read, or is wrong, and for a view that does not exist.
    """
    if sum((wish.statement is not None, wish.described is not None, wish.schema)) > 1:
        raise InputError("a statement, --describe and --schema are three questions; ask one of them")
    if wish.csv and (session.json or wish.statement is None):
        raise InputError("--csv writes the answer to a statement, and not beside --json")
    if wish.schema and session.json:
        raise InputError("--schema writes SQL, and nothing as JSON")
    if wish.statement is None:
        return _describe_views(wish)
    return ask_state(session, wish.statement, wish.limit, wish.csv)


def ask_state(
    session: Session, statement: str, limit: int | None = None, csv: bool = False
) -> "CommandAnswer[SqlAnswer]":
    """Return the answer to a statement. Raises InputError for one that does more than read, or is wrong."""
    most = limit or (MOST_ROWS if csv or session.json else ROWS_DRAWN)
    result = run_query(session.store, statement, min(most, MOST_ROWS))
    if csv and result.is_cut:
        count = format_count(len(result.rows), "row")
        session.display.print_line(f"the first {count}; --limit takes more, up to {MOST_ROWS:,}")

    def describe() -> "SqlAnswer":
        from batcher.contracts.results import SqlAnswer

        rows = [[to_plain(value) for value in row] for row in result.rows]
        return SqlAnswer.model_validate({**result._asdict(), "rows": rows})

    return CommandAnswer(lambda: write_csv(result) if csv else ResultTable(result), describe)


def _describe_views(wish: QueryWish) -> "CommandAnswer[SqlAnswer | ViewsAnswer]":
    """Return one view with its columns, all views, or the statements that make them.

    Raises InputError for a view that does not exist.
    """
    if wish.described not in {None, *VIEWS}:
        raise InputError(f"there is no view {wish.described!r}; there are {', '.join(VIEWS)}")

    def find_views() -> list[ViewDescription]:
        return [view for view in describe_views() if wish.described in {None, view.name}]

    def draw() -> "RenderableType":
        if wish.schema:
            return read_view_script()
        return draw_views(find_views()) if wish.described is None else draw_columns(*find_views())

    def describe() -> "ViewsAnswer":
        from batcher.contracts.results import ViewsAnswer

        return ViewsAnswer.model_validate({"views": find_views()})

    return CommandAnswer(draw, describe)
