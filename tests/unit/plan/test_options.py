"""What a plan takes from the user's wish, from the last plan and from the settings, and how that is kept."""

from pathlib import Path

import pytest

from batcher.errors import InputError
from batcher.plan.options import NamedTables, PlanOptions, PlanWish, choose_plan_options, load_plan_options
from tests.support.planner_kit import Desk

T, OTHER, DONE = Path("/p/t.csv"), Path("/p/other.csv"), Path("/p/done.csv")
SETTINGS = NamedTables(T, None)


def test_the_first_plan_takes_the_wish_and_else_the_settings() -> None:
    assert choose_plan_options(PlanWish(), None, SETTINGS) == PlanOptions(T, settings=SETTINGS)
    wish = PlanWish(OTHER, DONE, 7, skip_bad_rows=True)
    assert choose_plan_options(wish, None, SETTINGS) == PlanOptions(OTHER, DONE, 7, True, settings=SETTINGS)


def test_a_plain_plan_repeats_the_last_one() -> None:
    earlier = PlanOptions(OTHER, DONE, None, True, settings=SETTINGS)
    assert choose_plan_options(PlanWish(), earlier, SETTINGS) == earlier
    assert choose_plan_options(PlanWish(OTHER), earlier, SETTINGS) == earlier


@pytest.mark.parametrize(
    ("wish", "limit"), [(PlanWish(), 0), (PlanWish(limit=3), 3), (PlanWish(everything=True), None)]
)
@pytest.mark.parametrize("earlier", [0, 5])
def test_after_a_limit_nobody_is_taken_in_unless_it_is_said(wish: PlanWish, limit: int | None, earlier: int) -> None:
    options = PlanOptions(T, limit=earlier, settings=SETTINGS)
    assert choose_plan_options(wish, options, SETTINGS).limit == limit
    assert choose_plan_options(wish._replace(skip_bad_rows=True), options, SETTINGS).limit == limit


def test_limit_and_all_contradict_each_other() -> None:
    with pytest.raises(InputError, match="--limit and --all are both given"):
        choose_plan_options(PlanWish(limit=3, everything=True), None, SETTINGS)


def test_another_table_does_not_inherit_the_limit_or_the_leave_to_skip_rows() -> None:
    earlier = PlanOptions(T, DONE, 5, True, settings=SETTINGS)
    assert choose_plan_options(PlanWish(OTHER), earlier, SETTINGS) == PlanOptions(OTHER, DONE, settings=SETTINGS)


def test_what_the_settings_name_anew_counts_and_what_they_named_before_does_not() -> None:
    earlier = PlanOptions(OTHER, DONE, settings=SETTINGS)
    new = NamedTables(Path("/p/new.csv"), Path("/p/new_done.csv"))
    assert choose_plan_options(PlanWish(), earlier, new) == PlanOptions(*new, settings=new)
    unknown = PlanOptions(OTHER, DONE)  # kept by an older version, which did not keep what the settings named
    assert choose_plan_options(PlanWish(), unknown, new) == PlanOptions(OTHER, DONE, settings=new)


def test_the_kept_options_move_with_the_project(desk: Desk, tmp_path: Path) -> None:
    """Keep tables beside the state by their names from there, and others by their full paths."""
    table, settings = desk.table("artist_id,artist_name\na,Ana\n"), NamedTables(desk.folder / "s.csv", None)
    done = desk.table("artist_id,bio\na,Was.\n", "d.csv")
    desk.plan(table, done=done, limit=4, skip_bad_rows=True, settings=settings)
    with desk.world.store.read_transaction() as tx:
        assert load_plan_options(tx, desk.world.store.folder) == PlanOptions(table, done, 4, True, settings=settings)
        moved = load_plan_options(tx, Path("/elsewhere/state"))
    assert moved is not None
    assert moved == PlanOptions(Path("/elsewhere/t.csv"), Path("/elsewhere/d.csv"), 4, True,
                                settings=NamedTables(Path("/elsewhere/s.csv"), None))  # fmt: skip
