"""How an end that only the user can mend is said."""

import pytest

from batcher.commands.base.outcome import raise_problem
from batcher.core.actions import Finish
from batcher.errors import SetupError

BUDGET = (
    "shard 1 may cost $0.0031; $0.000100 of the budget of $0.000100 is left; raise [budget] max_usd to at least $0.0032"
)


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("OpenAI refused the key", "OpenAI refused the key; `batcher status` says what to do"),
        ("a stop; `batcher doctor` checks it", "a stop; `batcher doctor` checks it"),
        (BUDGET, BUDGET),
    ],
)
def test_status_is_named_only_where_the_sentence_has_no_remedy(problem: str, told: str) -> None:
    with pytest.raises(SetupError) as raised:
        raise_problem(Finish(problem))
    assert str(raised.value) == told
