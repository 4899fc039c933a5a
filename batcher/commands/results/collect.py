"""`batcher collect`: write the bios, and what has none, to files."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from batcher.collect.collect import CollectResult, check_targets, collect_bios, load_table_paths
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.session import Session
from batcher.commands.planning.plan import configured_tables
from batcher.errors import StateError, compute_exit_code
from batcher.nouns import current_nouns

if TYPE_CHECKING:
    from batcher.contracts.results import CollectAnswer

JSON_FIELDS = (
    "bios", "failed", "dead", "held", "open", "skipped", "kept", "notes", "redone_dead", "redone_held", "redone_open",
)  # fmt: skip
"""The fields of a CollectResult that --json prints, in its order."""


def protected_tables(session: Session) -> list[Path]:
    """Return the tables that were planned, and those that the settings name: no output may replace them."""
    found = [path for path in configured_tables(session) if path is not None]
    with suppress(StateError):
        found += load_table_paths(session.store)
    return found


def run_collect(
    session: Session, out: Path, failed: Path | None, only_new: bool, overwrite: bool
) -> "CommandAnswer[CollectAnswer]":
    """Write the bios. Work that is not complete is not refused, but reported."""
    check_targets(out, failed, protected_tables(session))
    return collect_to_files(session, out, failed, only_new, overwrite)


def collect_to_files(
    session: Session, out: Path, failed: Path | None, only_new: bool, overwrite: bool
) -> "CommandAnswer[CollectAnswer]":
    """Write the bios to `out`, and the artists without one to `failed`; the targets were checked."""
    with session.display.show_progress("writing"):
        collected = collect_bios(session.store, session.load_job(), out, failed, only_new, overwrite)
    states = {
        "ready": collected.open + collected.redone_open,
        "held": collected.held + collected.redone_held,
        "dead": collected.dead + collected.redone_dead,
    }
    code = compute_exit_code(states)

    def describe() -> "CollectAnswer":
        from batcher.contracts.results import CollectAnswer

        fields = {name: getattr(collected, name) for name in JSON_FIELDS}
        bios = [] if collected.kept else [{"path": str(out), "rows": collected.bios}]
        rest = [{"path": str(failed), "rows": collected.failed}] if failed is not None else []
        return CollectAnswer.model_validate({**fields, "files": bios + rest})

    return CommandAnswer(lambda: _draw_collection(collected, out, failed), describe, code)


def _draw_collection(collected: CollectResult, out: Path, failed: Path | None) -> Text:
    nouns = current_nouns()
    lines = [] if collected.kept else [f"{nouns.count_answers(collected.bios)} written to {out}."]
    lines += [f"{note[:1].upper()}{note[1:]}." for note in collected.notes]
    if failed is not None:
        lines.append(f"{nouns.count_rows(collected.failed)} without {nouns.an_answer} written to {failed}.")
    missing = _describe_counts(
        (collected.open, "still open"),
        (collected.held, "held"),
        (collected.dead, "dead"),
        (collected.skipped, "skipped row" if collected.skipped == 1 else "skipped rows"),
    )
    if missing:
        lines.append(f"Not among the {nouns.answers}: {missing}.")
    redone = _describe_counts(
        (collected.redone_open, "still open"), (collected.redone_held, "held"), (collected.redone_dead, "dead")
    )
    if redone:
        lines.append(f"Asked for again, and here with the earlier {nouns.answer}: {redone}.")
    return Text("\n".join(lines))


def _describe_counts(*counts: tuple[int, str]) -> str:
    """Return the counts that are not 0, each with what it counts."""
    return ", ".join(f"{count:,} {what}" for count, what in counts if count)
