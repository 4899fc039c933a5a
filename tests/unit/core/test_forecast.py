"""The forecast: assumptions before a batch has ended, measurements after, and what the running ones tell."""

import math
from statistics import NormalDist
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.core import forecast
from batcher.core.forecast import (
    BEST_BATCH_S,
    EXPECTED_BATCH_S,
    FEWEST_PLAYS,
    LEAST_LEFT,
    MOST_STARTS,
    WORST_BATCH_S,
    BatchInFlight,
    LogNormalLaw,
    RemainingWork,
    _censored_moments,
    _FixedTimes,
    _sample_laws,
    _SampledTimes,
    _SlowTail,
    compute_forecast,
    count_fitting_lines,
    fit_log_normal,
)
from tests.support.examples import examples

HOUR = 3600.0
FOUR = RemainingWork(ceiling=100, shards=[(50, 10)] * 8)
"""Eight shards, two at a time: four waves."""


def test_before_a_batch_has_ended_the_assumptions_are_played() -> None:
    view = compute_forecast(FOUR)
    assert (view.waves, view.measured) == (4, 0)
    assert (view.best_s, view.expected_s, view.worst_s) == (
        4 * BEST_BATCH_S, 4 * EXPECTED_BATCH_S, 4 * WORST_BATCH_S,
    )  # fmt: skip


def test_nothing_to_do_ends_now() -> None:
    assert compute_forecast(RemainingWork(ceiling=100)) == compute_forecast(RemainingWork(ceiling=100, free_in_s=HOUR))
    assert compute_forecast(RemainingWork(ceiling=100)).worst_s == 0


def test_a_batch_in_flight_has_its_age() -> None:
    view = compute_forecast(RemainingWork(ceiling=100, flights=[BatchInFlight(50, 10, 600.0)]))
    assert view.best_s == BEST_BATCH_S - 600
    assert compute_forecast(RemainingWork(ceiling=100, flights=[BatchInFlight(50, 10, 2 * HOUR)])).best_s == 0


def test_what_is_in_flight_holds_its_room() -> None:
    busy = FOUR._replace(shards=[(100, 10)], flights=[BatchInFlight(60, 10, 0.0)])
    assert compute_forecast(busy).best_s == 2 * BEST_BATCH_S


def test_a_pause_delays_what_is_sent_and_not_what_runs() -> None:
    paused = RemainingWork(ceiling=100, shards=[(50, 10)], free_in_s=10 * HOUR)
    assert compute_forecast(paused).best_s == 11 * HOUR
    assert compute_forecast(paused._replace(shards=(), flights=[BatchInFlight(50, 10, 0.0)])).best_s == BEST_BATCH_S


def test_lines_that_go_again_take_another_batch() -> None:
    again = RemainingWork(ceiling=100, shards=[(50, 100)], retry_share=0.02)
    assert compute_forecast(again).best_s == 2 * BEST_BATCH_S
    assert compute_forecast(again._replace(shards=(), loose=(50, 1))).best_s == BEST_BATCH_S


def test_many_lines_that_go_again_take_as_many_batches_as_shards_would() -> None:
    assert compute_forecast(RemainingWork(ceiling=1_000, loose=(100_000, 1_000))).best_s >= 100 * BEST_BATCH_S


def test_a_job_of_which_everything_fails_has_an_end() -> None:
    assert math.isfinite(compute_forecast(FOUR._replace(retry_share=1.0), [HOUR]).worst_s)


def test_a_shard_that_is_larger_than_the_room_is_played_alone() -> None:
    assert compute_forecast(RemainingWork(ceiling=10, shards=[(50, 10)] * 2)).best_s == 2 * BEST_BATCH_S


@pytest.mark.parametrize(
    ("first_wave", "flights", "waves"),
    [
        (None, 0, 1),
        (80, 0, 1),  # all of it
        (20, 0, 2),
        (0, 0, 2),  # one shard always goes
        (20, 2, 2),  # what is in flight is the first wave
    ],
)
def test_a_first_wave_costs_the_time_of_one_batch(first_wave: int | None, flights: int, waves: int) -> None:
    flying = [BatchInFlight(50, 10, 0.0)] * flights
    view = compute_forecast(FOUR._replace(ceiling=500, first_wave=first_wave, flights=flying))
    assert view.best_s == waves * BEST_BATCH_S


