"""The buckets that a router reads, live in memory and copied to disk."""

import asyncio
from collections.abc import Callable, ItemsView, Mapping
from pathlib import Path
from typing import Any

from caravan.contracts import names, topology
from caravan.contracts.deployments import DeploymentEntry
from caravan.contracts.instances import Record
from caravan.contracts.keys import KeyEntry
from caravan.contracts.reports import Position
from caravan.kit.bus import Bus
from caravan.kit.view import View

_NONE: Mapping[str, Record] = {}


class BucketViews:
    """The views of ``keys``, ``deployments`` and ``instances``.

    ``run`` follows them for ever. Everything else answers from memory, but for the look-ups.
    A start reads the copies in ``folder``; they are kept up to date only when this one ``writes``.
    ``record_gone`` is called with the key of an instance whose record is gone, and ``changed`` with
    the key of a deployment of which the entry or a record has changed.
    """

    def __init__(  # noqa: PLR0913 - what is told of changes
        self,
        bus: Bus,
        folder: Path | None,
        *,
        writes: bool = True,
        age_limit_s: float = 0.0,
        record_gone: Callable[[str], None] = lambda _key: None,
        changed: Callable[[str], None] = lambda _key: None,
    ) -> None:
        self._age_limit_s = age_limit_s
        self._changed = changed
        self._whole = False
        self._record_gone = record_gone
        self._records: dict[str, dict[str, Record]] = {}
        self._keys: View[KeyEntry] = View(
            bus, topology.KEYS, disk=_disk(folder, "keys"), writes=writes
        )
        self._deployments: View[DeploymentEntry] = View(
            bus,
            topology.DEPLOYMENTS,
            disk=_disk(folder, "deployments"),
            writes=writes,
            changed=lambda key, _: self._changed(key),
        )
        self._instances: View[Record] = View(
            bus,
            topology.INSTANCES,
            disk=_disk(folder, "instances"),
            writes=writes,
            changed=self._index,
        )

    @property
    def _all(self) -> tuple[View[Any], ...]:
        return (self._keys, self._deployments, self._instances)

    async def run(self) -> None:
        """Follow the buckets until cancelled."""
        async with asyncio.TaskGroup() as group:
            for view in self._all:
                group.create_task(view.run(), name=f"view {view.bucket.name}")

    async def wait_complete(self, timeout_s: float) -> bool:
        """Wait for a replay of all three; when NATS does not answer in time, the disk counts."""
        found = await asyncio.gather(*(view.wait_complete(timeout_s) for view in self._all))
        return all(found)

    def fresh(self) -> bool:
        """Tell whether keys and deployments may be decided on: complete once, and not too old."""
        if self._whole and not self._age_limit_s:
            return True  # asked for every request: once complete, they stay so
        self._whole = all(self._usable(view) for view in (self._keys, self._deployments))
        return self._whole

    def _usable(self, view: View[Any]) -> bool:
        return view.complete and (not self._age_limit_s or view.age_s <= self._age_limit_s)

    def positions(self) -> dict[str, Position]:
        """Return how far each view has read, by bucket."""
        return {view.bucket.name: view.position for view in self._all}

    def ages(self) -> dict[str, float]:
        """Return, by bucket, the seconds since NATS last said that nothing is missing."""
        return {view.bucket.name: view.age_s for view in self._all}

    def key(self, digest: str) -> KeyEntry | None:
        return self._keys.get(digest)

    async def look_up_key(self, digest: str) -> KeyEntry | None:
        """Ask the bucket; UnavailableError when it does not answer."""
        return await self._keys.look_up(digest)

    def deployment(self, key: str) -> DeploymentEntry | None:
        return self._deployments.get(key)

    async def look_up_deployment(self, key: str) -> DeploymentEntry | None:
        """Ask the bucket; UnavailableError when it does not answer."""
        return await self._deployments.look_up(key)

    def deployments(self) -> ItemsView[str, DeploymentEntry]:
        return self._deployments.items()

    def records(self, deployment: str) -> Mapping[str, Record]:
        """Return the records of one deployment by instance."""
        return self._records.get(deployment, _NONE)

    def prune(self) -> list[str]:
        """Let go of records that a new stream does not name and no deployment names either.

        They stayed because a stream that was made anew says nothing about what was before it.
        """
        if not self._deployments.confirmed or not self._instances.kept:
            return []
        return self._instances.prune(self._named)

    def _named(self, key: str) -> bool:
        deployment, _, instance = key.rpartition(".")
        entry = self._deployments.get(deployment)
        return entry is not None and instance in entry.verdicts

    def _index(self, key: str, record: Record | None) -> None:
        if names.split_instance_key(key) is None:
            return
        deployment, _, instance = key.rpartition(".")
        if record is not None:
            self._records.setdefault(deployment, {})[instance] = record
            self._changed(deployment)
            return
        of_deployment = self._records.get(deployment, {})
        of_deployment.pop(instance, None)
        if not of_deployment:
            self._records.pop(deployment, None)
        self._record_gone(key)
        self._changed(deployment)


def _disk(folder: Path | None, bucket: str) -> Path | None:
    return folder / f"{bucket}.json" if folder is not None else None
