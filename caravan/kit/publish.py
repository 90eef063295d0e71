"""Makes a bucket say what its owner's database says, and tells an owner that is behind it.

The *epoch* is the number of an owner's newest event. ``_complete`` in its bucket carries the epoch
of the newest database that wrote there. An owner whose own number is lower looks at an empty or a
restored older database: what it does not know it must not delete, so it goes on hold.
"""

from collections.abc import Mapping

import msgspec
import structlog
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from caravan.contracts.deployments import COMPLETE_KEY, Complete
from caravan.contracts.topology import Bucket
from caravan.kit.buckets import (
    answering,
    bucket_created,
    open_bucket,
    require_connection,
    stream_name,
    subject,
    write_complete_for,
)
from caravan.kit.bus import Bus
from caravan.kit.client import heeding
from caravan.kit.records import delete

log = structlog.get_logger()

_PAGE = 500
_PATIENCE_S = 5.0


def behind(newest: int, epoch: int) -> str:
    """Return why an owner must hold: its events end before the ``epoch`` in NATS. Empty: fine."""
    if newest >= epoch:
        return ""
    what = "is empty" if newest == 0 else f"ends at event {newest}"
    return (
        f"the database {what}, but event {epoch} has been published: it looks lost or restored "
        "from an older copy; bring the newest copy back, or release the hold to go on with this one"
    )


async def epoch_in(bus: Bus, bucket: Bucket) -> int:
    """Return the epoch in the bucket's ``_complete``; 0 when there is none.

    The bucket is made when it is missing. ``UnavailableError`` when NATS does not answer.
    """
    await open_bucket(bus, bucket)
    found = (await contents(bus, bucket, keys=COMPLETE_KEY)).get(COMPLETE_KEY)
    if found is None:
        return 0
    try:
        return msgspec.json.decode(found, type=Complete).epoch
    except msgspec.DecodeError as exc:
        log.error("complete.unreadable", bucket=bucket.name, error=str(exc))  # noqa: TRY400
        return 0


async def publish_all(
    bus: Bus, bucket: Bucket, entries: Mapping[str, msgspec.Struct], epoch: int
) -> list[str]:
    """Make the bucket hold exactly ``entries``, then write ``_complete``; return what changed.

    Only what differs is written or deleted, so that readers hear of changes alone. May be repeated
    and interrupted anywhere. Nobody else may write the bucket's entries meanwhile.
    ``UnavailableError`` when NATS does not answer: nothing is complete then.
    """
    kv = await open_bucket(bus, bucket)
    stream = await bucket_created(bus, bucket)
    there = await contents(bus, bucket)
    wanted = {key: msgspec.json.encode(value) for key, value in entries.items()}
    changed = [key for key, data in wanted.items() if there.get(key) != data]
    gone = [key for key in there if key not in wanted and key != COMPLETE_KEY]
    for key in changed:
        require_connection(bus)
        with answering(f"bucket {bucket.name}"):
            await kv.put(key, wanted[key])
    for key in gone:
        await delete(kv, key)
    await write_complete_for(bus, bucket, stream, epoch)
    return [*changed, *gone]


async def contents(bus: Bus, bucket: Bucket, *, keys: str = ">") -> dict[str, bytes]:
    """Return the value of every key of the bucket, ``_complete`` included, as it is now."""
    prefix = subject(bucket, "")
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=30.0,
        mem_storage=True,
    )
    require_connection(bus)
    found = {}
    with answering(f"bucket {bucket.name}"):
        reader = await bus.js.pull_subscribe(
            subject(bucket, keys), stream=stream_name(bucket), config=config
        )
        try:
            pending = (await reader.consumer_info()).num_pending or 0
            while pending:
                page = await heeding(reader.fetch(min(pending, _PAGE), timeout=_PATIENCE_S))
                for message in page:
                    if not _deleted(message.headers):
                        found[message.subject.removeprefix(prefix)] = message.data
                pending = page[-1].metadata.num_pending
        finally:
            await reader.unsubscribe()
    return found


def _deleted(headers: Mapping[str, str] | None) -> bool:
    return headers is not None and ("KV-Operation" in headers or "Nats-Marker-Reason" in headers)
