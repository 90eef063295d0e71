"""One life of a view's consumer: the newest message of each key, then every change."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import NotFoundError

from caravan.contracts import topology
from caravan.contracts.deployments import COMPLETE_KEY
from caravan.kit.buckets import (
    answering,
    created,
    is_gone,
    open_bucket,
    require_connection,
    stream_name,
    subject,
)
from caravan.kit.bus import Bus

log = structlog.get_logger()


class Heard(msgspec.Struct, frozen=True):
    """A message of the bucket."""

    key: str
    data: bytes
    gone: bool
    """Deleted or expired."""
    revision: int
    stamp: int
    """When the server took it, ns since the epoch."""
    pending: int
    """So many more are on their way."""


class Reading:
    """An ordered consumer: iterate over what is heard, until anything at all goes wrong.

    The iteration ends when the connection is lost, a heartbeat is missed, or a message is missing
    in between; what was heard until then was complete and in order. Make another one then.
    """

    def __init__(self, bus: Bus, bucket: topology.Bucket, heartbeat_s: float) -> None:
        self.created = ""
        """When the stream was made."""
        self.last = 0
        """The stream's newest sequence, read after the consumer was made."""
        self.pending = 0
        """So many messages wait for the consumer from its start."""
        self.heard_at = time.monotonic()
        """When NATS last said anything; ``time.monotonic()``."""
        self.why = ""
        """Why the iteration ended."""
        self.heartbeat: Callable[[], None] = lambda: None
        """Called at each heartbeat which says that nothing is missing."""
        self._bus = bus
        self._prefix = len(subject(bucket, ""))
        self._patience_s = 2 * heartbeat_s + 1
        self._queue: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._heard = 0
        self._watchdog: asyncio.TimerHandle | None = None

    async def __aiter__(self) -> AsyncIterator[Heard]:
        while (message := await self._queue.get()) is not None:
            status = (message.headers or {}).get("Status")
            if status is not None:
                await self._control(message, message.headers or {})
                continue
            heard = self._read(message)
            if heard is None:
                return
            yield heard

    async def take(self, message: Msg) -> None:
        """Take a message from the client's reader."""
        self.heard_at = time.monotonic()
        self._queue.put_nowait(message)

    def break_off(self, why: str) -> None:
        """End the iteration; what has been heard before is still handed out."""
        self.why = self.why or why
        self._queue.put_nowait(None)

    def watch(self) -> None:
        """Break off when nothing has been heard for two heartbeats."""
        late_s = self.heard_at + self._patience_s - time.monotonic()
        if late_s <= 0:
            self.break_off(f"nothing heard for {self._patience_s:g} s")
            return
        self._watchdog = asyncio.get_running_loop().call_later(late_s, self.watch)

    def unwatch(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()

    def _read(self, message: Msg) -> Heard | None:
        """Return what the message says, or None when one before it is missing."""
        tokens = message.reply.split(".")
        first = 5 if len(tokens) == 9 else 7  # $JS.ACK[.domain.account].stream.consumer.tries.…
        revision, number, stamp, pending = map(int, tokens[first : first + 4])
        self._heard += 1
        if number != self._heard:
            self.why = f"message {self._heard} is missing"
            return None
        key, gone = message.subject[self._prefix :], is_gone(message.headers)
        return Heard(key, message.data, gone, revision, stamp, pending)

    async def _control(self, message: Msg, headers: dict[str, Any]) -> None:
        """Answer flow control; compare what a heartbeat says with what was heard."""
        stalled = headers.get("Nats-Consumer-Stalled")
        if reply := (stalled or message.reply):
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._bus.client.publish(reply)
        sent = headers.get("Nats-Last-Consumer")
        if sent is not None and int(sent) != self._heard:
            self.break_off(f"message {self._heard + 1} is missing")
        elif sent is not None:
            self.heartbeat()


@contextlib.asynccontextmanager
async def reading(
    bus: Bus, bucket: topology.Bucket, keys: str, heartbeat_s: float
) -> AsyncIterator[Reading]:
    """Make a consumer of ``bucket`` for as long as the context lasts; a missing bucket is made.

    ``UnavailableError`` when NATS does not answer.
    """
    require_connection(bus)
    one = Reading(bus, bucket, heartbeat_s)
    inbox = bus.client.new_inbox()
    end_loss = bus.on_loss(lambda: one.break_off("the connection was lost"))
    subscription = await bus.client.subscribe(inbox, cb=one.take)
    try:
        with answering(f"bucket {bucket.name}"):
            try:
                consumer = await _consumer(bus, bucket, keys, inbox, heartbeat_s)
            except NotFoundError:
                await open_bucket(bus, bucket)
                consumer = await _consumer(bus, bucket, keys, inbox, heartbeat_s)
            # Read after the consumer was made: a stream made anew in between is another one.
            info = await bus.js.stream_info(stream_name(bucket))
        one.created, one.last = created(info), info.state.last_seq
        one.pending = consumer.num_pending or 0
        one.watch()
        yield one
    finally:
        end_loss()
        one.unwatch()
        with contextlib.suppress(nats.errors.Error, OSError):
            await subscription.unsubscribe()  # without interest the server removes the consumer


async def _consumer(
    bus: Bus, bucket: topology.Bucket, keys: str, inbox: str, heartbeat_s: float
) -> ConsumerInfo:
    subjects = [subject(bucket, keys)]
    if keys != ">":
        subjects.append(subject(bucket, COMPLETE_KEY))
    config = ConsumerConfig(
        deliver_subject=inbox,
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        ack_policy=AckPolicy.NONE,
        max_deliver=1,
        filter_subjects=subjects,
        flow_control=True,
        idle_heartbeat=heartbeat_s,
        inactive_threshold=10.0,
        mem_storage=True,
        num_replicas=1,
    )
    return await bus.js.add_consumer(stream_name(bucket), config)
