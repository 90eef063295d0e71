"""The clusters that the suite of the port runs on."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from caravan.contracts.instances import Spec
from caravan.kit.process import alive, identity
from services.scheduler.adapters.nomad import NomadCluster
from services.scheduler.adapters.nomad_jobs import Terms
from services.scheduler.adapters.process import ProcessCluster
from services.scheduler.adapters.process_life import Pace
from services.scheduler.core.cluster import Ref

STANDIN = Path(__file__).with_name("cluster_standin.py")
WORKER_JOB = Path(__file__).parents[2] / "jobs" / "worker.nomad.hcl"
TENANT = "u-8105f7322477"
PATIENCE_S = 60.0


def command():
    return [sys.executable, "-I", "-S", str(STANDIN)]


class Site:
    """A machine room with one kind of cluster: opens it for one scheduler after another.

    Lives are counted by the files that stand-ins leave in ``pids``, not by what the cluster says.
    """

    def __init__(self, folder):
        self.folder = folder
        self.pids = folder / "pids"
        self.pids.mkdir(parents=True)
        self.refs = {}

    def opened(self):
        """Return a context that gives a cluster as a new scheduler sees it."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def keeping(self, cluster):
        """Have ``cluster`` run inside; what runs on it lives on after."""
        running = asyncio.create_task(cluster.run())
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    def spec(self, instance, *orders, name="test", drain_s=30.0, **more):
        args = ["--pids", str(self.pids), *orders]
        fields = {"generation": 1, "task": "text-generation", "source": "file:///none", **more}
        self.refs[instance] = Ref(TENANT, name, instance)
        return Spec(
            tenant=TENANT, name=name, instance=instance, engine_args=args, drain_s=drain_s, **fields
        )

    def lives(self, instance):
        """Return the pids of all processes that ever ran for it, the oldest first."""
        files = sorted(self.pids.glob(f"{instance}.*"), key=lambda path: path.stat().st_mtime_ns)
        return [int(path.suffix[1:]) for path in files]

    def running(self, instance):
        return [pid for pid in self.lives(instance) if runs(pid)]


def runs(pid):
    try:
        return alive(identity(pid))
    except ProcessLookupError:
        return False


class ProcessSite(Site):
    kind = "process"
    pace = Pace(first_s=0.3, longest_s=2.0, margin_s=1.0)

    @contextlib.asynccontextmanager
    async def opened(self):
        cluster = ProcessCluster(self.folder / "instances", command(), {}, pace=self.pace)
        async with self.keeping(cluster):
            yield cluster

    another = """
import sys, msgspec
from pathlib import Path
from caravan.contracts.instances import Spec
from services.scheduler.adapters.nomad import NomadCluster
from services.scheduler.adapters.nomad_jobs import Terms
from services.scheduler.adapters.process import ProcessCluster

async def main():
    folder, command, spec = msgspec.json.decode(sys.argv[1], type=tuple[str, list[str], Spec])
    cluster = ProcessCluster(Path(folder), command, {})
    await cluster.start(spec)
    await cluster.run()
"""

    def orders(self, spec):
        return msgspec.json.encode((str(self.folder / "instances"), command(), spec)).decode()

    def close(self):
        for path in self.pids.iterdir():
            with contextlib.suppress(ProcessLookupError):
                if runs(pid := int(path.suffix[1:])):
                    os.kill(pid, signal.SIGKILL)


class NomadSite(Site):
    """A namespace-wide dev agent, shared; what a test leaves is purged."""

    kind = "nomad"

    def __init__(self, folder, agent):
        super().__init__(folder)
        self.agent = agent
        self.terms = Terms(
            host_network="v4", cpu_mhz=20, memory_mib=48, margin_s=1.0, first_delay_s=5.0
        )

    @contextlib.asynccontextmanager
    async def opened(self):
        cluster = nomad_cluster(self.agent.url, self.terms)
        async with self.keeping(cluster):
            yield cluster

    another = """
import sys, msgspec
from caravan.contracts.instances import Spec
from services.scheduler.adapters.nomad_jobs import Terms
from tests.conformance.cluster_sites import nomad_cluster

async def main():
    address, terms, spec = msgspec.json.decode(sys.argv[1], type=tuple[str, Terms, Spec])
    cluster = nomad_cluster(address, terms)
    await cluster.start(spec)
    await cluster.run()
"""

    def orders(self, spec):
        return msgspec.json.encode((self.agent.url, self.terms, spec)).decode()

    def close(self):
        self.agent.clear()


def nomad_cluster(address, terms):
    return NomadCluster(
        address,
        installation="abc",
        job_text=WORKER_JOB.read_text(),
        command=command(),
        environment={"WORKER_NATS_URL": "nats://127.0.0.1:4222"},
        terms=terms,
    )


async def until(cluster, holds, what="it"):
    """Return what is observed, by instance, as soon as ``holds`` says yes to it."""
    deadline = time.monotonic() + PATIENCE_S
    changes = cluster.changes()
    change = asyncio.ensure_future(anext(changes))
    try:
        while True:
            seen = {each.ref.instance: each for each in await cluster.observed()}
            if holds(seen):
                return seen
            assert time.monotonic() < deadline, f"{what} did not come: {seen}"
            # what a test looks at need not be a change of the cluster's
            await asyncio.wait((change,), timeout=0.5)
            if change.done():
                change = asyncio.ensure_future(anext(changes))
    finally:
        change.cancel()
        await asyncio.gather(change, return_exceptions=True)
        await changes.aclose()


async def eventually(holds):
    """Return what ``holds`` gives, maybe after waiting, as soon as that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        given = holds()
        if asyncio.iscoroutine(given):
            given = await given
        if given:
            return given
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.05)


def in_state(instance, state):
    return lambda seen: instance in seen and seen[instance].state == state


def ref(instance, name="test"):
    return Ref(TENANT, name, instance)
