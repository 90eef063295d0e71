"""Schedulers that live and die over one database, one cluster and one bucket, in made-up time.

The faults are values: what the next calls to the outside meet. The bucket and the workers are in
memory and obey at once; rows are in a real SQLite.
"""

import uuid
from itertools import count

from caravan.contracts import names, topology
from caravan.contracts.errors import UnavailableError
from caravan.contracts.instances import Lease, Record
from caravan.kit.endpoints import Call
from services.scheduler.adapters.store import Store
from services.scheduler.core import deployments
from services.scheduler.core.cluster import RUNNING
from services.scheduler.core.describe import describe
from services.scheduler.core.errors import ClusterUnavailableError
from services.scheduler.core.routers import Written
from services.scheduler.core.truth import Clock
from services.scheduler.core.world import World
from services.scheduler.loops.guard import Guard
from services.scheduler.loops.publish import Publisher
from services.scheduler.loops.reconcile import Reconciler
from tests.integration.scheduler.machine import MemoryCluster

TENANT = "u-0123456789ab"
STARTED_AT = 1_000_000.0


class KilledError(BaseException):
    """The scheduler's process is gone, here and now."""


class Bucket:
    """The buckets ``deployments`` and ``instances`` in memory."""

    def __init__(self):
        self.entries = {}
        self.seen = 0
        self.sequence = 0
        self.records = {}

    async def epoch(self):
        return self.seen

    async def write_all(self, entries, epoch):
        self.sequence += 1
        self.entries = dict(entries)
        self.seen = epoch

    def says(self, key, entry):
        return Written("one", self.sequence) if self.entries.get(key) == entry else None

    async def write(self, key, entry):
        self.sequence += 1
        if entry is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry
        return Written("one", self.sequence)

    async def complete(self, epoch):
        self.seen = epoch

    async def delete(self, key):
        self.records.pop(key, None)

    def prune(self, keep):
        pass

    def get(self, key):
        return self.records.get(key)

    def verdict(self, ref):
        """Return the word that the bucket says of an instance; None when it does not name it."""
        entry = self.entries.get(names.deployment_key(ref.tenant, ref.name))
        found = entry.verdicts.get(ref.instance) if entry else None
        return found.word if found else None


class WatchedCluster(MemoryCluster):
    """Refuses to believe what a right scheduler never asks for."""

    def __init__(self, bucket):
        super().__init__()
        self.bucket = bucket

    async def start(self, spec):
        ref = names.instance_key(spec.tenant, spec.name, spec.instance)
        assert self.memory is not None, f"{ref} is started before the epoch is left"
        entry = self.bucket.entries[names.deployment_key(spec.tenant, spec.name)]
        assert entry.verdicts[spec.instance].word == "serve", f"{ref} has no verdict yet"
        await super().start(spec)

    async def stop(self, ref):
        assert self.bucket.verdict(ref) == "drain", f"{ref} is stopped and was never drained"
        await super().stop(ref)


class Faulty:
    """``target``, where each call meets the next fault: none, before, after, killed …"""

    def __init__(self, target, faults, calls, error):
        self._target, self._faults, self._calls, self._error = target, faults, calls, error

    def __getattr__(self, name):
        method = getattr(self._target, name)
        if name not in self._calls:
            return method

        async def call(*args, **kwargs):
            fault = next(self._faults, "none")
            self._meet(fault, "before")
            result = await method(*args, **kwargs)
            self._meet(fault, "after")
            return result

        return call

    def _meet(self, fault, when):
        if fault == f"killed {when}":
            raise KilledError
        if fault == when:
            raise self._error(f"it does not answer ({when})")


