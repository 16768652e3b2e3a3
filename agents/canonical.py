"""One text for what is the same, and its hash: what requests are told apart by. Pure."""

import hashlib
import math
from collections.abc import Mapping
from decimal import Decimal

import orjson

LAST_WHOLE_FLOAT = 1e21
"""From here on ECMAScript writes whole numbers with an exponent."""
FIRST_PLAIN_POWER = -6
"""Down to this power of ten ECMAScript writes fractions without one."""
_AS_THEY_ARE = (str, int)


def digest_of(request: Mapping[str, object]) -> str:
    """Return the SHA-256 (hex) over the canonical JSON of what matters of a request."""
    return sha256_hex(canonical_json(request))


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: object) -> bytes:
    """Return canonical JSON as RFC 8785 wants it: sorted keys, no space, numbers as ECMAScript writes them."""
    return orjson.dumps(_canonical(value))


def _canonical(value: object) -> object:
    if value is None or isinstance(value, _AS_THEY_ARE):  # asked first, since most are
        return value
    if isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101 - `Mapping` alone is asked for at length
        # RFC 8785, section 3.2.3: keys are sorted by their UTF-16 code units; ASCII is in that order anyway.
        keys = sorted(value) if "".join(value).isascii() else sorted(value, key=_utf16)
        return {key: _canonical(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float):
        return _number(value)
    return value


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _number(value: float) -> object:
    if not math.isfinite(value):
        raise ValueError("canonical JSON has no infinite numbers")
    text = repr(value)
    if value.is_integer() and abs(value) < LAST_WHOLE_FLOAT:
        return orjson.Fragment(str(int(Decimal(text))))
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return orjson.Fragment(text)
    power = int(exponent)
    if power >= FIRST_PLAIN_POWER:
        if power < 0:
            return orjson.Fragment(f"{Decimal(text):f}")
        return orjson.Fragment(f"{mantissa}e+{power}")
    return orjson.Fragment(f"{mantissa}e{power}")
