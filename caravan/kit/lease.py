"""Signs of life: keys that vanish by themselves unless they are renewed."""

import msgspec

from caravan.contracts import topology
from caravan.kit.buckets import answering, require_connection, subject
from caravan.kit.bus import Bus

_PATIENCE_S = 2.0


async def renew(bus: Bus, bucket: topology.Bucket, key: str, value: msgspec.Struct) -> None:
    """Say ``value`` for the next ``bucket.ttl_s`` seconds; then the key vanishes by itself.

    ``UnavailableError`` when NATS does not take it: go on, and try at the next renewal.
    """
    require_connection(bus)
    with answering(f"bucket {bucket.name}"):
        await bus.js.publish(
            subject(bucket, key),
            msgspec.json.encode(value),
            timeout=_PATIENCE_S,
            msg_ttl=bucket.ttl_s,
        )


async def release(bus: Bus, bucket: topology.Bucket, key: str) -> None:
    """Take the sign of life back at once; readers see it go."""
    require_connection(bus)
    with answering(f"bucket {bucket.name}"):
        await bus.js.publish(
            subject(bucket, key),
            headers={"KV-Operation": "DEL"},
            timeout=_PATIENCE_S,
            msg_ttl=bucket.ttl_s,
        )