class Lives:
    """One platform over many lives of its scheduler; ``pass_s`` lets time pass in rounds of 1 s."""

    def __init__(self, db, faults=()):
        self.bucket = Bucket()
        self.cluster = WatchedCluster(self.bucket)
        self.now = STARTED_AT
        self.connected = True
        self.away_s = 0.0
        self.ids = (f"i-{n:06}" for n in count())
        self.faults = iter(faults)
        self.deaths = 0
        self.installation = "here"
        self.use(db)

    def use(self, db):
        """Go on with this database, as a scheduler that has just started."""
        self.store = Store(db, lambda: None, lambda: self.now)
        self.begin()

    def begin(self):
        """A scheduler starts."""
        ledger = Faulty(self.store, self.faults, {"decide", "purge", "books"}, UnavailableError)
        bucket = Faulty(
            self.bucket, self.faults, {"write_all", "write", "complete", "delete"}, UnavailableError
        )
        cluster = Faulty(
            self.cluster,
            self.faults,
            {"observed", "start", "stop", "forget", "remember"},
            ClusterUnavailableError,
        )
        self.world = World(self.bucket, self.now)
        self.publisher = Publisher(ledger, bucket, self.world, lambda: self.now)
        self.guard = Guard(self.installation, cluster, bucket, self.world)
        self.reconciler = Reconciler(
            ledger=ledger,
            cluster=cluster,
            publisher=self.publisher,
            remains=bucket,
            guard=self.guard,
            world=self.world,
            ids=self.ids,
            clock=lambda: Clock(wall=self.now, steady=self.now),
            connected=lambda: self.connected,
        )

    async def pass_s(self, seconds, until=None):
        """Let so many seconds pass, or until ``until()``."""
        for _ in range(int(seconds)):
            if until is not None and until():
                return
            self._workers_speak()
            try:
                await self.reconciler.round()
            except KilledError:
                self.deaths += 1
                self.begin()
            self.now += 1

    def _workers_speak(self):
        for ref, seen in self.cluster.instances.items():
            key = names.instance_key(ref.tenant, ref.name, ref.instance)
            if seen.state == RUNNING:
                self.bucket.records[key] = Record(
                    incarnation="x", term=1, generation=self.generation(ref), state="ready"
                )
                self.world.leases.renewed(key, Lease(incarnation="x"), int(self.now), self.now)

    def generation(self, ref):
        return self.cluster.specs[ref].generation

    def hold_call(self):
        """Return a call of ``caravan.scheduler.hold``, of a new intent."""
        return self._call(topology.HOLD_SCHEDULER)

    def _call(self, endpoint):
        return Call(
            endpoint=endpoint,
            subject=endpoint.of(TENANT),
            tenant=TENANT,
            actor="",
            request_id=uuid.uuid4().hex,
            digest="",
        )

    async def ask(self, verb, name="test", **fields):
        """Do what a message would; return the deployment as it is then asked."""
        endpoint = getattr(topology, f"{verb.upper()}_DEPLOYMENT")
        request = endpoint.request(request_id="x", name=name, **fields)

        def decide(book, now):
            found = book.asked if book else None
            if verb == "create":
                return deployments.create(request, TENANT, found, now)
            if verb == "scale":
                return deployments.scale(request, found, book.rows, now)
            return getattr(deployments, verb)(request, found, now)

        def answer(book, _):
            seen = self.world.sights(book.rows, self.now)
            return describe(book.asked, self.world.status(book.asked, seen))

        return await self.store.change(self._call(endpoint), name, decide, answer)

    async def create(self, name="test", **fields):
        return await self.ask("create", name, source="file:///m", drain_s=20.0, **fields)

    async def rows(self, name="test"):
        """Return the instances of a deployment: what is wanted of each, by name."""
        book, _ = await self.store.book(TENANT, name)
        return {row.instance: row.wanted for row in book.rows} if book else {}

    async def told(self, name="test"):
        """Return what a ``get`` would say."""
        book, _ = await self.store.book(TENANT, name)
        seen = self.world.sights(book.rows, self.now)
        return describe(book.asked, self.world.status(book.asked, seen))
