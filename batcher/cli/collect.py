"""`batcher collect`: write the bios, and what has none, to files."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from batcher.cli.plan import configured_options
from batcher.cli.session import Session
from batcher.collect.collect import CollectResult, check_targets, collect_bios, load_table_paths
from batcher.errors import ExitCode, StateError, compute_exit_code

COLLECTED = ("bios", "failed", "dead", "held", "open", "skipped", "kept", "notes")


def protected_tables(session: Session) -> list[Path]:
    """The tables that were read, and those that would be: no output may replace them."""
    options = configured_options(session)
    found = [path for path in (options.input, options.done) if path is not None]
    with suppress(StateError):
        found += load_table_paths(session.store)
    return found


def run_collect(
    session: Session, out: Path, failed: Path | None, only_new: bool
) -> tuple[RenderableType, dict[str, Any], ExitCode]:
    """Writes the bios; incomplete work is not refused, it is said."""
    check_targets(out, failed, protected_tables(session))
    with session.display.show_progress("writing"):
        collected = collect_bios(session.store, session.load_job(), out, failed, only_new)
    code = compute_exit_code({"ready": collected.open, "held": collected.held, "dead": collected.dead})
    return format_collection_report(collected, out, failed), collected_to_json(collected), code


def format_collection_report(collected: CollectResult, out: Path, failed: Path | None) -> Text:
    lines = [] if collected.kept else [f"{collected.bios:,} bios written to {out}."]
    lines += [f"{note[:1].upper()}{note[1:]}." for note in collected.notes]
    if failed is not None:
        lines.append(f"{collected.failed:,} artists without a bio written to {failed}.")
    missing = [
        f"{count:,} {what}"
        for count, what in (
            (collected.open, "still open"),
            (collected.held, "held"),
            (collected.dead, "dead"),
            (collected.skipped, "skipped rows"),
        )
        if count
    ]
    if missing:
        lines.append(f"Not among the bios: {', '.join(missing)}.")
    return Text("\n".join(lines))


def collected_to_json(collected: CollectResult) -> dict[str, Any]:
    return {name: getattr(collected, name) for name in COLLECTED}