def test_equal_times_are_believed_more_with_every_batch() -> None:
    few, many = compute_forecast(FOUR, [HOUR] * 2), compute_forecast(FOUR, [HOUR] * 200)
    assert few.best_s < many.best_s < 4 * HOUR < many.worst_s < few.worst_s
    assert many.expected_s == pytest.approx(4 * HOUR, rel=0.1)
    assert many.measured == 200


def test_the_worst_case_holds_slow_batches_of_which_none_has_ended_yet() -> None:
    """Four in five take half an hour, the others four hours: 19 have ended, and the five that run look like them."""
    view = compute_forecast(
        RemainingWork(ceiling=100, flights=[BatchInFlight(4, 10, HOUR * 0.55)] * 5), [HOUR / 2] * 19
    )
    assert view.expected_s < HOUR / 2 < 3.45 * HOUR < view.worst_s < 24 * HOUR


def test_what_many_batches_have_not_shown_is_in_no_case() -> None:
    wave = RemainingWork(ceiling=100, flights=[BatchInFlight(4, 10, HOUR * 0.4)] * 5)
    assert compute_forecast(wave, [HOUR / 2] * 2_000).worst_s < HOUR / 2


def test_a_batch_that_has_outlived_all_that_ended_is_a_slow_one() -> None:
    view = compute_forecast(RemainingWork(ceiling=100, flights=[BatchInFlight(50, 10, 3 * HOUR)]), [HOUR] * 20)
    assert view.expected_s > HOUR
    assert view.worst_s < 21 * HOUR


def test_the_running_ones_say_that_it_takes_longer() -> None:
    ended = [HOUR] * 5
    alone = fit_log_normal(ended, [])
    beside = fit_log_normal(ended, [5 * HOUR] * 5)
    young = fit_log_normal(ended, [HOUR / 2] * 5)
    assert beside.mean > alone.mean
    assert beside.quantile(0.9) > 3 * HOUR
    assert young == alone


def test_the_cases_are_shares_of_the_simulations() -> None:
    laws = [_FixedTimes(float(n)) for n in range(1, 41)]
    with mock.patch.object(forecast, "_sample_laws", return_value=laws):
        view = compute_forecast(RemainingWork(ceiling=100, shards=[(50, 10)]), [HOUR])
    assert (view.best_s, view.expected_s, view.worst_s) == (3, 21, 36)


def test_what_is_in_time_is_the_median_of_the_simulations() -> None:
    one_by_one = RemainingWork(ceiling=100, shards=[(100, 10)] * 20)
    with mock.patch.object(forecast, "_sample_laws", return_value=[_FixedTimes(float(n)) for n in range(1, 10)]):
        assert count_fitting_lines(one_by_one, [HOUR], within_s=60.0) == 12 * 10  # batches of five seconds


@pytest.mark.parametrize(("shards", "plays"), [(0, 40), (199, 40), (200, 39), (300, 26), (1_599, 5), (50_000, 5)])
def test_jobs_of_many_shards_are_simulated_fewer_times(shards: int, plays: int) -> None:
    assert len(_sample_laws(RemainingWork(ceiling=100, shards=[(1, 1)] * shards), [HOUR])) == plays


def test_the_law_gives_back_what_it_was_drawn_from() -> None:
    """The quantiles of a log-normal law of 1 h and a spread of 0.6, with the longest tenth still running."""
    drawn = sorted(HOUR * math.exp(0.6 * z) for z in _normal(200))
    law = fit_log_normal(drawn[:180], [drawn[180]] * 20)
    assert law.quantile(0.5) == pytest.approx(HOUR, rel=0.05)
    assert law.spread == pytest.approx(0.6, rel=0.1)


def _normal(count: int) -> list[float]:
    return [NormalDist().inv_cdf((n + 0.5) / count) for n in range(count)]


@pytest.mark.parametrize(("mean", "spread", "age"), [(0.0, 1.0, 0.0), (10.0, 2.0, 10.0), (8.0, 0.35, 8.0)])
def test_a_batch_of_the_median_age_has_the_moments_of_half_a_normal_law(mean: float, spread: float, age: float) -> None:
    first, second = _censored_moments(mean, spread, age)
    assert first == pytest.approx(mean + spread * math.sqrt(2 / math.pi))
    assert second - first**2 == pytest.approx(spread**2 * (1 - 2 / math.pi))


@pytest.mark.parametrize("z", [5.9, 6.1, 40.0])
def test_a_batch_that_is_older_than_any_ends_soon(z: float) -> None:
    first, second = _censored_moments(2.0, 0.5, 2.0 + 0.5 * z)
    assert first == pytest.approx(2.0 + 0.5 * (z + 1 / z), rel=2e-3)
    assert abs(second - first**2) < 0.02


