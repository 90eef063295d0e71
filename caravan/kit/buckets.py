"""Buckets and streams, made as the topology says when they are missing."""

import contextlib
from collections.abc import Iterator, Mapping

import msgspec
import nats.errors
import structlog
from nats.js.api import DiscardPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError
from nats.js.kv import KeyValue

from caravan.contracts import topology
from caravan.contracts.deployments import COMPLETE_KEY, Complete
from caravan.contracts.errors import UnavailableError
from caravan.kit.bus import NOT_CONNECTED, Bus

log = structlog.get_logger()


@contextlib.contextmanager
def answering(what: str) -> Iterator[None]:
    """Turn what NATS and its client raise into an ``UnavailableError`` which names ``what``."""
    try:
        yield
    except (NotFoundError, NoStreamResponseError):
        message = f"NATS has no {what} (its disk may have been emptied): it is made again, retry"
        raise UnavailableError(message) from None
    except APIError as exc:
        words = exc.description or "JetStream does not answer yet"
        message = f"NATS refuses {what}: {words}"
        raise UnavailableError(message) from exc
    except nats.errors.NoRespondersError:
        message = f"NATS runs without JetStream, so there is no {what}: start it with `-js`"
        raise UnavailableError(message) from None
    except (TimeoutError, nats.errors.Error, OSError) as exc:
        message = f"{NOT_CONNECTED} ({what})"
        raise UnavailableError(message) from exc


def require_connection(bus: Bus) -> None:
    """Refuse at once when there is no connection, so that nothing is written later, unasked."""
    if not bus.connected:
        raise UnavailableError(NOT_CONNECTED)


def stream_name(bucket: topology.Bucket) -> str:
    """Return the name of the stream that carries ``bucket``."""
    return f"KV_{bucket.name}"


def subject(bucket: topology.Bucket, key: str) -> str:
    """Return where the value of ``key`` is published."""
    return f"$KV.{bucket.name}.{key}"


def is_gone(headers: Mapping[str, str] | None) -> bool:
    """Tell whether a message is the mark of a key that was deleted or has lapsed."""
    headers = headers or {}
    return "Nats-Marker-Reason" in headers or headers.get("KV-Operation") in {"DEL", "PURGE"}


def created(info: StreamInfo) -> str:
    """Return what tells this stream from one of the same name made later."""
    return info.created.isoformat() if info.created is not None else ""


async def open_bucket(bus: Bus, bucket: topology.Bucket) -> KeyValue:
    """Return the bucket, made as the topology says when it is missing.

    Waits for the first connection. ``UnavailableError`` when NATS does not answer.
    """
    await bus.established()
    require_connection(bus)
    name = stream_name(bucket)
    with answering(f"bucket {bucket.name}"):
        try:
            info = await bus.js.stream_info(name)
        except NotFoundError:
            info = await _add(bus, _bucket_config(bucket))
    prefix = subject(bucket, "")
    return KeyValue(bucket.name, name, prefix, bus.js, direct=bool(info.config.allow_direct))


async def open_stream(bus: Bus, stream: topology.Stream) -> None:
    """Make the stream as the topology says when it is missing."""
    await bus.established()
    require_connection(bus)
    config = StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        max_age=float(stream.max_age_s),
        max_bytes=stream.max_bytes,
        storage=StorageType.FILE,
        duplicate_window=120.0,
        allow_direct=True,
    )
    with answering(f"stream {stream.name}"):
        try:
            await bus.js.stream_info(stream.name)
        except NotFoundError:
            await _add(bus, config)


async def write_complete(bus: Bus, bucket: topology.Bucket, epoch: int) -> None:
    """Say in ``_complete`` that the owner has compared the whole bucket as it stands now.

    Read the stream's ``created`` (``bucket_created``) before the comparison and pass it to
    ``write_complete_for`` where the comparison takes time; this is for the short one.
    """
    await write_complete_for(bus, bucket, await bucket_created(bus, bucket), epoch)


async def bucket_created(bus: Bus, bucket: topology.Bucket) -> str:
    """Return what tells the bucket's stream from one of the same name made later."""
    require_connection(bus)
    with answering(f"bucket {bucket.name}"):
        return created(await bus.js.stream_info(stream_name(bucket)))


async def write_complete_for(bus: Bus, bucket: topology.Bucket, stream: str, epoch: int) -> None:
    """Say that the owner has compared the whole of the stream that was created at ``stream``.

    When the bucket has been made anew since, the views wait for the next comparison.
    """
    require_connection(bus)
    value = msgspec.json.encode(Complete(created=stream, epoch=epoch))
    with answering(f"bucket {bucket.name}"):
        await bus.js.publish(subject(bucket, COMPLETE_KEY), value)


def _bucket_config(bucket: topology.Bucket) -> StreamConfig:
    """A KV bucket as every NATS client makes one, with per-key TTL where the topology has it."""
    return StreamConfig(
        name=stream_name(bucket),
        subjects=[subject(bucket, ">")],
        storage=StorageType.MEMORY if bucket.memory else StorageType.FILE,
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        duplicate_window=120.0,
        allow_direct=True,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
        deny_delete=True,
        # Without it a key expires without a word to those who watch.
        subject_delete_marker_ttl=float(bucket.ttl_s) if bucket.ttl_s else None,
    )


async def _add(bus: Bus, config: StreamConfig) -> StreamInfo:
    """Make a stream; when another process was quicker with the same one, that is no error."""
    info = await bus.js.add_stream(config)
    log.info("stream.made", stream=config.name)
    return info
