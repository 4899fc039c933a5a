"""The report of a pilot, as tables and sentences and as JSON, and the question where too few answers were accepted."""

from collections.abc import Sequence
from typing import NamedTuple

import orjson
from rich.console import Group, RenderableType
from rich.text import Text

from batcher.core.model import EMBEDDING_FIELD
from batcher.core.pilots import PilotLine, PilotStage, describe_failed_pilot, describe_refusal
from batcher.core.sampling import spread_positions
from batcher.nouns import current_nouns
from batcher.review.kept_answers import KeptAnswer
from batcher.state.pilots import PilotProgress
from batcher.state.reports.pilot import PilotCosts
from batcher.views.answers import describe_answer
from batcher.views.sheet import Cell, build_table, format_count, format_usd

SAMPLE_BIOS = 10
"""Bios that a report shows, spread over the strata."""
FEW_ANSWERS = 3
"""Bios, and refused answers, that the short report of `run` shows."""
TEXT_LENGTH = 300
"""Characters of an answer that are shown; --json has all."""
WITHIN = 1.96
"""Standard errors to each side that hold the true value 19 times of 20."""


class PilotReport(NamedTuple):
    """A pilot with its costs, and the first answers that were refused, as they came."""

    progress: PilotProgress
    costs: PilotCosts
    refused: Sequence[KeptAnswer]
    min_accepted: float


def list_samples(lines: Sequence[PilotLine], most: int = SAMPLE_BIOS) -> list[PilotLine]:
    """Return some lines with a bio, at equal distances in the order of strata."""
    done = [line for line in lines if line.bio is not None]
    return [done[place] for place in spread_positions(len(done), min(most, len(done)), 0.0)]


def pilot_to_json(report: PilotReport) -> dict[str, object]:
    """Return the report as JSON."""
    (pilot, stage, tally, lines), costs = report.progress, report.costs
    return {
        "pilot": pilot.pilot,
        "prompt": pilot.prompt,
        "seed": pilot.seed,
        "stage": stage.name.lower(),
        "min_accepted": report.min_accepted,
        **tally._asdict(),
        "refused": [each._asdict() for each in tally.refused],
        **costs._asdict(),
        "rest": costs.rest._asdict() if costs.rest else None,
        "samples": [
            {"artist_id": line.artist_id, "artist_name": line.artist_name, "bio": orjson.loads(line.bio or "null")}
            for line in list_samples(lines)
        ],
        "refused_answers": [
            {
                "artist_id": each.record.artist_id,
                "code": each.record.code,
                "reason": each.record.message,
                "text": each.text,
                "lack": each.lack,
            }
            for each in report.refused
        ],
    }


def draw_pilot(report: PilotReport) -> RenderableType:
    """Return the drawing of a report."""
    progress, tally = report.progress, report.progress.tally
    parts = _draw_findings(report, SAMPLE_BIOS, len(report.refused))
    if progress.stage is PilotStage.FAILED:
        parts.append(Text(describe_failed_pilot(tally, report.min_accepted) + "."))
    elif progress.stage is PilotStage.PASSED and report.costs.rest_lines:
        parts.append(Text("`batcher run` sends the rest."))
    return Group(*parts)


def draw_short_pilot(report: PilotReport) -> RenderableType:
    """Return the drawing of a report with a few answers only, without what to do next."""
    return Group(*_draw_findings(report, FEW_ANSWERS, FEW_ANSWERS))


def _draw_findings(report: PilotReport, most_bios: int, most_refused: int) -> list[RenderableType]:
    """Return what a pilot has shown: bios, refused answers, counts and costs."""
    progress, refused = report.progress, report.progress.tally.refused
    parts: list[RenderableType] = []
    samples = list_samples(progress.lines, most_bios)
    if samples:
        title = Text(f"Sample {current_nouns().answers}")
        parts += [title, *(_draw_text(line.artist_id, "", _flatten_bio(line.bio)) for line in samples)]
    if report.refused:
        parts += [Text("Refused answers"), *(_draw_refused(answer) for answer in report.refused[:most_refused])]
    if len(report.refused) > most_refused:
        parts.append(Text(f"  {len(report.refused) - most_refused:,} more: `batcher answers --refused` shows them"))
    if refused:
        rows: list[Sequence[Cell]] = [(each.code, each.reason, each.lines) for each in refused]
        parts.append(build_table("Refused, by reason", ["code", "reason", "answers"], rows, 2))
    return [*parts, *map(Text, [*_describe_counts(progress), *_describe_costs(report.costs)])]


def _draw_refused(answer: KeptAnswer) -> Text:
    record = answer.record
    return _draw_text(
        record.artist_id, describe_refusal(record.code or "", record.message or ""), answer.text or answer.lack
    )


def _draw_text(artist_id: str, reason: str, text: str) -> Text:
    shown = " ".join(text.split())
    shown = shown if len(shown) <= TEXT_LENGTH else shown[:TEXT_LENGTH] + "..."
    return Text(f"  {artist_id}{f' [{reason}]' if reason else ''}: {shown}")


def _flatten_bio(bio: str | None) -> str:
    """Return a bio as text: its only field alone, else each after its name."""
    fields = orjson.loads(bio or "{}")
    if fields.keys() == {EMBEDDING_FIELD}:
        return describe_answer(bio or "{}")
    if len(fields) == 1:
        return str(next(iter(fields.values())))
    return "; ".join(f"{name}: {value}" for name, value in fields.items())


def _describe_counts(progress: PilotProgress) -> list[str]:
    pilot, tally = progress.pilot, progress.tally
    other = tally.judged - tally.accepted - tally.cut_off - tally.invalid
    return [
        f"Pilot {pilot.pilot}, seed {pilot.seed}: {format_count(tally.lines, 'line')}, "
        f"{format_count(tally.judged, 'first answer')}: "
        f"{tally.accepted:,} accepted, {other:,} refused, {tally.cut_off:,} cut off, {tally.invalid:,} invalid; "
        f"{current_nouns().count_answers(tally.bios)} by now, {format_count(tally.dead, 'line')} given up."
    ]


def _describe_costs(costs: PilotCosts) -> list[str]:
    if not costs.executed:
        return []
    lines = [
        f"Measured on {format_count(costs.executed, 'execution')}: {costs.tokens_input:,.0f} input tokens "
        f"({costs.tokens_counted:,.0f} counted), {costs.tokens_output:,.0f} output tokens each."
    ]
    if costs.spent_usd is not None:
        bio = current_nouns().an_answer
        per_bio = f", {format_usd(costs.usd_per_bio)} {bio}" if costs.usd_per_bio is not None else ""
        lines.append(
            f"Spent {format_usd(costs.spent_usd)}{per_bio}; {format_usd(costs.usd_per_line)} a line was expected."
        )
    if costs.rest is not None and costs.rest_lines:
        lines.append(
            f"The other {format_count(costs.rest_lines, 'line')}: about {format_usd(costs.rest.amount)}, give or take "
            f"{format_usd(WITHIN * costs.rest.error)}; {format_usd(costs.rest_assumed)} was expected."
        )
    return lines