def test_slow_batches_are_spread_evenly_over_the_logarithm_of_their_time() -> None:
    tail = _SlowTail(0.1, HOUR, 16 * HOUR)
    assert [tail.share_before(hours * HOUR) for hours in (0.5, 1, 2, 4, 16, 100)] == pytest.approx(
        [0, 0, 0.25, 0.5, 1, 1]
    )
    assert [tail.quantile(share) / HOUR for share in (0, 0.25, 0.5, 1)] == pytest.approx([1, 2, 4, 16])


def _times(play: int = 0, known_from: int = 1_000_000) -> _SampledTimes:
    """Return times of a law that is known well: an hour, with a spread of 0.5, and hardly any slow ones."""
    return _SampledTimes(LogNormalLaw(math.log(HOUR), 0.5), known_from, play, 2 * HOUR)


def test_the_numbers_are_those_of_splitmix64() -> None:
    """The fifth of its published numbers for the seed 0: a step is skipped, and three were drawn for the law."""
    assert _times()._sample_uniform() == (0x1B39896A51A8749B >> 11) / 2**53
    assert len({_times(play)._sample_uniform() for play in range(40)}) == 40


@pytest.mark.parametrize("mean", [0.0, 0.2, 3.0, 29.0, 31.0, 400.0])
def test_the_lines_that_fail_are_a_poisson_number(mean: float) -> None:
    times = _times()
    counts = [times.sample_count(mean) for _ in range(4_000)]
    middle = sum(counts) / len(counts)
    assert middle == pytest.approx(mean, rel=0.1)
    assert sum((count - middle) ** 2 for count in counts) / len(counts) == pytest.approx(mean, rel=0.1)
    assert min(counts) >= 0


def test_times_are_drawn_from_the_law() -> None:
    times = _times()
    drawn = sorted(times.sample_seconds() for _ in range(4_000))
    assert drawn[2_000] == pytest.approx(times.median_seconds(), rel=0.03)
    assert times.median_seconds() == pytest.approx(HOUR, rel=0.01)
    assert math.log(drawn[3_365] / drawn[2_000]) == pytest.approx(0.5, rel=0.05)  # one spread above the median


def test_what_is_left_of_a_batch_is_drawn_from_what_is_older() -> None:
    times = _times()
    left = sorted(times.remaining_seconds(HOUR) for _ in range(2_000))
    assert left[1_000] == pytest.approx(HOUR * (math.exp(0.5 * NormalDist().inv_cdf(0.75)) - 1), rel=0.1)
    assert left[0] == pytest.approx(LEAST_LEFT * HOUR)
    old = sorted(times.remaining_seconds(20 * HOUR) for _ in range(400))  # one of the slow ones, within the window
    assert 0 <= old[0] < old[-1] <= 4 * HOUR
    assert old[200] == pytest.approx(20 * HOUR * (math.sqrt(24 / 20) - 1), rel=0.1)


def test_a_running_batch_is_a_slow_one_as_likely_as_both_laws_say() -> None:
    """Half of either law is past: of what is left as many are slow as usual, and the usual ones end at once."""
    times, age_s = _times(), HOUR * math.sqrt(2 * 24)
    times._law, times._slow = LogNormalLaw(math.log(age_s), 0.01), _SlowTail(0.5, 2 * HOUR, WORST_BATCH_S)
    left = [times.remaining_seconds(age_s) for _ in range(1_000)]
    assert sum(seconds == LEAST_LEFT * age_s for seconds in left) == pytest.approx(500, rel=0.1)


def test_the_fewer_have_ended_the_more_may_be_slow() -> None:
    """A third of the plays, at least, of a job of which one batch has ended; next to none of one of a thousand."""
    few, many = ([_times(play, known)._slow for play in range(40)] for known in (1, 1_000))
    assert sum(tail.share > 0.1 for tail in few) > 13
    assert max(tail.share for tail in many) < 0.01
    assert {(tail.least_s, tail.most_s) for tail in few} == {(2 * HOUR, WORST_BATCH_S)}
    beyond = _SampledTimes(LogNormalLaw(math.log(HOUR), 0.5), 1, 0, WORST_BATCH_S)._slow
    assert beyond.most_s == 2 * WORST_BATCH_S


