"""The live view of a job: one screen that always fits. A pure function of the status and of a frame.

Each section says how many rows it wants and how few it needs. They get rows in the order of their importance, and stand
on the screen in the order in which they are read.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from batcher.nouns import current_nouns
from batcher.state.reports.status import Status, UnsettledBatch
from batcher.views.live.counts import count_lines, divide_bar, format_share, is_job_open, sum_lines
from batcher.views.live.frame import Frame
from batcher.views.live.rows import INDENT, fit_text, flatten_text, limit_rows, wrap_text
from batcher.views.live.sentences import (
    WARNING,
    Sentence,
    describe_end,
    describe_money,
    describe_room,
    describe_waits,
)
from batcher.views.moments import localize
from batcher.views.next_steps import CALM_STEPS, describe_next_steps
from batcher.views.sheet import format_count, format_duration

WIDE = 100
"""Columns from which on a row of a batch has a bar of its own."""
BATCH_BAR = 10
"""Cells of the bar of a batch."""


class Section(NamedTuple):
    """A part of the screen."""

    build: Callable[[int], list[Text]]
    """Returns at most this many rows; fewer rows hold less."""
    least: int
    """The fewest rows that are of use; it may have fewer where the screen is very low."""
    rank: int
    """Its importance: those of a low rank get their rows first."""
    spaced: bool = False
    """Whether an empty row stands before it where there is room."""
    greedy: bool = False
    """Whether empty rows are worth more than its rows above `least`."""


def draw_live(status: Status, frame: Frame) -> RenderableType:
    """Return the screen: at most `frame.height` rows of at most `frame.width` cells."""
    return Group(*build_rows(status, frame))


def build_rows(status: Status, frame: Frame) -> list[Text]:
    """Return the rows of the screen."""
    sections = [
        Section(lambda most: _build_head(status, frame, most), 1, 0),
        Section(lambda most: _build_bar(status, frame, most), 3, 1, spaced=True),
        Section(lambda most: _build_end(status, frame, most), 2, 2),
        Section(lambda most: _build_amounts(status, frame, most), 2, 3, spaced=True),
        Section(lambda most: _build_next_steps(status, frame, most), 3, 4, spaced=True),
        Section(lambda most: _build_batches(status, frame, most), 4, 5, spaced=True),
        Section(lambda most: _build_waits(status, frame, most), 3, 6, spaced=True),
        Section(lambda most: _build_events(frame, most), 4, 7, spaced=True, greedy=True),
        Section(lambda most: _build_note(frame, most), 1, 4, spaced=True),
    ]
    return _lay_out(sections, frame.height)


def _lay_out(sections: Sequence[Section], height: int) -> list[Text]:
    """Return the rows of all sections, in their order, and empty ones between them; `height` at most."""
    wanted = [len(section.build(height)) for section in sections]
    needed = [min(rows, section.least) for rows, section in zip(wanted, sections, strict=True)]
    modest = [n if section.greedy else w for n, w, section in zip(needed, wanted, sections, strict=True)]
    by_rank = sorted(range(len(sections)), key=lambda place: sections[place].rank)
    given, left = [0] * len(sections), height
    given, left = _hand_out(needed, given, left, by_rank)
    given, left = _hand_out(modest, given, left, by_rank)
    spaces = [1 if section.spaced and rows else 0 for section, rows in zip(sections, given, strict=True)]
    spaces, left = _hand_out(spaces, [0] * len(sections), left, range(len(sections)))
    given, left = _hand_out(wanted, given, left, by_rank)
    rows = list[Text]()
    for section, most, space in zip(sections, given, spaces, strict=True):
        rows += [Text("")] * space + section.build(most)
    return rows


def _hand_out(wanted: Sequence[int], given: Sequence[int], left: int, order: Iterable[int]) -> tuple[list[int], int]:
    """Return the rows of each section, raised to the wanted ones in this order while any are left, and what is left."""
    raised = list(given)
    for place in order:
        more = min(left, wanted[place] - raised[place])
        raised[place] += more
        left -= more
    return raised, left


def _build_head(status: Status, frame: Frame, most: int) -> list[Text]:
    """Return job, model, service, clock with its zone, and how long it has been at work."""
    name, clock = frame.name, localize(frame.now, frame.zone)
    what = flatten_text(f"{name.job} | {name.model} | {name.service.removeprefix('https://')}")
    when = f"{clock:%a} {clock.day} {clock:%b %H:%M:%S %Z}"
    if name.started_at is not None and is_job_open(status):
        when += f" | at work {format_duration(max(0.0, frame.now - name.started_at))}"
    space = frame.width - cell_len(what) - cell_len(when)
    if space >= 2:
        row = fit_text(f"{what}{' ' * space}{when}", frame.width)
        row.stylize("bold", 0, len(name.job))
        return [row][:most]
    return [fit_text(what, frame.width, "bold"), fit_text(when, frame.width)][:most]


def _build_bar(status: Status, frame: Frame, most: int) -> list[Text]:
    """Return the bar of all lines with its share of accepted ones, and under it what each of its parts counts."""
    parts = count_lines(status.states)
    total = sum_lines(parts)
    share = f" {format_share(parts[0].lines, total)} of {total:,}"
    cells = divide_bar([part.lines for part in parts], frame.width - len(share))
    bar = Text(no_wrap=True)
    for part, count in zip(parts, cells, strict=True):
        bar.append((part.ascii_mark if frame.ascii else part.mark) * count, part.style)
    bar.append(share, "bold")
    shown = [part for part in parts if part.lines or part.name == "accepted"]
    labels = [(f"{p.ascii_mark if frame.ascii else p.mark} {p.lines:,} {p.name}", p.style) for p in shown]
    earlier = status.states.get("done_before", 0)
    if earlier:
        labels.append((f"(and {current_nouns().count_answers(earlier)} of an earlier run)", ""))
    bar.truncate(frame.width)
    return [bar, *_join_labels(labels, frame.width)][:most]


def _join_labels(labels: Sequence[tuple[str, str]], width: int) -> list[Text]:
    """Return the labels side by side, in as many rows as they need."""
    rows = [Text(no_wrap=True)]
    for label, style in labels:
        if rows[-1].cell_len and rows[-1].cell_len + 3 + cell_len(label) > width:
            rows.append(Text(no_wrap=True))
        if rows[-1].cell_len:
            rows[-1].append("   ")
        text = fit_text(label, width, "" if style in {"dim", "cyan", "green"} else style)
        text.stylize(style, 0, 1)  # the mark looks as it does in the bar
        rows[-1].append_text(text)
    return rows


def _build_end(status: Status, frame: Frame, most: int) -> list[Text]:
    """Return when the job ends, broken at words."""
    end = describe_end(status, frame.zone)
    return [fit_text(row, frame.width, end.style) for row in _break(end.text, frame.width)][:most]


def _break(text: str, width: int) -> list[str]:
    return wrap_text(flatten_text(text), width)


def _build_amounts(status: Status, frame: Frame, most: int) -> list[Text]:
    """Return what is used of the limit, and the money."""
    amounts = (("Room ", describe_room(status)), ("Money", describe_money(status, frame.name.budget_usd)))
    broken = [
        (f"{'' if number else name:5} {row}", sentence.style)
        for name, sentence in amounts
        for number, row in enumerate(wrap_text(flatten_text(sentence.text), frame.width - len(name) - 1, ""))
    ]
    if len(broken) > most:  # the first row of each says more than both rows of one
        broken = [(f"{name} {sentence.text}", sentence.style) for name, sentence in amounts]
    return [fit_text(row, frame.width, style) for row, style in broken][:most]


def _build_batches(status: Status, frame: Frame, most: int) -> list[Text]:
    """Return the batches in flight, the oldest first: as many as fit, and a sum of the others."""
    batches = status.batches
    if not batches or most <= 0:
        return []
    done, lines = _sum_progress(batches)
    head = f"In flight: {format_count(len(batches), 'batch', 'batches')}, {done:,} of {lines:,} lines answered"
    rows = [fit_text(head, frame.width, "bold")]
    room = most - 1
    shown = batches if len(batches) <= room else batches[: max(0, room - 1)]
    rows += _draw_batch_rows(shown, frame) if shown else []
    rest = batches[len(shown) :]
    if rest and shown:
        done, lines = _sum_progress(rest)
        rows.append(fit_text(f"{INDENT}and {len(rest):,} more: {done:,} of {lines:,} lines", frame.width, "dim"))
    return rows[:most]


def _sum_progress(batches: Sequence[UnsettledBatch]) -> tuple[int, int]:
    """Return the answered lines of batches, and all of their lines."""
    return sum(batch.completed + batch.failed for batch in batches), sum(batch.lines for batch in batches)


def _draw_batch_rows(batches: Sequence[UnsettledBatch], frame: Frame) -> list[Text]:
    """Return one row for each batch, aligned; the id stands at the end where there is room for all of it."""
    cells = [
        (
            f"shard {batch.shard:,}",
            f"priority {batch.priority}",
            f"{'stray, ' if batch.stray else ''}{batch.status.replace('_', ' ')}",
            _draw_batch_bar(batch, frame),
            f"{batch.completed + batch.failed:,} of {batch.lines:,}",
            f"for {format_duration(max(0.0, frame.now - batch.recorded_at))}",
            flatten_text(batch.batch_id),
        )
        for batch in batches
    ]
    widths = [max(cell_len(row[column]) for row in cells) for column in range(7)]
    kept = [0, 1, 2, 3, 4, 5, 6] if frame.width >= WIDE else [0, 2, 4, 5, 6]
    while kept[-1] > 4 and len(INDENT) + sum(widths[k] for k in kept) + 2 * (len(kept) - 1) > frame.width:
        kept.pop()
    rows = []
    for row in cells:
        aligned = [row[k].rjust(widths[k]) if k in {4, 5} else row[k].ljust(widths[k]) for k in kept]
        rows.append(fit_text(f"{INDENT}{'  '.join(aligned)}".rstrip(), frame.width))
    return rows


def _draw_batch_bar(batch: UnsettledBatch, frame: Frame) -> str:
    full, empty = ("#", ".") if frame.ascii else ("█", "░")
    done = int(BATCH_BAR * min(1.0, (batch.completed + batch.failed) / max(1, batch.lines)))
    return full * done + empty * (BATCH_BAR - done)


def _build_next_steps(status: Status, frame: Frame, most: int) -> list[Text]:
    """Return what waits for a person, with the commands to type."""
    steps = describe_next_steps(status)
    told = [Sentence(step.sentence, "" if step.kind in CALM_STEPS else WARNING) for step in steps]
    short = [
        Sentence(f"`{step.command}`: {step.sentence}" if step.command else step.sentence, each.style)
        for step, each in zip(steps, told, strict=True)
    ]
    return _build_list("Next for you", told, short, frame.width, most)


def _build_waits(status: Status, frame: Frame, most: int) -> list[Text]:
    """Return who waits for what until when."""
    waits = describe_waits(status, frame.now, frame.zone)
    return _build_list("Waits", waits, waits, frame.width, most)


def _build_list(
    title: str, sentences: Sequence[Sentence], short: Sequence[Sentence], width: int, most: int
) -> list[Text]:
    """Return sentences under their title; where there is little room one row each, and how many are left out.

    short: what stands for each sentence where it is cut, the most important words first.
    """
    if not sentences or most <= 0:
        return []
    if most == 1:
        more = f" (and {len(sentences) - 1:,} more)" if len(sentences) > 1 else ""
        return [fit_text(flatten_text(f"{title}{more}: {short[0].text}"), width, sentences[0].style)]
    rows = [
        fit_text(f"{INDENT}{row}", width, sentence.style)
        for sentence in sentences
        for row in _break(sentence.text, width - len(INDENT))
    ]
    if len(rows) > most - 1:
        rows = _shorten_rows(short, width, most - 1)
    return [fit_text(title, width, "bold"), *rows]


def _shorten_rows(sentences: Sequence[Sentence], width: int, most: int) -> list[Text]:
    """Return at most `most` rows: one for each sentence, and what is left over for the first one."""
    first, *others = sentences
    rows = [f"{INDENT}{row}" for row in _break(first.text, width - len(INDENT))]
    rows = rows[: most - len(others)] if most > len(others) + 1 else [f"{INDENT}{flatten_text(first.text)}"]
    drawn = [fit_text(row, width, first.style) for row in rows]
    drawn += [fit_text(f"{INDENT}{flatten_text(each.text)}", width, each.style) for each in others]
    return limit_rows(drawn, most, width)


def _build_events(frame: Frame, most: int) -> list[Text]:
    """Return the newest events, the last one at the bottom."""
    if not frame.events or most <= 1:
        return []
    rows = [
        fit_text(f"{INDENT}{localize(event.at, frame.zone):%H:%M:%S}  {flatten_text(event.text)}", frame.width)
        for event in frame.events[-(most - 1) :]
    ]
    return [fit_text("Last events", frame.width, "bold"), *rows]


def _build_note(frame: Frame, most: int) -> list[Text]:
    """Return what the process does now."""
    if not frame.note or most <= 0:
        return []
    left = frame.note_until - frame.now
    when = f" ({format_duration(left)} to go)" if left >= 1 else ""
    return [fit_text(flatten_text(f"Now: {frame.note}{when}"), frame.width, "dim")]
