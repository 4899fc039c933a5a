"""`status` and `show`: looks at the state."""

import time
from contextlib import suppress
from functools import partial
from typing import Any

from rich.console import Console, RenderableType

from batcher.cli.session import Session
from batcher.errors import InputError
from batcher.state.snapshot import load_saved_prices
from batcher.state.status import read_artist, read_status, to_json
from batcher.views.status import draw_artist, draw_status

WATCH_S = 2.0


def run_status(session: Session) -> tuple[RenderableType, dict[str, Any]]:
    """The job at this moment."""
    with session.store.read_transaction() as tx:
        status = read_status(tx, session.config, partial(load_saved_prices, tx))
    return draw_status(status), to_json(status)


def watch_status(session: Session) -> None:
    """The job again and again, until Ctrl-C."""
    from rich.live import Live  # noqa: PLC0415 - one look needs none of it

    drawn, _ = run_status(session)
    with suppress(KeyboardInterrupt), Live(drawn, console=Console(), auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_S)
            drawn, _ = run_status(session)
            live.update(drawn, refresh=True)


def run_show(session: Session, artist_id: str) -> tuple[RenderableType, dict[str, Any]]:
    """One artist's history. Raises InputError with similar artists for an unknown id."""
    with session.store.read_transaction() as tx:
        artist = read_artist(tx, artist_id, partial(load_saved_prices, tx))
        similar = tx.fetch_all("similar_artists", text=artist_id) if artist is None else []
    if artist is None:
        hint = "; similar: " + ", ".join(f"{i} ({name})" for i, name in similar) if similar else ""
        raise InputError(f"the plan has no artist {artist_id!r}{hint}")
    return draw_artist(artist), artist