def test_of_what_is_left_nothing_is_before_the_age_or_beyond_the_window() -> None:
    law = fit_log_normal([HOUR * f for f in (0.5, 0.8, 1.0, 1.2, 2.0)], [])
    assert law.quantile_between(0.0, WORST_BATCH_S, 0.5) == pytest.approx(law.quantile(0.5), rel=0.01)
    assert 3 * HOUR < law.quantile_between(3 * HOUR, WORST_BATCH_S, 0.5) < WORST_BATCH_S
    assert law.quantile_between(1e6, WORST_BATCH_S, 0.5) <= 1e6


@pytest.mark.parametrize(("ended_s", "age_h"), [(300.0, 3), (300.0, 12), (20.0, 10)])
def test_one_quick_batch_beside_many_that_run_does_not_take_the_rest_beyond_the_window(
    ended_s: float, age_h: int
) -> None:
    view = compute_forecast(RemainingWork(ceiling=1_000, flights=[BatchInFlight(100, 10, age_h * HOUR)] * 8), [ended_s])
    assert 0 < view.best_s < view.worst_s <= WORST_BATCH_S - age_h * HOUR


def test_how_many_lines_are_in_time() -> None:
    assert count_fitting_lines(FOUR, [], 2 * EXPECTED_BATCH_S) == 40
    assert count_fitting_lines(FOUR, [], 1.0) == 0
    assert count_fitting_lines(FOUR, [], 1e9) == 80
    assert count_fitting_lines(RemainingWork(ceiling=100, loose=(50, 10)), [], 1e9) == 0


def test_a_single_line_that_goes_again_takes_one_more_batch() -> None:
    last = RemainingWork(ceiling=100, shards=[(50, 100)])
    assert count_fitting_lines(last._replace(retry_share=0.01), [], 1.5 * EXPECTED_BATCH_S) == 0
    assert count_fitting_lines(last._replace(retry_share=0.009), [], 1.5 * EXPECTED_BATCH_S) == 100


def test_what_goes_again_takes_room_and_time_from_what_is_in_time() -> None:
    again = FOUR._replace(shards=[(50, 100)] * 8, retry_share=0.01)
    assert count_fitting_lines(again._replace(retry_share=0.0), [], 2 * EXPECTED_BATCH_S) == 400
    assert (
        count_fitting_lines(again, [], 2 * EXPECTED_BATCH_S) == 100
    )  # half of the room is too little for two at a time
    assert count_fitting_lines(again._replace(ceiling=110), [], 3 * EXPECTED_BATCH_S) == 400


def test_what_is_in_time_is_what_a_forecast_of_so_much_says() -> None:
    load = RemainingWork(ceiling=1_000, shards=[(100, 10)] * 60)
    ended = [HOUR * f for f in (0.5, 0.8, 1.0, 1.2, 2.0)] * 20
    whole = compute_forecast(load, ended).expected_s
    for share in (0.3, 0.6, 0.9):
        shards = count_fitting_lines(load, ended, share * whole) // 10
        end = compute_forecast(load._replace(shards=load.shards[:shards]), ended).expected_s
        assert end == pytest.approx(share * whole, rel=0.1)


@pytest.mark.parametrize("shards", [50, 5_000])
def test_a_look_at_what_is_in_time_plays_no_more_batches_than_a_forecast(shards: int) -> None:
    load = RemainingWork(ceiling=2_400, shards=[(100, 10)] * shards, retry_share=0.03)
    with mock.patch.object(
        _SampledTimes, "sample_seconds", autospec=True, side_effect=_SampledTimes.sample_seconds
    ) as time:
        view = compute_forecast(load, [HOUR] * 9)
        played, _ = time.call_count, time.reset_mock()
        count_fitting_lines(load, [HOUR] * 9, view.expected_s / 2)
    assert time.call_count < played <= max(MOST_STARTS, FEWEST_PLAYS * shards) * 1.1


@examples(100)
@given(
    shards=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 500)), max_size=30),
    flights=st.lists(st.builds(BatchInFlight, st.integers(1, 60), st.integers(1, 500), st.floats(0, 1e6)), max_size=8),
    ended=st.lists(st.floats(0.0, 1e6), max_size=20),
    again=st.floats(0, 1),
    free=st.floats(0, 1e5),
)
def test_any_forecast_is_finite_ordered_and_the_same_again(
    shards: list[tuple[int, int]], flights: list[BatchInFlight], ended: list[float], again: float, free: float
) -> None:
    load = RemainingWork(100, shards, flights, (0, 0), again, free)
    view = compute_forecast(load, ended)
    assert 0 <= view.best_s <= view.expected_s <= view.worst_s < math.inf
    assert compute_forecast(load, ended) == view
    if not shards and not flights:
        assert view.worst_s == 0
