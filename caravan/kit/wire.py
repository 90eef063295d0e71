"""JSON from outside: read as a contract, or refused in one way."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

K = TypeVar("K")


def decoder(kind: type[K]) -> Callable[[bytes], K]:
    """Return what reads a ``kind`` from JSON and raises ``msgspec.DecodeError`` for all else.

    msgspec itself answers text that is no UTF-8 and a nesting without end by errors of their own,
    which would end whoever expects the first only.
    """
    decode = msgspec.json.Decoder(kind).decode

    def read(data: bytes) -> K:
        try:
            return decode(data)
        except UnicodeDecodeError as exc:
            raise msgspec.DecodeError(f"it is not UTF-8: {exc.reason}") from None
        except RecursionError:
            raise msgspec.DecodeError("it is nested too deeply") from None

    return read


def decode(data: bytes, kind: type[K]) -> K:
    """Read one ``kind`` as ``decoder`` does."""
    return decoder(kind)(data)


def fields(data: bytes) -> dict[str, Any]:
    """Return the fields of a JSON object as they are written."""
    return decode(data, dict[str, Any])
