"""An answer in a few words."""

import pytest

from batcher.views.answers import describe_answer


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ('{"embedding":[0.123456789,-1,2e-7,4]}', "[0.1235, -1, 2e-07, ...] (4 numbers)"),
        ('{"embedding":[1]}', "[1] (1 number)"),
        ('{"embedding":"none"}', '{"embedding":"none"}'),
        ('{"embedding":[1],"more":2}', '{"embedding":[1],"more":2}'),
        ('{"bio":"Ana painted.","born":1}', "Ana painted."),
        ('{"text":"Dear Ana"}', "Dear Ana"),
        ('{"flagged":false}', '{"flagged":false}'),
    ],
)
def test_it_is_its_text_or_the_first_numbers_of_a_vector(data: str, shown: str) -> None:
    assert describe_answer(data) == shown
