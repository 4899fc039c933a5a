"""What is planned: as the user wishes now, else as the last plan, else as the settings say."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import orjson

from batcher.errors import InputError
from batcher.nouns import current_nouns
from batcher.plan.pilot_draw import PilotWish
from batcher.plan.tables import table_name
from batcher.state import facts
from batcher.state.db.transaction import Transaction


class NamedTables(NamedTuple):
    """The tables that the settings name: the input, and the bios that exist."""

    input: Path
    done: Path | None


class PlanWish(NamedTuple):
    """What the user named on the command line; None and False: nothing."""

    input: Path | None = None
    done: Path | None = None
    limit: int | None = None
    everything: bool = False
    """All artists of the table, though an earlier plan took only some."""
    skip_bad_rows: bool = False


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What is to be planned. limit: the most new artists that are added; None: all."""

    input: Path
    done: Path | None = None
    limit: int | None = None
    skip_bad_rows: bool = False
    replan: bool = False
    dry_run: bool = False
    reuse: Path | None = None
    """The folder of another job's state, whose answers this plan takes over."""
    pilot: PilotWish | None = None
    """A sample of the lines that this plan cuts is to be sent first."""
    settings: NamedTables | None = None
    """What the settings named when these options were chosen; None: that is not known."""

    def to_json(self, home: Path) -> str:
        """Return the options that the next plan repeats, as the JSON that the state keeps.

        home: the state's folder; tables beside it are named relative to it, so that the whole project may move.
        """
        kept = {
            "input": table_name(self.input, home),
            "done": table_name(self.done, home) if self.done else "",
            "limit": self.limit,
            "skip_bad_rows": self.skip_bad_rows,
        }
        if self.settings is not None:
            kept["settings_input"] = table_name(self.settings.input, home)
            kept["settings_done"] = table_name(self.settings.done, home) if self.settings.done else ""
        return orjson.dumps(kept).decode()


def load_plan_options(tx: Transaction, home: Path) -> PlanOptions | None:
    """Return the options of the last plan; None where the state has none. home: the state's folder."""
    text = facts.read_plan_options(tx)
    if not text:
        return None
    kept = orjson.loads(text)
    root = home.resolve().parent

    def find_table(name: str) -> Path | None:
        return root / name if name else None

    settings = None
    if "settings_input" in kept:
        settings = NamedTables(root / kept["settings_input"], find_table(kept["settings_done"]))
    return PlanOptions(
        root / kept["input"], find_table(kept["done"]), kept["limit"], kept["skip_bad_rows"], settings=settings
    )


def choose_plan_options(wish: PlanWish, earlier: PlanOptions | None, settings: NamedTables) -> PlanOptions:
    """Return what is to be planned: what the user wishes, else what the last plan did, else what the settings name.

    A table that the settings did not name at the last plan, and name now, is what the user wants now. Where the last
    plan took a part of its table, this one adds no artist of it, unless the wish says how many more.

    Raises InputError for a wish that contradicts itself.
    """
    if wish.limit is not None and wish.everything:
        rows = current_nouns().rows
        raise InputError(f"--limit and --all are both given; --limit takes N more {rows} of the table, --all the rest")
    if earlier is None:
        return PlanOptions(
            wish.input or settings.input, wish.done or settings.done, wish.limit, wish.skip_bad_rows, settings=settings
        )
    before = earlier.settings or settings
    named = earlier.input if is_same_table(before.input, settings.input) else settings.input
    done = earlier.done if is_same_table(before.done, settings.done) else settings.done
    options = PlanOptions(wish.input or named, wish.done or done, wish.limit, wish.skip_bad_rows, settings=settings)
    if not is_same_table(options.input, earlier.input):
        return options
    is_part = earlier.limit is not None and wish.limit is None and not wish.everything
    return replace(
        options, limit=0 if is_part else wish.limit, skip_bad_rows=wish.skip_bad_rows or earlier.skip_bad_rows
    )


def is_same_table(one: Path | None, other: Path | None) -> bool:
    """Return whether two paths name the same file; None is the same as None."""
    return (one and one.resolve()) == (other and other.resolve())
