"""Values of single keys, changed by compare-and-set."""

from typing import Generic, TypeVar

import msgspec
from nats.js.api import RawStreamMsg
from nats.js.errors import KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from caravan.contracts.errors import Refusal, UnavailableError
from caravan.kit.buckets import answering, is_gone
from caravan.kit.bus import NOT_CONNECTED
from caravan.kit.wire import decode

V = TypeVar("V")

MARK_TTL_S = 24 * 3600
"""How long a deleted key is named; who was away longer hears of it from its owner's comparison."""


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
        found = await _newest(kv, key)
    if found is None or is_gone(found.headers):
        return None
    return Entry(decode(found.data or b"", kind), found.seq or 0)


async def write(kv: KeyValue, key: str, value: msgspec.Struct, *, revision: int | None) -> int:
    """Write ``value`` over ``revision`` (None: the key must not exist); return the new revision.

    ``ConflictError`` when the key is another by now. ``UnavailableError`` leaves open whether it
    was written: read again.
    """
    _require_connection(kv)
    data = msgspec.json.encode(value)
    with answering(_what(kv)):
        try:
            if revision is not None:
                return await kv.update(key, data, last=revision)
            found = await _newest(kv, key)
            grave = found is not None and is_gone(found.headers)
            return await kv.update(key, data, last=found.seq if found and grave else 0)
        except KeyWrongLastSequenceError:
            message = f"{key} was changed by somebody else meanwhile: read it again"
            raise ConflictError(message) from None


async def put(kv: KeyValue, key: str, value: msgspec.Struct) -> int:
    """Write ``value`` whatever stands there: for keys with one writer. Return the new revision."""
    _require_connection(kv)
    with answering(_what(kv)):
        return await kv.put(key, msgspec.json.encode(value))


async def delete(kv: KeyValue, key: str) -> None:
    """Delete ``key``; one that does not exist is no error. The mark of it lasts a day."""
    _require_connection(kv)
    with answering(_what(kv)):
        await kv._js.publish(  # noqa: SLF001 - ``KeyValue.delete`` leaves a mark for ever
            f"{kv._pre}{key}",  # noqa: SLF001
            headers={"KV-Operation": "DEL"},
            msg_ttl=MARK_TTL_S,
        )


async def _newest(kv: KeyValue, key: str) -> RawStreamMsg | None:
    """Return the newest message of ``key``, be it a value or the mark that it left.

    ``KeyValue.get`` takes the mark of a key that has lapsed for a value.
    """
    stream, prefix = kv._stream, kv._pre  # noqa: SLF001 - nats-py has no other way to them
    try:
        return await kv._js.get_msg(stream, subject=f"{prefix}{key}", direct=True)  # noqa: SLF001
    except NotFoundError:
        return None


def _what(kv: KeyValue) -> str:
    return f"bucket {kv._name}"  # noqa: SLF001 - nats-py has no other way to it


def _require_connection(kv: KeyValue) -> None:
    """Refuse at once without a connection, so that nothing is written later, unasked."""
    if not kv._js._nc.is_connected:  # noqa: SLF001 - the connection under the bucket
        raise UnavailableError(NOT_CONNECTED)
