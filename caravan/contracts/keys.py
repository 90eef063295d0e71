"""API keys: their form, their digest and what the bucket ``keys`` says of each.

A key is ``ck-``, 43 base62 digits (256 random bits) and 6 base62 digits: the CRC32 of the 46 bytes
before it. So a mistyped key is refused without a look-up.
"""

import hashlib
import re
import zlib

from msgspec import Struct

PREFIX = "ck-"
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_DIGITS = 43
_CHECK_DIGITS = 6
_KEY = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_BODY_DIGITS + _CHECK_DIGITS}}}")


class KeyEntry(Struct, frozen=True, kw_only=True):
    """The value of ``<SHA-256 of the key, hex>`` in the bucket ``keys``; written by auth."""

    id: str
    """Names the key in messages and logs, e.g. ``k-4f2a9c``; never part of the secret."""
    tenant: str
    state: str
    """active, revoked; a word not known here means not usable"""
    expires_at: float | None = None
    """Seconds since the epoch; None never expires."""
    scopes: list[str] = []
    """Model ids that it may use; empty: all of its tenant's."""
    limits: dict[str, float] = {}


def mint(secret: int) -> str:
    """Return the key made of ``secret``, a random number below 2**256."""
    body = PREFIX + _base62(secret, _BODY_DIGITS)
    return body + _checksum(body)


def well_formed(key: str) -> bool:
    """Tell whether ``key`` has the form and the checksum of a key."""
    if _KEY.fullmatch(key) is None:
        return False
    return _checksum(key[:-_CHECK_DIGITS]) == key[-_CHECK_DIGITS:]


def digest(key: str) -> str:
    """Return the SHA-256 of ``key`` in hex: all that is kept of it."""
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_DIGITS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(DIGITS[rest])
    return "".join(reversed(digits))
