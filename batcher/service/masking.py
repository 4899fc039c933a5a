"""Keeping our key out of everything that the service says: a refusal may quote it, and so may an answer."""

import re
from collections.abc import Collection, Mapping

SHORTEST_SECRET = 12
"""Shortest secret in characters that is taken out of texts: servers of one's own take "none" or "x" for a key, and no
answer may lose its letters for that."""
_KEY_HEADER = re.compile(r"key|auth|token|secret", re.IGNORECASE)
_KEY_SHAPES = re.compile(r"\bsk-[\w*.-]+|(?<=Bearer )[^\s'\"]+")


def keep_maskable(secrets: Collection[str]) -> tuple[str, ...]:
    """Return the secrets that are long enough to be taken out of texts."""
    return tuple(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)


def find_secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return what the client's environment variables hold of secrets beside the key.

    These are the password of the address, headers of one's own by which some services take a key, and the admin key.
    """
    password = re.search(r"//[^/@:]*:([^/@]+)@", environment.get("OPENAI_BASE_URL", ""))
    found = [password[1]] if password else []
    names = ("OPENAI_ADMIN_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN")
    found += [environment[name] for name in names if environment.get(name)]
    for line in environment.get("OPENAI_CUSTOM_HEADERS", "").splitlines():
        name, _, value = line.partition(":")
        if _KEY_HEADER.search(name) and value.strip():
            found.append(value.split()[-1])  # what follows "Bearer", or all
    return tuple(found)


def mask_secrets(text: str, secrets: Collection[str]) -> str:
    """Return a text without the secrets, and without what has the shape of a key."""
    return _KEY_SHAPES.sub("sk-...", hide_secrets(text, secrets))


def mask_bytes(data: bytes, secrets: Collection[str]) -> bytes:
    """Return bytes of a body without the secrets."""
    for secret in secrets:
        data = data.replace(secret.encode(), b"...")
    return data


def hide_secrets(text: str, secrets: Collection[str]) -> str:
    """Return a text without the secrets."""
    for secret in secrets:
        text = text.replace(secret, "...")
    return text
