"""Lists in pages: as OpenAI cuts them (`limit`, `after`, `has_more`), and as the dialects of other servers do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from batcher.sandbox.api.batches import parse_list_limit
from batcher.sandbox.base.errors import ApiError
from batcher.sandbox.base.settings import Dialect
from batcher.sandbox.web.messages import Request

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Paging:
    """How the list of one kind of object is cut. `missing` makes the error for a start that isn't in the list."""

    default: int
    most: int
    missing: Callable[[str], ApiError]
    kind: str = ""  # as `largest_limit` names it
    dialect: Dialect = field(default_factory=Dialect)

    def cut_page(self, request: Request, items: Sequence[_Item], ids: Sequence[str]) -> tuple[Sequence[_Item], bool]:
        """Return the page that is asked for, and whether more follow."""
        if self.dialect.paging == "one_page":
            return items, False
        if self.dialect.paging == "cursor":
            after, limit = request.query_parameter("cursor"), self.dialect.page_size
        else:
            after, limit = request.query_parameter("after"), self._parse_limit(request.query_parameter("limit"))
        rest = items_after(items, ids, after, self.missing(after or ""))
        return rest[:limit], len(rest) > limit

    def _parse_limit(self, text: str | None) -> int:
        largest = self.dialect.largest_limit.get(self.kind)
        if largest is not None and text is not None and text.isdigit() and int(text) > largest:
            raise _limit_error(text, largest)
        return parse_list_limit(text, self.default if largest is None else min(self.default, largest), self.most)

    def is_first_page(self, request: Request) -> bool:
        """Return whether a request asks for the head of the list."""
        return request.query_parameter("cursor" if self.dialect.paging == "cursor" else "after") is None

    def describe_page(
        self, page: Sequence[dict[str, object]], has_more: bool, odd: Sequence[dict[str, object]] = ()
    ) -> dict[str, object]:
        """Return the list object; `odd` are objects that lead it and are no place to go on from."""
        data = [*odd, *page]
        last = page[-1]["id"] if page else None
        if self.dialect.paging == "cursor":
            return {"object": "list", "data": data, "paging": {"next_cursor": last if has_more else None}}
        found = {"object": "list", "data": data, "first_id": page[0]["id"] if page else None, "last_id": last}
        return found | ({"has_more": has_more} if self.dialect.paging == "after" else {})


def items_after(items: Sequence[_Item], ids: Sequence[str], after: str | None, missing: ApiError) -> Sequence[_Item]:
    """Return the items that follow the one named; raise `missing` where it isn't among them."""
    if after is None:
        return items
    if after not in ids:
        raise missing
    return items[ids.index(after) + 1 :]


def _limit_error(text: str, largest: int) -> ApiError:
    """Return the refusal of a `limit` in the form of a server that validates with pydantic."""
    detail = {
        "type": "less_than_equal",
        "loc": ["query", "limit"],
        "msg": f"Input should be less than or equal to {largest}",
        "input": text,
    }
    return ApiError(422, f"limit: {detail['msg']}", param="limit", bare={"detail": [detail]})
