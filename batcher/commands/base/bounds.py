"""Which numbers a parameter may be, on the command line and in Python."""

from collections.abc import Mapping

from batcher.errors import InputError, format_faulty_value

LARGEST = 1_000_000_000
"""The largest number that a parameter may be: far more than a job has lines, and less than the state can store."""


def check_numbers(numbers: Mapping[str, object], least: int = 1) -> None:
    """Raise InputError for a number that the command line would refuse: types are not checked when a program runs."""
    for name, number in numbers.items():
        if number is not None and not (isinstance(number, int) and least <= number <= LARGEST):
            found = format_faulty_value(number)
            raise InputError(f"{name} has to be a whole number from {least:,} to {LARGEST:,}, and is {found}")
