"""The service's address, as it may be kept, compared and shown: without the user and password that it may hold."""

import os
import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

DEFAULT_ADDRESS = "https://api.openai.com/v1"
"""The address of OpenAI's client where OPENAI_BASE_URL sets none."""
OPENAI_HOST = "api.openai.com"
"""OpenAI's host; those of its regions end in it."""
UNREADABLE = "an address that cannot be read"
"""What is shown of an address that is none: any part of it may be a password."""
_PORTS = {"http": 80, "https": 443}


def read_origin() -> str:
    """Return the origin of the address that the environment sets (scheme, host, port and path)."""
    return format_origin(os.environ.get("OPENAI_BASE_URL") or DEFAULT_ADDRESS)


def format_origin(address: str) -> str:
    """Return scheme, host, port and path of an address, written in one way; UNREADABLE where it is no address."""
    parts = _split_address(address)
    if parts is None:
        return UNREADABLE
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in {None, _PORTS.get(parts.scheme)} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def is_unencrypted(origin: str) -> bool:
    """Return whether key and prompts would go to another machine as plain text."""
    parts = _split_address(origin)
    return parts is not None and parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def is_openai_or_local(origin: str) -> bool:
    """Return whether an address is OpenAI's own or of this machine: no other is given an admin key."""
    parts = _split_address(origin)
    host = (parts.hostname or "") if parts is not None else ""
    is_openai = (
        parts is not None and parts.scheme == "https" and (host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}"))
    )
    return is_openai or _is_loopback(host)


def _split_address(address: str) -> SplitResult | None:
    """Return the parts of an address; None for what is none."""
    try:
        parts = urlsplit(address.strip())
        is_address = bool(parts.scheme and parts.hostname) and (parts.port or 0) >= 0  # a port that is none raises
    except ValueError:
        return None
    return parts if is_address and not re.search(r"[@\s]", parts.path) else None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
