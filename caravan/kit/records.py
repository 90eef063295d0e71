"""Values of single keys, changed by compare-and-set."""

from typing import Generic, TypeVar

import msgspec
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from caravan.contracts.errors import Refusal, UnavailableError
from caravan.kit.buckets import answering
from caravan.kit.bus import NOT_CONNECTED

V = TypeVar("V")


class Entry(msgspec.Struct, Generic[V], frozen=True):
    """A value and the revision that a change of it must name."""

    value: V
    revision: int


class ConflictError(Refusal):
    """Somebody else has written the key since it was read: read it again and decide anew."""


async def read(kv: KeyValue, key: str, kind: type[V]) -> Entry[V] | None:
    """Return the value of ``key``, or None when there is none.

    ``UnavailableError`` when NATS does not answer; ``msgspec.DecodeError`` when the value is
    nothing that this version can read.
    """
    _require_connection(kv)
    with answering(_what(kv)):
        try:
            entry = await kv.get(key)
        except KeyNotFoundError:
            return None
    return Entry(msgspec.json.decode(entry.value or b"", type=kind), entry.revision or 0)


async def write(kv: KeyValue, key: str, value: msgspec.Struct, *, revision: int | None) -> int:
    """Write ``value`` over ``revision`` (None: the key must not exist); return the new revision.

    ``ConflictError`` when the key is another by now. ``UnavailableError`` leaves open whether it
    was written: read again.
    """
    _require_connection(kv)
    data = msgspec.json.encode(value)
    with answering(_what(kv)):
        try:
            if revision is None:
                return await kv.create(key, data)
            return await kv.update(key, data, last=revision)
        except KeyWrongLastSequenceError:
            message = f"{key} was changed by somebody else meanwhile: read it again"
            raise ConflictError(message) from None


async def put(kv: KeyValue, key: str, value: msgspec.Struct) -> int:
    """Write ``value`` whatever stands there: for keys with one writer. Return the new revision."""
    _require_connection(kv)
    with answering(_what(kv)):
        return await kv.put(key, msgspec.json.encode(value))


async def delete(kv: KeyValue, key: str) -> None:
    """Delete ``key``; one that does not exist is no error."""
    _require_connection(kv)
    with answering(_what(kv)):
        await kv.delete(key)


def _what(kv: KeyValue) -> str:
    return f"bucket {kv._name}"  # noqa: SLF001 - nats-py has no other way to it


def _require_connection(kv: KeyValue) -> None:
    """Refuse at once without a connection, so that nothing is written later, unasked."""
    if not kv._js._nc.is_connected:  # noqa: SLF001 - the connection under the bucket
        raise UnavailableError(NOT_CONNECTED)
