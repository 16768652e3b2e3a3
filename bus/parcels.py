"""Contract: where payloads lie that are too large to travel inside a message (the claim check).

Instead of such a payload a note `claim` travels, with the fields that `put` returned; whoever receives it gets the
payload by them, over the files topics, or from beside it where both share a connection.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Protocol

from pydantic import JsonValue

from bus.errors import BadEnvelope

INLINE_BYTES = 64 * 1024
"""Larger payloads go by claim."""
MOST_BYTES = 64 * 1024 * 1024
"""The largest payload that is fetched for a claim."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
CLAIM = "claim"
"""The kind of note that stands for a payload."""


class Parcels(Protocol):
    """Keeps payloads under their hash."""

    async def put(self, topic: str, payload: bytes) -> Mapping[str, JsonValue]:
        """Keep a payload that is about to be claimed on a topic; return the claim's fields: `sha256`, `bytes`, more.

        Raises `BusError` where it cannot be kept.
        """
        ...

    async def get(self, topic: str, claim: Mapping[str, JsonValue]) -> bytes:
        """Return what a claim that came on a topic stands for; the caller checks size and hash.

        Raises `BusError` where it cannot be had.
        """
        ...


def check_claim(claim: Mapping[str, JsonValue]) -> None:
    """Raise `BadEnvelope` for a claim that nothing can be fetched by."""
    sha256, size = claim.get("sha256"), claim.get("bytes")
    if not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise BadEnvelope("bad claim: sha256: a hash in small hexadecimal digits is wanted")
    if type(size) is not int or not 0 < size <= MOST_BYTES:
        raise BadEnvelope(f"bad claim: bytes: a size from 1 to {MOST_BYTES:,} is wanted")


def is_claimed(claim: Mapping[str, JsonValue], payload: bytes) -> bool:
    """Tell whether a payload is the one that a claim stands for."""
    return len(payload) == claim["bytes"] and hashlib.sha256(payload).hexdigest() == claim["sha256"]
