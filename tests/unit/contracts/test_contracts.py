"""How contracts write times, dollars and what there is not, and that they leave out nothing of what a command found."""

from datetime import UTC, datetime

import pytest

from batcher.commands.sending.retry import BroughtBack
from batcher.contracts import job, planning, results, sending, status
from batcher.contracts.base import Answer, JsonObject, MaybeText, MaybeTime, Part, Time, Usd
from batcher.core.brake import AnswerReason
from batcher.core.forecast import Forecast
from batcher.core.pilots import PilotTally, RefusedFor
from batcher.core.room import MeasuredUsage
from batcher.core.sampling import Estimate
from batcher.state import costs, submissions, wishes
from batcher.state import plan as plan_state
from batcher.state.asked_again import PromptLines
from batcher.state.reports import expectation, pilot, prompts, query
from batcher.state.reports import status as reports
from batcher.state.reports import views as reported_views
from batcher.state.review import answers, judging
from batcher.views.plan import PlanSummary


class Sample(Answer):
    """One field of each kind."""

    at: Time
    until: MaybeTime
    usd: Usd | None
    why: MaybeText
    row: JsonObject


def sample(**fields: object) -> Sample:
    return Sample.model_validate({"at": 1.5, "until": 0, "usd": None, "why": "", "row": "{}", **fields})


def test_times_have_a_zone_and_dollars_are_rounded() -> None:
    made = sample(at=1_795_000_000.25, until=2.0, usd=0.000042749999999999996, why="x", row='{"a": 1}')
    assert made.to_json() == (
        '{"version":1,"at":"2026-11-18T11:06:40.250000Z","until":"1970-01-01T00:00:02Z","usd":0.000043,"why":"x",'
        '"row":{"a":1}}'
    )
    assert made.at == datetime(2026, 11, 18, 11, 6, 40, 250_000, UTC)
    assert Sample.model_validate_json(made.to_json()) == made


def test_what_there_is_not_is_null() -> None:
    assert sample().to_json() == (
        '{"version":1,"at":"1970-01-01T00:00:01.500000Z","until":null,"usd":null,"why":null,"row":{}}'
    )


@pytest.mark.parametrize("at", [-1e18, 1e18, 253_402_300_800.0])
def test_a_time_that_no_calendar_has_becomes_the_nearest(at: float) -> None:
    assert sample(at=at).at.year in {1970, 9999}


PAIRS: list[tuple[type[tuple[object, ...]], type[Part]]] = [
    (reports.Status, status.StatusAnswer),
    (reports.PriorityProgress, status.PriorityProgressPart),
    (reports.ShardCount, status.ShardCountPart),
    (reports.UnsettledBatch, status.UnsettledBatchPart),
    (reports.FailureTotal, job.FailureTotalPart),
    (reports.LostCount, status.LostCountPart),
    (reports.WaitingLines, status.WaitingLinesPart),
    (reports.WaitingShard, status.WaitingShardPart),
    (reports.OpenPause, status.OpenPausePart),
    (reports.OpenBrake, status.OpenBrakePart),
    (AnswerReason, status.AnswerReasonPart),
    (reports.QuotaSample, status.QuotaSamplePart),
    (reports.RoomRefusals, status.RoomRefusalsPart),
    (reports.OpenPilot, status.OpenPilotPart),
    (reports.ArtistHistory, results.ShowAnswer),
    (reports.ArtistBio, results.ArtistBioPart),
    (reports.ArtistAttempt, results.ArtistAttemptPart),
    (reports.ArtistEvent, results.ArtistEventPart),
    (answers.RecordedAnswer, results.KeptAnswerPart),
    (judging.RefusalCount, results.RefusalCountPart),
    (judging.RefusedArtist, results.RefusedArtistPart),
    (prompts.PromptTotals, results.PromptTotalsPart),
    (query.QueryResult, results.SqlAnswer),
    (query.ResultColumn, results.ResultColumnPart),
    (reported_views.ViewDescription, results.ViewPart),
    (reported_views.ViewColumn, results.ViewColumnPart),
    (costs.Costs, job.CostsPart),
    (Forecast, job.ForecastPart),
    (expectation.CostForecast, job.CostForecastPart),
    (MeasuredUsage, job.MeasuredUsagePart),
    (expectation.Expectation, job.ExpectationPart),
    (PromptLines, job.PromptLinesPart),
    (plan_state.PriorityTotals, planning.PriorityTotalsPart),
    (plan_state.OpenShard, planning.OpenShardPart),
    (PlanSummary, planning.PlanAnswer),
    (submissions.ShardSubmission, sending.ShardSubmissionPart),
    (RefusedFor, sending.RefusedForPart),
    (Estimate, sending.EstimatePart),
    (PilotTally, sending.PilotAnswer),
    (pilot.PilotCosts, sending.PilotAnswer),
    (wishes.CancelledShard, sending.CancelledShardPart),
    (wishes.RetriedLines, sending.RetriedLinesPart),
    (BroughtBack, sending.RetryAnswer),
]


@pytest.mark.parametrize(("found", "told"), PAIRS)
def test_nothing_that_was_found_is_left_out(found: type[tuple[object, ...]], told: type[Part]) -> None:
    assert set(found._fields) <= set(told.model_fields)  # type: ignore[attr-defined]


def test_a_part_takes_a_named_tuple_and_the_name_class() -> None:
    made = status.WaitingLinesPart.model_validate(reports.WaitingLines("server", 2, 0, 1.0))
    assert made.model_dump_json() == '{"class":"server","lines":2,"first_at":null,"last_at":"1970-01-01T00:00:01Z"}'
