"""Counting tokens, exactly and offline.

gpt-4o, gpt-4.1, the o-series and gpt-5 use o200k_base. What later models use is not published; o200k_base is
taken for them too, and the ratio learned from `Batch.usage` corrects it.
"""

from collections.abc import Sequence

ENCODING = "o200k_base"


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Tokens of each text. One call for many texts: a call has a cost of its own."""
    import toktok  # noqa: PLC0415 - loading the ranks takes longer than most commands

    counts: list[int] = toktok.batch_count(texts, ENCODING)
    return counts
