"""The buckets as the scheduler uses them: it writes ``deployments`` and tidies ``instances``."""

from collections.abc import Callable, Mapping

import msgspec

from caravan.contracts import topology
from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.errors import UnavailableError
from caravan.contracts.instances import Record
from caravan.kit import publish, records
from caravan.kit.buckets import answering, created, open_bucket, stream_name, write_complete_for
from caravan.kit.bus import Bus
from caravan.kit.view import View
from services.scheduler.core.routers import Written

BUCKET = topology.DEPLOYMENTS


class DeploymentsBucket:
    """The bucket ``deployments``; this process is its one writer.

    ``write_all`` first, and again whenever the bucket may be another than before; only then are
    ``write`` and ``complete`` of use. Callers see to it that they do not overlap.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._there: dict[str, bytes] = {}
        self._written: dict[str, Written] = {}
        self._end = Written("", 0)

    async def epoch(self) -> int:
        return await publish.epoch_in(self._bus, BUCKET)

    async def write_all(self, entries: Mapping[str, DeploymentEntry], epoch: int) -> None:
        await publish.publish_all(self._bus, BUCKET, entries, epoch)
        with answering(f"bucket {BUCKET.name}"):
            info = await self._bus.js.stream_info(stream_name(BUCKET))
        self._end = Written(created(info), info.state.last_seq)
        self._there = {key: msgspec.json.encode(entry) for key, entry in entries.items()}
        self._written = {}

    def says(self, key: str, entry: DeploymentEntry | None) -> Written | None:
        data = None if entry is None else msgspec.json.encode(entry)
        return self._written.get(key, self._end) if self._there.get(key) == data else None

    async def write(self, key: str, entry: DeploymentEntry | None) -> Written:
        if (written := self.says(key, entry)) is not None:
            return written
        kv = await open_bucket(self._bus, BUCKET)
        if entry is None:
            await records.delete(kv, key)
            self._there.pop(key, None)
            return self._end
        self._there.pop(key, None)  # not known until it is answered
        sequence = await records.put(kv, key, entry)
        self._there[key] = msgspec.json.encode(entry)
        self._written[key] = Written(self._end.created, sequence)
        return self._written[key]

    async def complete(self, epoch: int) -> None:
        if not self._end.created:
            raise UnavailableError("the bucket `deployments` has not been compared yet: try again")
        await write_complete_for(self._bus, BUCKET, self._end.created, epoch)


class InstanceRecords:
    """Deletes what ended instances leave; their workers wrote it, and are gone."""

    def __init__(self, bus: Bus, view: View[Record]) -> None:
        self._bus = bus
        self._view = view

    async def delete(self, key: str) -> None:
        kv = await open_bucket(self._bus, topology.INSTANCES)
        await records.delete(kv, key)

    def prune(self, keep: Callable[[str], bool]) -> None:
        if self._view.kept:
            self._view.prune(keep)
