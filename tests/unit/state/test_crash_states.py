"""What a kill leaves of a state at each moment of one fold, opened again; `make soak` tries all ways and layouts."""

from pathlib import Path

import pytest

from tests.support.crash_states import SMALL, compile_recorder, try_plan


def test_each_moment_of_a_fold_leaves_a_state_that_goes_on(tmp_path: Path) -> None:
    library = compile_recorder(tmp_path)
    if library is None:
        pytest.skip("what a process writes is recorded by a library that needs Linux and a C compiler")
    found = try_plan(library, tmp_path, SMALL, every=False, first=1)
    assert found.wrong == []
    assert found.states >= 15
