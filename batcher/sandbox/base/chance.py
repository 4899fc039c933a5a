"""Chance that repeats: every random choice of the sandbox is a hash of the seed and of what it is about.

Two runs with one seed and the same calls make the same choices, in any order of the calls.
"""

from hashlib import blake2b

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789"


def seeded_bytes(size: int, seed: int | str, *parts: object) -> bytes:
    """Return `size` bytes (at most 64) that depend on the seed and the parts alone."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


def seeded_fraction(seed: int, *parts: object) -> float:
    """Return a number in [0, 1)."""
    return int.from_bytes(seeded_bytes(7, seed, *parts), "big") / 2**56


def seeded_uniform(bounds: tuple[float, float], seed: int, *parts: object) -> float:
    """Return a number between the two bounds."""
    low, high = bounds
    return low + (high - low) * seeded_fraction(seed, *parts)


def seeded_hex_id(seed: int | str, *parts: object) -> str:
    """Return 32 hexadecimal digits, the shape of most of OpenAI's ids."""
    return seeded_bytes(16, seed, *parts).hex()


def seeded_short_id(seed: int | str, *parts: object) -> str:
    """Return 22 letters and digits, the shape of a file id."""
    number = int.from_bytes(seeded_bytes(20, seed, *parts), "big")
    letters = []
    for _ in range(22):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)
