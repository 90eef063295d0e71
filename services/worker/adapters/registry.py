"""The instance's keys in the buckets ``instances``, ``leases`` and ``deployments``."""

from collections.abc import Awaitable
from typing import TypeVar

import msgspec
import structlog
from nats.js.kv import KeyValue

from caravan.contracts import topology
from caravan.contracts.deployments import DeploymentEntry, Verdict
from caravan.contracts.errors import UnavailableError
from caravan.contracts.instances import Lease, Record, Spec
from caravan.contracts.names import deployment_key, instance_key
from caravan.kit import lease as leases
from caravan.kit import records
from caravan.kit.buckets import answering, open_bucket
from caravan.kit.bus import NOT_CONNECTED, Bus
from services.worker.core.ports import Found

T = TypeVar("T")
log = structlog.get_logger()


class BusRegistry:
    """Reads and writes over ``bus``.

    Every bucket is opened when it is first needed, and again after anything that NATS refused: its
    disk may have been emptied, and then the bucket is made anew.
    """

    def __init__(self, bus: Bus, spec: Spec) -> None:
        self._bus = bus
        self._spec = spec
        self._key = instance_key(spec.tenant, spec.name, spec.instance)
        self._open: dict[str, KeyValue] = {}

    async def find(self) -> Found | None:
        """Return the record that stands there; ``record`` is None when nobody can read it."""
        kv = await self._bucket(topology.INSTANCES)
        try:
            entry = await self._kept(records.read(kv, self._key, Record))
        except msgspec.DecodeError as exc:
            log.error("record.unreadable", key=self._key, error=str(exc))  # noqa: TRY400
            with answering("bucket instances"):
                raw = await kv.get(self._key)
            return Found(record=None, revision=raw.revision or 0)
        return None if entry is None else Found(record=entry.value, revision=entry.revision)

    async def write(self, record: Record, revision: int | None) -> bool:
        """Write over ``revision``; False when another was quicker."""
        kv = await self._bucket(topology.INSTANCES)
        try:
            await self._kept(records.write(kv, self._key, record, revision=revision))
        except records.ConflictError:
            return False
        return True

    async def renew(self, lease: Lease) -> None:
        """Show that the worker lives."""
        await self._bucket(topology.LEASES)
        await self._kept(leases.renew(self._bus, topology.LEASES, self._key, lease))

    async def release(self) -> None:
        """Take the lease back."""
        await leases.release(self._bus, topology.LEASES, self._key)

    async def verdict(self) -> Verdict | None:
        """Return the scheduler's verdict; None when there is none that can be read."""
        kv = await self._bucket(topology.DEPLOYMENTS)
        key = deployment_key(self._spec.tenant, self._spec.name)
        try:
            entry = await self._kept(records.read(kv, key, DeploymentEntry))
        except msgspec.DecodeError:
            return None
        return None if entry is None else entry.value.verdicts.get(self._spec.instance)

    async def _bucket(self, bucket: topology.Bucket) -> KeyValue:
        if not self._bus.connected:  # opening would wait for a connection for ever
            raise UnavailableError(NOT_CONNECTED)
        if bucket.name not in self._open:
            self._open[bucket.name] = await open_bucket(self._bus, bucket)
        return self._open[bucket.name]

    async def _kept(self, asked: Awaitable[T]) -> T:
        """Return what was ``asked``; forget the open buckets when NATS refuses it."""
        try:
            return await asked
        except UnavailableError:
            self._open.clear()
            raise
