"""What a person can do next, in sentences: pure, from the same value that `status --json` prints.

`status`, `doctor`, the live view, the log and what is sent by `[notify]` all say it in these words.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from batcher.core.failures import FailureClass
from batcher.core.lifecycle import count_open_artists
from batcher.nouns import current_nouns
from batcher.state.reports.status import OpenPause, Status
from batcher.views.sheet import format_count, format_time

BILLING = "platform.openai.com > Billing (https://platform.openai.com/settings/organization/billing/overview)"
"""Where credit is bought (OpenAI, settings of an organization, 2026-11)."""
REVOKED = "revoked"
"""The code of a held line whose bio `batcher judge --revoke` has taken."""
CALM_STEPS = frozenset({"unreleased", "collect"})
"""The kinds of next steps that are no trouble: the job has come so far."""


class NextStep(NamedTuple):
    """One thing that waits for a person."""

    kind: str
    """stopped, quota, paused, refused, brake, pilot, perhaps_paid, revoked, held, dead, unreleased or collect."""
    sentence: str
    """What it is and what to do, with full stops."""
    command: str
    """The command to type first; "" where there is something else to do before any."""


def describe_next_steps(status: Status) -> list[NextStep]:
    """Return what waits for a person, what keeps everything back first; empty where nothing does."""
    steps = [
        *_describe_stop(status),
        *_describe_pauses(status),
        *_describe_refusal(status),
        *(NextStep("brake", f"{brake.text[:1].upper()}{brake.text[1:]}.", "batcher answers --refused")
          for brake in status.brakes),
        *_describe_failed_pilot(status),
        *_describe_held_lines(status),
        *_describe_dead_lines(status),
        *_describe_unreleased(status),
    ]  # fmt: skip
    done, nouns = status.states.get("done", 0), current_nouns()
    if done and not count_open_artists(status.states):
        command = f"batcher collect --out {nouns.answers_file}"
        steps.append(NextStep("collect", f"`{command}` writes the {nouns.count_answers(done)}.", command))
    return steps


def _describe_stop(status: Status) -> Iterator[NextStep]:
    if not status.stopped:
        return
    reason = status.stopped.rstrip(".")
    if "model" in reason.lower():
        todo = (
            "`batcher doctor` lists the models that the key can use; set [model] name to one of them, then "
            "`batcher plan --replan` and `batcher poll`."
        )
    else:
        todo = "`batcher doctor` checks key, address and model; `batcher poll` goes on once it is fixed."
    yield NextStep("stopped", f"Stopped: {reason}. {todo}", "batcher doctor")


def _describe_pauses(status: Status) -> Iterator[NextStep]:
    for pause in status.pauses:
        if pause.until is None:
            yield NextStep("paused", f"Paused ({pause.reason}): `batcher resume` goes on.", "batcher resume")
        elif needs_person(pause, status.now):
            said = f' OpenAI says: "{status.quota_said.rstrip(".")}."' if status.quota_said else ""
            sentence = (
                f"No credit is left.{said} Add credit at {BILLING}, then `batcher resume`; "
                f"else it is tried again at {format_time(pause.until)} UTC."
            )
            yield NextStep("quota", sentence, "batcher resume")


def needs_person(pause: OpenPause, now: float) -> bool:
    """Return whether only a person can end a pause: one without an end, or a quota that is used up.

    The service is tried again when the time of that is over; without credit the next pause follows.
    """
    return pause.until is None or (pause.reason == FailureClass.QUOTA and pause.until > now)


def _describe_refusal(status: Status) -> Iterator[NextStep]:
    refusal = status.expectation.refusal
    if refusal:
        yield NextStep("refused", f"{refusal[:1].upper()}{refusal[1:]}.", "")


def _describe_failed_pilot(status: Status) -> Iterator[NextStep]:
    # Where the brake has tripped as well, the remedies stand there.
    if status.pilot is not None and status.pilot.failed and not status.brakes:
        yield NextStep("pilot", f"{status.pilot.text}.", "batcher answers --refused")


def _describe_held_lines(status: Status) -> Iterator[NextStep]:
    held = _count_lost(status, "held")
    unclear = held.pop(FailureClass.MISSING.value, 0)
    if unclear:
        command = "batcher retry --class missing"
        sentence = (
            f"{format_count(unclear, 'line')} may have been paid for and {_be(unclear)} held: `{command}` asks again, "
            "and may pay twice."
        )
        yield NextStep("perhaps_paid", sentence, command)
    revoked = sum(row.artists for row in status.lost if row.state == "held" and row.code == REVOKED)
    held[FailureClass.UNUSABLE.value] -= revoked
    if revoked:
        lines = f"{format_count(revoked, 'line')} {_be(revoked)} held, as the {current_nouns().answer} was revoked"
        yield NextStep("revoked", f"{lines}: `batcher redo` asks again.", "batcher redo")
    others = held.total()
    if others:
        command = "batcher retry --held"
        goes = "brings it back" if others == 1 else "brings them back"
        yield NextStep("held", f"{format_count(others, 'line')} {_be(others)} held: `{command}` {goes}.", command)


def _describe_dead_lines(status: Status) -> Iterator[NextStep]:
    for class_, lines in _count_lost(status, "dead").most_common():
        command = f"batcher retry --class {class_}"
        is_refused = class_ == FailureClass.UNUSABLE
        look = "`batcher answers --refused` shows the answers, " if is_refused else ""
        sentence = f"{format_count(lines, 'line')} {_be(lines)} dead ({class_}): {look}`{command}` asks again."
        yield NextStep("dead", sentence, "batcher answers --refused" if is_refused else command)


def _count_lost(status: Status, state: str) -> Counter[str]:
    """Return the lines in a state by class of failure."""
    lines = Counter[str]()
    for row in status.lost:
        if row.state == state:
            lines[row.class_ or ""] += row.artists
    return lines


def _describe_unreleased(status: Status) -> Iterator[NextStep]:
    planned = sum(row.shards for row in status.shards if row.state == "planned")
    if planned:
        shards = f"{format_count(planned, 'shard')} {_be(planned)} planned and not released"
        yield NextStep("unreleased", f"{shards}; `batcher submit` releases.", "batcher submit")


def _be(number: int) -> str:
    return "is" if number == 1 else "are"
