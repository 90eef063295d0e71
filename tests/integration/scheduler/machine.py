"""A cluster in memory which behaves as the port says, and workers that announce what it runs."""

import asyncio
import contextlib
import time

from msgspec.structs import replace

from caravan.contracts import names, topology
from caravan.contracts.instances import Lease, Record
from caravan.contracts.reports import InstanceUse, Position, Report
from caravan.kit import lease, records
from caravan.kit.buckets import open_bucket
from services.scheduler.core.cluster import ENDED, RUNNING, Lines, Observed, Ref
from services.scheduler.core.errors import (
    ClusterRefusedError,
    ClusterUnavailableError,
    InstanceNotFoundError,
)


class MemoryCluster:
    """Starts and ends at once; remembers all that it was told.

    ``refuse[name]``: the sentence with which starts of that deployment are refused. ``down``: the
    sentence with which it does not answer. ``born`` is told of each start.
    """

    def __init__(self):
        self.instances = {}
        self.specs = {}
        self.memory = None
        self.refuse = {}
        self.down = ""
        self.started = []
        self.stopped = []
        self.printed = {}
        self.born = lambda _spec: None
        self.died = lambda _ref: None
        self._listeners = set()

    def changed(self):
        for listener in self._listeners:
            listener.set()

    def set(self, instance, state, **more):
        """Have the cluster see something of its own accord."""
        ref = next(ref for ref in self.instances if ref.instance == instance)
        self.instances[ref] = replace(self.instances[ref], state=state, **more)
        self.changed()

    def running(self):
        return sorted(ref.instance for ref, o in self.instances.items() if o.state == RUNNING)

    def _answer(self):
        if self.down:
            raise ClusterUnavailableError(self.down)

    async def observed(self):
        self._answer()
        return list(self.instances.values())

    async def start(self, spec):
        self._answer()
        if spec.name in self.refuse:
            raise ClusterRefusedError(self.refuse[spec.name])
        ref = Ref(spec.tenant, spec.name, spec.instance)
        if ref not in self.instances:
            self.instances[ref] = Observed(ref=ref, state=RUNNING, since=time.time())
            self.specs[ref] = spec
            self.started.append(spec.instance)
            self.born(spec)
            self.changed()

    async def stop(self, ref):
        self._answer()
        if ref in self.instances and self.instances[ref].state != ENDED:
            self.instances[ref] = Observed(ref=ref, state=ENDED, since=time.time())
            self.stopped.append(ref.instance)
            self.died(ref)
            self.changed()

    async def forget(self, ref):
        self._answer()
        found = self.instances.get(ref)
        if found is not None and found.state != ENDED:
            raise ClusterRefusedError(f"{ref.instance} has not ended")
        self.instances.pop(ref, None)

    async def logs(self, ref, cursor):
        self._answer()
        if ref not in self.instances:
            raise InstanceNotFoundError(f"no instance {ref.instance} is known here")
        lines = self.printed.get(ref.instance, [])
        return Lines(lines=lines[int(cursor or 0) :], cursor=str(len(lines)))

    async def mark(self):
        self._answer()
        return self.memory

    async def remember(self, mark):
        self._answer()
        self.memory = mark

    async def changes(self):
        heard = asyncio.Event()
        self._listeners.add(heard)
        try:
            while True:
                await heard.wait()
                heard.clear()
                yield
        finally:
            self._listeners.discard(heard)


class Workers:
    """What announces the instances of a cluster: a record each, and leases that are renewed.

    ``ready`` False: they stay loading. ``busy[instance]``: what their leases say runs there.
    """

    def __init__(self, bus, cluster):
        self._bus = bus
        self._tasks = {}
        self.ready = True
        self.busy = {}
        self.silent = set()
        cluster.born = self.born
        cluster.died = self.died

    def born(self, spec):
        self._tasks[spec.instance] = asyncio.create_task(self._live(spec))

    def died(self, ref):
        self._tasks.pop(ref.instance).cancel()

    async def close(self):
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _live(self, spec):
        key = names.instance_key(spec.tenant, spec.name, spec.instance)
        record = Record(
            incarnation=spec.instance,
            term=1,
            generation=spec.generation,
            state="ready" if self.ready else "loading",
            since=time.time(),
        )
        # Asked, because a cancellation that meets an answer of NATS is lost before Python 3.12.
        while not asyncio.current_task().cancelling():
            with contextlib.suppress(Exception):  # NATS is away: the next renewal may find it
                if spec.instance not in self.silent:
                    kv = await open_bucket(self._bus, topology.INSTANCES)
                    if await records.read(kv, key, Record) is None:
                        await records.put(kv, key, record)
                    await open_bucket(self._bus, topology.LEASES)
                    load = Lease(incarnation="x", running=self.busy.get(spec.instance, 0))
                    await lease.renew(self._bus, topology.LEASES, key, load)
            await asyncio.sleep(0.5)


class Router:
    """A router that reports as a real one does, ten times as often; ``busy`` by instance key.

    ``failing`` are whole uses by instance key, where more than a count is to be told.

    It obeys what it is told to: ``obey`` takes the stream's newest position over.
    """

    def __init__(self, bus):
        self._bus = bus
        self.busy, self.failing = {}, {}
        self.position = Position(created="", sequence=0)

    async def obey(self):
        info = await self._bus.js.stream_info("KV_deployments")
        self.position = Position(created=info.created.isoformat(), sequence=info.state.last_seq)

    async def run(self):
        number = 0
        while not asyncio.current_task().cancelling():
            number += 1
            report = Report(
                run="router",
                number=number,
                at=time.time(),
                positions={"deployments": self.position},
                instances={
                    **self.failing,
                    **{key: InstanceUse(in_flight=n) for key, n in self.busy.items()},
                },
            )
            await self._bus.publish(f"{topology.REPORT}.router", report)
            await asyncio.sleep(0.1)
