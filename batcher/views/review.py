"""Draw kept answers beside the reasons against them, and what judging them again has changed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import orjson
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from batcher.nouns import current_nouns
from batcher.review.judging import Judgement
from batcher.review.kept_answers import FoundAnswers, KeptAnswer
from batcher.views.sheet import build_table, format_count, format_time, name_with_id, shorten_id

INDENT = (0, 0, 0, 4)
"""The margins of an answer's text in cells: it is told apart from what Batcher says of it."""


def draw_answers(found: FoundAnswers) -> RenderableType:
    """Return the drawing of answers, each whole, and of how many there are."""
    if not found.answers:
        return Text("No such answer has come.")
    shown = len(found.answers)
    parts: list[RenderableType] = [part for answer in found.answers for part in draw_answer(answer)]
    if shown < found.total:
        parts.append(Text(f"The newest {shown:,} of {found.total:,}; --limit shows more."))
    return Group(*parts)


def draw_answer(answer: KeptAnswer) -> Iterator[RenderableType]:
    """Yield the parts of an answer's drawing: whose it is, how it was judged, and its text."""
    record = answer.record
    asked = f"prompt {record.prompt}" if record.prompt is not None else "prompt not known"
    where = shorten_id(record.batch_id) if record.batch_id else f"call {record.call}" if record.call else ""
    yield Text(name_with_id(record.artist_id, record.artist_name), style="bold")
    yield Text(", ".join(filter(None, (f"{format_time(record.happened_at)} UTC", record.lane, where, asked))))
    yield Text(_describe_verdict(record.outcome, record.code, record.message))
    if answer.lack:
        yield Padding(Text(f"({answer.lack})"), INDENT)
    else:
        for text in format_answer_text(answer.text):
            yield Padding(Text(text, overflow="fold"), INDENT)
    yield Text()


def _describe_verdict(outcome: str, code: str | None, message: str | None) -> str:
    """Return how an answer was judged, in words."""
    words = {"bio": "accepted", "repeated": "accepted, beside another one"}
    reason = ": ".join(filter(None, (code, message)))
    return words.get(outcome) or f"{outcome}{f', {reason}' if reason else ''}"


def format_answer_text(text: str) -> Sequence[str]:
    """Return an answer in paragraphs: the fields of a JSON object by name, any other text as it is."""
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [text]
    if not isinstance(fields, Mapping) or not fields:
        return [text]
    return [f"{name}: {v if isinstance(v, str) else orjson.dumps(v).decode()}" for name, v in fields.items()]


def draw_judgement(judgement: Judgement, dry_run: bool, notes: Iterable[str]) -> RenderableType:
    """Return the drawing of what judging again has found. notes: further sentences."""
    counts, nouns = judgement.counts, current_nouns()
    parts: list[RenderableType] = [
        Text(_describe_judged(judgement.judged)),
        Text(_describe_accepted(judgement, dry_run)),
    ]
    if counts.refused:
        parts.append(Text(_describe_refused(judgement)))
        reasons = [(row.code, row.message, row.bios) for row in counts.reasons]
        parts.append(Text())
        parts.append(build_table("Why", ["code", "reason", nouns.answers], reasons, 2))
        title = "Whose" if counts.refused <= len(counts.first) else f"The first {len(counts.first)} of them"
        parts.append(build_table(title, [nouns.row, "reason"], counts.first, 2))
    parts += [Text(line) for line in (*_describe_rest(judgement), *notes)]
    return Group(*parts)


def _describe_judged(judged: int) -> str:
    return f"{format_count(judged, 'kept answer')} judged with today's job; nothing was asked or paid."


def _describe_accepted(judgement: Judgement, dry_run: bool) -> str:
    """Return which lines take a bio."""
    rows = judgement.counts.accepted
    lines = sum(row.lines for row in rows)
    if not lines:
        return f"No line without {current_nouns().an_answer} has an answer that is accepted now."
    states = ", ".join(f"{row.lines:,} {row.state}" for row in rows)
    subject = format_count(lines, "line")
    has = "would have" if dry_run else "have" if lines != 1 else "has"
    bio = current_nouns().an_answer
    return f"{subject} {has} {bio} by an answer that is accepted now ({'are' if dry_run else 'before'}: {states})."


def _describe_refused(judgement: Judgement) -> str:
    """Return what becomes of the bios that are refused now."""
    bios, nouns = judgement.counts.refused, current_nouns()
    subject = f"{nouns.count_answers(bios)} {'is' if bios == 1 else 'are'} refused now"
    if judgement.revoked:
        return f"{subject} and revoked; lines that have no other are held, and `batcher redo` asks for them again."
    return f"{subject}, and kept; `batcher judge --revoke` takes such {nouns.answers} from their lines and holds these."


def _describe_rest(judgement: Judgement) -> Iterator[str]:
    """Yield what was put back, could not be judged, or was left alone."""
    if judgement.put_back:
        have = "lines have their" if judgement.put_back != 1 else "line has its"
        bio = current_nouns().answer
        yield (
            f"{judgement.put_back:,} {have} {bio} of an earlier run (--done) again, in the place of one that was "
            f"revoked; such {current_nouns().an_answer} is not judged."
        )
    if judgement.counts.changed_meanwhile:
        changed = format_count(judgement.counts.changed_meanwhile, "line has", "lines have")
        yield f"{changed} changed meanwhile: left alone."
    if judgement.not_kept:
        yield (
            f"{format_count(judgement.not_kept, 'answer is', 'answers are')} not kept: the file is gone, or [results] "
            "keep_raw was false at that time."
        )
    for damaged in judgement.damaged:
        yield f"A file cannot be read: {damaged}"
